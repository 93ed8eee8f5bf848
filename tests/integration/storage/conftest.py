"""The store under test: a database of its own on a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from tests.databases import create_database, migrated, server
from tests.unit.storage.makers import START
from tidegate.clock import ManualClock
from tidegate.storage import engines
from tidegate.storage.store import Store, open_store
from tidegate.storage.tables import metadata

__all__ = ["migrated", "server"]


@pytest.fixture(scope="session")
def database(server: str, migrated: str) -> str:
    """URL of the database that the tests of one process use one after the other."""
    return create_database(server, migrated)


@pytest.fixture
def url(database: str) -> str:
    """Of a store with empty tables."""
    engine = engines.make(database)
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE " + ", ".join(metadata.tables) + " RESTART IDENTITY"))
    engine.dispose()
    return database


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = open_store(url, ManualClock(START))
    yield opened
    opened.close()
