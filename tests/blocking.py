"""Forbids code of ours to block the event loop while a test runs."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from blockbuster import blockbuster_ctx


@contextmanager
def no_blocking() -> Iterator[None]:
    """Fails the test when the data plane sleeps, calls a file or a socket, or waits for a lock on the event loop.

    The garbage of earlier tests is left alone meanwhile: gRPC joins a thread when its last object is collected.
    """
    gc.disable()
    try:
        with blockbuster_ctx("tidegate"):
            yield
    finally:
        gc.enable()
