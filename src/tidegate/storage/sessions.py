"""Sign-ins to the console."""

from __future__ import annotations

from sqlalchemy import delete, insert, select

from tidegate.storage.base import Repository, fields_of
from tidegate.storage.records import SessionRow
from tidegate.storage.tables import sessions


class Sessions(Repository):
    def add(self, row: SessionRow) -> None:
        self._connection.execute(insert(sessions).values(**fields_of(row)))

    def get(self, digest: str) -> SessionRow | None:
        """Also one that has expired: the caller compares with its clock."""
        return self._row(SessionRow, select(sessions).where(sessions.c.digest == digest))

    def remove(self, digest: str) -> None:
        self._connection.execute(delete(sessions).where(sessions.c.digest == digest))

    def expire(self, now: float) -> int:
        return self._connection.execute(delete(sessions).where(sessions.c.expires <= now)).rowcount
