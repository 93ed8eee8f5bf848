"""What must happen once: answers to repeated calls, and deliveries of webhooks."""

from __future__ import annotations

from sqlalchemy import select

from tidegate.errors import Conflict
from tidegate.storage.base import Repository, clean
from tidegate.storage.records import IdempotencyRow
from tidegate.storage.tables import deliveries, idempotency


class Idempotency(Repository):
    def get(self, key: str, who: str) -> IdempotencyRow | None:
        return self._row(IdempotencyRow, select(idempotency).where(idempotency.c.key == key, idempotency.c.who == who))

    def put(self, row: IdempotencyRow) -> None:
        """Raises Conflict when the same key was used at the same time: the change is undone with the unit."""
        self._add(idempotency, row, Conflict("the same Idempotency-Key is being used by another call"))


class Deliveries(Repository):
    def add(self, id: str, at: float) -> bool:  # noqa: A002
        """False when it was seen before."""
        query = self._insert(deliveries).on_conflict_do_nothing(index_elements=["id"])
        return self._changed(query, [{"id": clean(id), "received": at}]) == 1
