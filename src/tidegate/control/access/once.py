"""Writing at most once per idempotency key: the first request claims it, its answer is kept for the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, and_, delete, update

from tidegate.clock import Clock
from tidegate.errors import Conflict, InvalidInput
from tidegate.storage.records import IdempotencyRow
from tidegate.storage.tables import idempotency

if TYPE_CHECKING:
    from tidegate.storage.store import Store

KEEP_SECONDS = 86_400.0
"""How long an answer is kept."""
BUSY_SECONDS = 60.0
"""A request that has not ended after this has died with its process; the same key may try again."""
UNDER_WAY = 0
"""Status of a key whose first request has not ended."""


class Once:
    """One key of one caller. ``request`` is a digest of what is asked."""

    def __init__(self, store: Store, clock: Clock, key: str, who: str, request: str) -> None:
        self._store = store
        self._clock = clock
        self._key = key
        self._who = who
        self._request = request
        self._claimed = 0.0
        """When; a claim of another time is another's, who came after this one had been under way for too long."""

    def claim(self) -> IdempotencyRow | None:
        """The kept answer, or None: then the request is to be carried out now. Raises InvalidInput when the key came with
        another request, and Conflict while the first is under way."""
        now = self._clock.wall()
        with self._store.begin() as unit:
            row = unit.idempotency.get(self._key, self._who)
            if row is not None and now - row.created < KEEP_SECONDS:
                if row.request != self._request:
                    raise InvalidInput(
                        "this Idempotency-Key was used for another request", ("header", "Idempotency-Key")
                    )
                if row.status != UNDER_WAY:
                    return row
                if now - row.created < BUSY_SECONDS:
                    raise Conflict("the first request with this Idempotency-Key is still under way")
            if row is not None:
                # This very row: another call may have claimed the key meanwhile, and its claim stays.
                unit.connection.execute(delete(idempotency).where(self._of(row.created)))
            unit.idempotency.put(IdempotencyRow(self._key, self._who, self._request, UNDER_WAY, "", now))
        self._claimed = now
        return None

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Gives the key free again when the request fails: it has changed nothing, and may be tried again."""
        try:
            yield
        except BaseException:
            with self._store.begin() as unit:
                unit.connection.execute(delete(idempotency).where(self._of(self._claimed)))
            raise

    def keep(self, status: int, body: str) -> None:
        with self._store.begin() as unit:
            query = update(idempotency).where(self._of(self._claimed)).values(status=status, body=body)
            unit.connection.execute(query)

    def _of(self, claimed: float) -> ColumnElement[bool]:
        return and_(idempotency.c.key == self._key, idempotency.c.who == self._who, idempotency.c.created == claimed)
