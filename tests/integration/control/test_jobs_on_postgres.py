"""The tests of the queue once more, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.control.jobs.test_queue import *  # noqa: F403
from tests.unit.control.jobs.test_queue import World
from tidegate.clock import ManualClock
from tidegate.storage.store import open_store

pytestmark = pytest.mark.slow


@pytest.fixture  # type: ignore[no-redef]
def world(url: str) -> Iterator[World]:
    clock = ManualClock()
    store = open_store(url, clock)
    yield World(store, clock)
    store.close()
