"""Connections: how each database is opened, and what each transaction begins with.

SQLite runs in WAL mode: readers never wait for the writer. ``synchronous=NORMAL`` writes to the operating system at
each commit and to the disk at checkpoints, so a killed process loses nothing, and a crashed machine at most the last
commits; ``FULL`` waits for the disk at each commit. A transaction that writes takes its lock at once (BEGIN IMMEDIATE):
one that began to read could not get it later without starting again.
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError

from tidegate.errors import ConfigError, MissingExtra, StoreAway, UserError
from tidegate.storage.faults import MIGRATE
from tidegate.storage.kinds import kind_of

BUSY_SECONDS = 5.0
_POOL: dict[str, Any] = {"pool_size": 5, "max_overflow": 10, "pool_timeout": BUSY_SECONDS}

_BEGIN = {
    "read": ("PRAGMA query_only=ON", "BEGIN"),
    "write": ("PRAGMA query_only=OFF", "PRAGMA synchronous=FULL", "BEGIN IMMEDIATE"),
    "hasty": ("PRAGMA query_only=OFF", "PRAGMA synchronous=NORMAL", "BEGIN IMMEDIATE"),
}


def make(url: str, create: bool = False) -> Engine:
    """With ``create`` a SQLite file that is not there is made, readable by its owner alone, with its folder."""
    kind = kind_of(url)
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the latter for a port that is no number
        raise ConfigError("store.url: expected sqlite:///file or postgresql://user@host/database") from None
    if kind == "sqlite":
        # Quoted by whoever made the URL; not every version of SQLAlchemy takes the quotes off.
        name = url.partition(":///")[2].partition("?")[0]
        return _sqlite(parsed.set(database=unquote(name)), create)
    return _postgres(parsed.set(drivername="postgresql+psycopg"))


def reading(engine: Engine) -> Engine:
    if engine.dialect.name == "postgresql":
        return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return engine.execution_options(tidegate="read")


def writing(engine: Engine, durable: bool) -> Engine:
    return engine.execution_options(tidegate="write" if durable else "hasty")


def _sqlite(url: URL, create: bool) -> Engine:
    if not url.database or url.database == ":memory:":
        raise ConfigError("store.url: a store is a file, such as sqlite:///run/tidegate.db")
    path = Path(url.database).absolute()
    if create:
        _make_file(path)
    engine = create_engine(
        url.set(database=str(path)),
        connect_args={} if "timeout" in url.query else {"timeout": BUSY_SECONDS},
        **_POOL,
    )

    seen: list[bool] = []

    def refuse_to_make(*_: Any) -> None:
        if not path.exists():
            if seen:  # who had it open does not want a new one, but the old one back
                raise StoreAway("the file of the store is gone")
            raise UserError(f"there is no store at {path}; {MIGRATE}")

    def same_file(_connection: Any, record: Any, _proxy: Any) -> None:
        """A file that was deleted or replaced lives on for who has it open: what is written there would be lost."""
        try:
            now = _identity(path)
        except OSError as error:
            raise StoreAway("the file of the store is gone") from error
        if record.info.setdefault("file", now) != now:
            raise DisconnectionError("the file of the store was replaced")

    def prepare(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # the driver begins no transactions of its own
        seen[:] = [True]
        _keep_a_log(connection)
        connection.execute("PRAGMA journal_size_limit=67108864")
        connection.execute("PRAGMA cache_size=-16000")
        connection.execute("PRAGMA temp_store=MEMORY")

    def begin(connection: Connection) -> None:
        for statement in _BEGIN[connection.get_execution_options().get("tidegate", "write")]:
            connection.exec_driver_sql(statement)

    event.listen(engine, "do_connect", refuse_to_make)
    event.listen(engine, "connect", prepare)
    event.listen(engine, "checkout", same_file)
    event.listen(engine, "begin", begin)
    return engine


def _keep_a_log(connection: sqlite3.Connection) -> None:
    """SQLite does not wait for others here, as it does elsewhere: of several that open a new file at once, each in its own
    process perhaps, one makes the change and the others are told that it is locked."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= end:
                raise
            time.sleep(0.01)


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _make_file(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise StoreAway(f"the file of the store cannot be made: {error.strerror}") from error


def _postgres(url: URL) -> Engine:
    try:
        from tidegate.storage import postgres
    except ImportError:
        raise MissingExtra("postgres", "a store in PostgreSQL") from None
    return postgres.make(url, **_POOL)
