"""How a process hears of a published snapshot: at once on PostgreSQL, within a twentieth of a second on SQLite."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import text

from tidegate.errors import StoreAway, UserError
from tidegate.storage.faults import MIGRATE
from tidegate.storage.snapshots import CHANNEL

if TYPE_CHECKING:
    import psycopg

    from tidegate.storage.store import Unit

LOOK_SECONDS = 0.05
POLL_SECONDS = 1.0
REPLACED_SECONDS = 5.0
"""How often SQLite is read although nobody seems to have written."""
SLICE_SECONDS = 0.25
"""After so long a waiting listener notices that it was closed."""
_NEWEST = "SELECT max(number) FROM snapshots"


class Listener(Protocol):
    def wait(self, timeout: float) -> bool:
        """True as soon as a snapshot may have been published since the last True (the first time: ever), False after
        ``timeout`` seconds, also while the store is away."""

    def close(self) -> None:
        """Ends a ``wait`` of another thread too."""


class SqliteListener:
    """Looks at the newest number whenever the file has changed, which SQLite tells in microseconds to a connection that
    stays; and every few seconds, in case another file was put in its place."""

    def __init__(
        self,
        read: Callable[[], AbstractContextManager[Unit]],
        path: Path,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._path = path
        self._monotonic = monotonic
        self._closed = threading.Event()
        self._waiting = threading.Lock()
        self._watching: sqlite3.Connection | None = None
        self._seen: int | None = None
        self._version: int | None = None
        self._look_at = 0.0

    def wait(self, timeout: float) -> bool:
        deadline = self._monotonic() + timeout
        with self._waiting:
            while not self._closed.is_set():
                newest = self._newest() if self._due() else self._seen
                if newest != self._seen:
                    self._seen = newest
                    return True
                left = deadline - self._monotonic()
                if left <= 0 or self._closed.wait(min(left, LOOK_SECONDS)):
                    return False
        return False

    def close(self) -> None:
        self._closed.set()
        with self._waiting:
            self._unwatch()

    def _due(self) -> bool:
        """Whether somebody has written since the last time that this was asked, or it is time anyway."""
        now, before = self._monotonic(), self._version
        if now >= self._look_at:
            self._look_at = now + REPLACED_SECONDS
            self._unwatch()  # it may have another file open than the one that is there now
        try:
            if self._watching is None:
                before = None  # versions of two connections cannot be compared
                self._watching = sqlite3.connect(
                    f"{self._path.as_uri()}?mode=rw", uri=True, timeout=0.0, check_same_thread=False
                )
            (self._version,) = self._watching.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:  # the look finds out what it is
            self._unwatch()
            return True
        return before is None or self._version != before

    def _unwatch(self) -> None:
        if self._watching is not None:
            self._watching.close()
            self._watching = None

    def _newest(self) -> int | None:
        try:
            with self._read() as unit:
                found = unit.connection.execute(text(_NEWEST)).scalar()
        except StoreAway:
            self._unwatch()  # what was written is not seen yet
            return self._seen
        return found if found is None else int(found)


class PostgresListener:
    """LISTEN on a connection of its own. It also looks at the snapshots every second, for a notice that got lost on its
    way (a proxy, a switch to another server), and connects again after the server was away."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self._connect = connect
        self._connection: psycopg.Connection[Any] | None = None
        self._closed = threading.Event()
        self._waiting = threading.Lock()
        self._seen: int | None = None

    def wait(self, timeout: float) -> bool:
        import psycopg

        deadline = time.monotonic() + timeout
        with self._waiting:
            while not self._closed.is_set():
                try:
                    newest = self._newest()
                    if newest != self._seen:
                        self._seen = newest
                        return True
                    left = deadline - time.monotonic()
                    if left <= 0:
                        return False
                    self._notified(min(left, POLL_SECONDS))
                except psycopg.errors.UndefinedTable:
                    raise UserError(f"the store has no tables yet; {MIGRATE}") from None
                except psycopg.Error:
                    self._drop()
                    left = deadline - time.monotonic()
                    if left <= 0:
                        return False
                    self._closed.wait(min(left, POLL_SECONDS))
        return False

    def close(self) -> None:
        self._closed.set()
        with self._waiting:
            self._drop()

    def _newest(self) -> int | None:
        if self._connection is None:
            self._connection = self._connect()
            self._connection.execute(f"LISTEN {CHANNEL}")
        row = self._connection.execute(_NEWEST).fetchone()
        return None if row is None or row[0] is None else int(row[0])

    def _notified(self, seconds: float) -> None:
        """Returns when a notice came, the listener was closed, or ``seconds`` have passed."""
        assert self._connection is not None
        deadline = time.monotonic() + seconds
        while not self._closed.is_set() and (left := deadline - time.monotonic()) > 0:
            for _ in self._connection.notifies(timeout=min(left, SLICE_SECONDS), stop_after=1):
                return

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
