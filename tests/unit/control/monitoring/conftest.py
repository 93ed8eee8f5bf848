"""The store under test: SQLite here, PostgreSQL where ``tests/integration/monitoring`` runs the same tests again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stores import sqlite_store
from tests.unit.control.monitoring.world import START, World
from tidegate.clock import ManualClock
from tidegate.storage.store import Store


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START + 60)


@pytest.fixture
def store(tmp_path: Path, clock: ManualClock) -> Iterator[Store]:
    opened = sqlite_store(tmp_path, clock)
    yield opened
    opened.close()


@pytest.fixture
def world(store: Store, clock: ManualClock, tmp_path: Path) -> World:
    """A version with a training profile is served."""
    made = World(store, clock, tmp_path)
    made.publish(made.register())
    return made
