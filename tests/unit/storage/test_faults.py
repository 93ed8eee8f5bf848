"""What each complaint of a database becomes; the real complaints are in tests/integration/storage."""

from __future__ import annotations

import sqlite3

import pytest
from sqlalchemy import exc

from tidegate.errors import InvalidInput, LostRace, StoreAway, TidegateError, UserError
from tidegate.storage.faults import meaning, translated


class PostgresError(Exception):
    def __init__(self, sqlstate: str | None) -> None:
        super().__init__("the server's own words, which may name a host")
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("state", "kind", "text"),
    [
        ("08006", StoreAway, "cannot be reached"),
        ("53100", StoreAway, "run out of disk"),
        ("53300", StoreAway, "connections"),
        ("55P03", StoreAway, "busy"),
        ("57P01", StoreAway, "stopping"),
        ("57014", StoreAway, "too long"),
        ("58030", StoreAway, "disk"),
        ("25006", StoreAway, "read-only"),
        ("40001", LostRace, "look again"),
        ("40P01", LostRace, "look again"),
        ("23505", LostRace, "look again"),
        ("22021", InvalidInput, "this value"),
        ("42P01", UserError, "tidegate store migrate"),
        ("42703", UserError, "tidegate store migrate"),
    ],
)
def test_states_of_postgresql(state: str, kind: type[TidegateError], text: str) -> None:
    error = meaning(exc.DBAPIError("SELECT", None, PostgresError(state)))
    assert type(error) is kind
    assert text in str(error)
    assert "host" not in str(error)


@pytest.mark.parametrize(
    ("words", "kind", "text"),
    [
        ("database or disk is full", StoreAway, "full"),
        ("attempt to write a readonly database", StoreAway, "read-only"),
        ("database is locked", StoreAway, "busy"),
        ("unable to open database file", StoreAway, "cannot be opened"),
        ("disk I/O error", StoreAway, "disk of the store fails"),
        ("database disk image is malformed", StoreAway, "backup"),
        ("no such table: events", UserError, "tidegate store migrate"),
        ("no such column: x", UserError, "tidegate store migrate"),
    ],
)
def test_words_of_sqlite(words: str, kind: type[TidegateError], text: str) -> None:
    error = meaning(exc.OperationalError("SELECT", None, sqlite3.OperationalError(words)))
    assert type(error) is kind
    assert text in str(error)


def test_a_server_without_a_state_is_away() -> None:
    assert isinstance(meaning(exc.OperationalError("SELECT", None, PostgresError(None))), StoreAway)


def test_the_drivers_own_exceptions() -> None:
    """COPY goes past SQLAlchemy."""
    psycopg = pytest.importorskip("psycopg")
    assert isinstance(meaning(psycopg.OperationalError("the server is silent")), StoreAway)
    assert isinstance(meaning(psycopg.errors.DiskFull("no space")), StoreAway)
    assert isinstance(meaning(psycopg.DataError("integer out of range")), InvalidInput)
    assert meaning(ValueError("ours")) is None


def test_an_exhausted_pool_is_away() -> None:
    error = meaning(exc.TimeoutError("QueuePool limit"))
    assert isinstance(error, StoreAway)
    assert "QueuePool" not in str(error)


@pytest.mark.parametrize(
    "error",
    [
        exc.ArgumentError("wrong call"),
        exc.ProgrammingError("SELEC", None, PostgresError("42601")),
        exc.OperationalError("SELEC", None, sqlite3.OperationalError('near "SELEC": syntax error')),
    ],
)
def test_our_own_mistakes_stay_what_they_are(error: exc.SQLAlchemyError) -> None:
    with pytest.raises(type(error)), translated():
        raise error


def test_the_cause_is_kept_for_the_log() -> None:
    cause = exc.OperationalError("SELECT", None, sqlite3.OperationalError("database or disk is full"))
    with pytest.raises(StoreAway) as caught, translated():
        raise cause
    assert caught.value.__cause__ is cause
    assert caught.value.retry_after > 0
