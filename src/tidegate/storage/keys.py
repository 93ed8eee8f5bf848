"""API keys, by id; the secrets themselves are nowhere."""

from __future__ import annotations

from sqlalchemy import or_, select, update

from tidegate.errors import Conflict
from tidegate.storage.base import Repository
from tidegate.storage.records import KeyRow
from tidegate.storage.tables import api_keys


class Keys(Repository):
    def add(self, row: KeyRow) -> None:
        self._add(api_keys, row, Conflict(f"there is a key {row.id} already"))

    def get(self, id: str) -> KeyRow | None:  # noqa: A002
        return self._row(KeyRow, select(api_keys).where(api_keys.c.id == id))

    def all(self) -> list[KeyRow]:
        """Revoked and expired ones too, in the order they were made."""
        return self._rows(KeyRow, select(api_keys).order_by(api_keys.c.created, api_keys.c.id))

    def none(self) -> bool:
        """Whether there has never been one. In a unit that writes, no other adds the first before this one ends."""
        if self._writes:
            self._in_line("decisions")
        return self._connection.execute(select(api_keys.c.id).limit(1)).first() is None

    def touch(self, id: str, at: float) -> None:  # noqa: A002
        """Last use; never goes back."""
        earlier = or_(api_keys.c.used.is_(None), api_keys.c.used < at)
        self._connection.execute(update(api_keys).where(api_keys.c.id == id, earlier).values(used=at))

    def revoke(self, id: str, at: float) -> bool:  # noqa: A002
        """From ``at`` on, which may lie ahead; the earliest counts. False when it changes nothing."""
        later = or_(api_keys.c.revoked.is_(None), api_keys.c.revoked > at)
        query = update(api_keys).where(api_keys.c.id == id, later).values(revoked=at)
        return self._connection.execute(query).rowcount == 1
