from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.blocking import no_blocking


@pytest.fixture
def unblocked() -> Iterator[None]:
    """Fails the test when the data plane blocks the event loop: sleeps, file or socket calls, waits for a lock."""
    with no_blocking():
        yield
