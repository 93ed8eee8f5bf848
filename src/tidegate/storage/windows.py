"""Variant windows: what serving processes counted, second by second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import func, select

from tidegate.observations import VariantWindow
from tidegate.storage.base import Repository, in_parts
from tidegate.storage.records import Stored, Total
from tidegate.storage.tables import windows

_decoder = msgspec.json.Decoder(VariantWindow)
_encoder = msgspec.json.Encoder()


class Windows(Repository):
    def add(self, batch: Sequence[VariantWindow]) -> int:
        """How many were new; a window that is there already changes nothing.

        Writers stand in line until they commit, so that ids become visible in their order and ``after`` skips none.
        Add windows last in a unit.
        """
        if not batch:
            return 0
        self._in_line("windows")
        query = self._insert(windows).on_conflict_do_nothing(
            index_elements=["process", "sequence", "endpoint", "variant"]
        )
        return self._changed(query, [_values(window) for window in batch])

    def after(self, endpoint: str, id: int, limit: int = 10_000) -> list[Stored]:  # noqa: A002
        """Windows of an endpoint with a greater id, in the order of ids."""
        query = select(windows.c.id, windows.c.body).where(windows.c.endpoint == endpoint, windows.c.id > id)
        return self._stored(query.order_by(windows.c.id).limit(limit))

    def newest(self) -> int:
        """The highest id of all endpoints; 0 when there is none."""
        return int(self._connection.execute(select(func.max(windows.c.id))).scalar() or 0)

    def by_ids(self, ids: Sequence[int]) -> list[Stored]:
        """In the order of ids; those that retention took are missing."""
        found: list[Stored] = []
        for part in in_parts(sorted(set(ids))):
            query = select(windows.c.id, windows.c.body).where(windows.c.id.in_(part))
            found += self._stored(query.order_by(windows.c.id))
        return found

    def between(self, endpoint: str, start: float, end: float) -> list[VariantWindow]:
        """Windows that began in [start, end), in the order of time."""
        query = select(windows.c.body).where(
            windows.c.endpoint == endpoint, windows.c.start >= start, windows.c.start < end
        )
        ordered = query.order_by(windows.c.start, windows.c.id)
        return [_decoder.decode(body) for body in self._connection.execute(ordered).scalars()]

    def totals(self, start: float, end: float) -> list[Total]:
        """Requests and failures per endpoint and variant, of windows that began in [start, end)."""
        query = (
            select(windows.c.endpoint, windows.c.variant, func.sum(windows.c.requests), func.sum(windows.c.failures))
            .where(windows.c.start >= start, windows.c.start < end)
            .group_by(windows.c.endpoint, windows.c.variant)
            .order_by(windows.c.endpoint, windows.c.variant)
        )
        rows = self._connection.execute(query)
        return [
            Total(endpoint, variant, int(requests), int(failures)) for endpoint, variant, requests, failures in rows
        ]

    def _stored(self, query: Any) -> list[Stored]:
        return [Stored(number, _decoder.decode(body)) for number, body in self._connection.execute(query)]


def _values(window: VariantWindow) -> dict[str, Any]:
    return {
        "process": window.process,
        "sequence": window.sequence,
        "endpoint": window.endpoint,
        "variant": window.variant,
        "version": window.version,
        "snapshot": window.snapshot,
        "start": window.start,
        "requests": window.requests,
        "failures": window.failures,
        "body": _encoder.encode(window).decode(),
    }
