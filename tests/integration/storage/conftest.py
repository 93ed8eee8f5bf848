"""The store under test: a database of its own on a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.databases import create_database, migrated, server
from tests.unit.storage.makers import START
from tidegate.clock import ManualClock
from tidegate.storage.store import Store, open_store

__all__ = ["migrated", "server"]


@pytest.fixture
def url(server: str, migrated: str) -> str:
    return create_database(server, migrated)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = open_store(url, ManualClock(START))
    yield opened
    opened.close()
