"""Routing snapshots: published once, never changed, numbered without gaps."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import func, insert, select, text

from tidegate.storage.base import Repository
from tidegate.storage.records import Published
from tidegate.storage.tables import snapshots
from tidegate.types import RoutingSnapshot

CHANNEL = "tidegate_snapshots"
FIRST = 2
"""Number of the first publication; 1 is what the configuration says."""

_decoder = msgspec.json.Decoder(RoutingSnapshot)


class Snapshots(Repository):
    def latest(self) -> Published | None:
        """In a unit that writes, no other publishes before this one ends: what is built on it is not lost."""
        if self._writes:
            self._in_line("decisions")
        return self._one(select(snapshots).order_by(snapshots.c.number.desc()).limit(1))

    def get(self, number: int) -> Published | None:
        return self._one(select(snapshots).where(snapshots.c.number == number))

    def history(self, limit: int = 50, before: int | None = None) -> list[Published]:
        """Newest first; the next page is before the last number of this one."""
        query = select(snapshots).order_by(snapshots.c.number.desc()).limit(limit)
        if before is not None:
            query = query.where(snapshots.c.number < before)
        return [_published(row) for row in self._connection.execute(query)]

    def publish(
        self, snapshot: RoutingSnapshot, *, reason: str, author: str, release: str = "", at: float
    ) -> Published:
        """``snapshot`` under the next number, whatever number it has. Listeners hear of it when the unit commits."""
        self._in_line("decisions")
        newest = self._connection.execute(select(func.max(snapshots.c.number))).scalar()
        number = FIRST if newest is None else int(newest) + 1
        numbered = msgspec.structs.replace(snapshot, number=number)
        self._connection.execute(
            insert(snapshots).values(
                number=number,
                published=at,
                reason=reason,
                author=author,
                release=release,
                body=msgspec.json.encode(numbered).decode(),
            )
        )
        if self._postgres:
            self._connection.execute(
                text("SELECT pg_notify(:channel, :number)"), {"channel": CHANNEL, "number": str(number)}
            )
        return Published(number, at, reason, author, release, numbered)

    def _one(self, query: Any) -> Published | None:
        row = self._connection.execute(query).first()
        return None if row is None else _published(row)


def _published(row: Any) -> Published:
    return Published(row.number, row.published, row.reason, row.author, row.release, _decoder.decode(row.body))
