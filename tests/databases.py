"""Databases on a real PostgreSQL server: one server for all tests of a run, a database for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.engine import make_url

from tests.services import shared, shared_folder
from tidegate.storage.store import open_store


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the server that all test processes share."""
    with shared("postgresql", shared_folder(tmp_path_factory)) as url:
        yield url


@pytest.fixture(scope="session")
def migrated(server: str) -> str:
    """Name of a database that is copied for each test."""
    url = create_database(server)
    open_store(url, migrate=True).close()
    return str(make_url(url).database)


def create_database(server: str, template: str = "template1") -> str:
    """URL of a new database, empty or a copy."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        query = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(query.format(sql.Identifier(name), sql.Identifier(template)))
    return make_url(server).set(database=name).render_as_string(hide_password=False)
