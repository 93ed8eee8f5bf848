"""Where observations go. The data plane makes them, a sink keeps them; an answer never waits for one."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Sequence
from typing import Protocol

import msgspec

from tidegate.observations import Exposure, Feedback, PredictionEvent, VariantWindow


class Batch(msgspec.Struct, frozen=True):
    """What is written in one step."""

    windows: Sequence[VariantWindow] = ()
    events: Sequence[PredictionEvent] = ()
    exposures: Sequence[Exposure] = ()

    def __len__(self) -> int:
        return len(self.windows) + len(self.events) + len(self.exposures)


class Sink(Protocol):
    """Blocks; called from threads of its own. Every call raises Refused while the store is away."""

    def write(self, batch: Batch) -> None:
        """All of it or nothing. Writing windows or exposures twice changes nothing."""

    def feedback(self, rows: Sequence[Feedback]) -> int:
        """Durable when it returns: how many of the rows were new."""

    def close(self) -> None: ...


def process_name() -> str:
    """Of this process's one life; never used again."""
    return f"{socket.gethostname()}-{os.getpid()}-{int(time.time())}-{secrets.token_hex(4)}"


def storable(text: str) -> str:
    """The text without halves of surrogate pairs, which JSON may carry and no file can; almost always itself."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
