"""Sampled predictions, kept to be joined with labels and looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import LargeBinary, func, insert, literal, select

from tidegate.observations import PredictionEvent
from tidegate.storage.base import Repository, clean, in_parts
from tidegate.storage.tables import events

FIELDS = (
    "request_id", "process", "endpoint", "variant", "version", "snapshot", "time", "unit", "rows", "seconds", "forced",
    "cached", "inputs", "outputs",
)  # fmt: skip
_COPY = f"COPY events ({', '.join(FIELDS)}) FROM STDIN (FORMAT BINARY)"
_COPY_TYPES = (
    "text", "text", "text", "text", "text", "int8", "float8", "text", "int4", "float8", "bool", "bool", "bytea", "bytea",
)  # fmt: skip
"""Of FIELDS, in PostgreSQL's words."""
COLUMNS = tuple(events.c[name] for name in FIELDS)
ROWS_AT_ONCE = 1000
LARGE_AT_ONCE = 100
"""Events with their inputs, which may be large."""


class Events(Repository):
    def add(self, batch: Sequence[PredictionEvent]) -> None:
        """Writers stand in line until they commit, so that ``after`` skips none."""
        if batch:
            self._in_line("events")
        if self._postgres and batch:
            self._copy(batch)
        elif batch:
            self._connection.execute(insert(events), [_values(event) for event in batch])

    def between(self, endpoint: str, start: float, end: float, limit: int = 1000) -> list[PredictionEvent]:
        """Of [start, end), the newest first."""
        query = select(*COLUMNS).where(events.c.endpoint == endpoint, events.c.time >= start, events.c.time < end)
        ordered = query.order_by(events.c.time.desc(), events.c.id.desc()).limit(limit)
        return [event_of(row) for row in self._connection.execute(ordered)]

    def newest_of(self, endpoint: str, variant: str, start: float, end: float, limit: int) -> Iterator[PredictionEvent]:
        """Of one variant and [start, end), without forced ones, the newest first. Read while it is iterated, inside the
        unit."""
        query = (
            select(*COLUMNS)
            .where(events.c.endpoint == endpoint, events.c.time >= start, events.c.time < end)
            .where(events.c.variant == variant, events.c.forced.is_(False))
            .order_by(events.c.time.desc(), events.c.id.desc())
            .limit(limit)
        )
        for row in self._connection.execute(query.execution_options(yield_per=LARGE_AT_ONCE)):
            yield event_of(row)

    def after(self, id: int, endpoint: str, limit: int = 1000) -> list[tuple[int, PredictionEvent]]:  # noqa: A002
        """Events of an endpoint with a greater id, in the order of ids."""
        query = select(events.c.id, *COLUMNS).where(events.c.endpoint == endpoint, events.c.id > id)
        ordered = query.order_by(events.c.id).limit(limit)
        return [(row[0], event_of(row[1:])) for row in self._connection.execute(ordered)]

    def first_since(self, endpoint: str, time: float) -> int:
        """The least id of an endpoint's events of ``time`` or later; 0 when there is none."""
        query = select(func.min(events.c.id)).where(events.c.endpoint == endpoint, events.c.time >= time)
        return int(self._connection.execute(query).scalar() or 0)

    def newest(self, endpoint: str) -> int:
        """The greatest id of an endpoint's events; 0 when there is none."""
        query = select(func.max(events.c.id)).where(events.c.endpoint == endpoint)
        return int(self._connection.execute(query).scalar() or 0)

    def waiting(self, endpoint: str, id: int) -> float | None:  # noqa: A002
        """The time of the event that is next after ``id``; None when there is none."""
        query = select(events.c.time).where(events.c.endpoint == endpoint, events.c.id > id)
        return self._connection.execute(query.order_by(events.c.id).limit(1)).scalar()

    def answers(self, endpoint: str, start: float, end: float) -> Iterator[PredictionEvent]:
        """Of [start, end), in the order of time, without their inputs. Read while it is iterated, inside the unit."""
        columns = (literal(b"", LargeBinary) if column.name == "inputs" else column for column in COLUMNS)
        query = select(*columns).where(events.c.endpoint == endpoint, events.c.time >= start, events.c.time < end)
        ordered = query.order_by(events.c.time, events.c.id).execution_options(yield_per=ROWS_AT_ONCE)
        for row in self._connection.execute(ordered):
            yield event_of(row)

    def made(self, endpoint: str, start: float, end: float) -> dict[tuple[str, str], int]:
        """How many rows were kept of [start, end), by variant and version, without forced ones."""
        query = (
            select(events.c.variant, events.c.version, func.sum(events.c.rows))
            .where(events.c.endpoint == endpoint, events.c.time >= start, events.c.time < end)
            .where(events.c.forced.is_(False))
            .group_by(events.c.variant, events.c.version)
        )
        return {(variant, version): int(count) for variant, version, count in self._connection.execute(query)}

    def by_request_ids(self, ids: Sequence[str], endpoint: str) -> dict[str, PredictionEvent]:
        """The first event of each request at one endpoint; ids that were not sampled are missing."""
        # An expression, which no index has: SQLite might go through all events of the endpoint.
        here = events.c.endpoint.concat("") == endpoint
        found: dict[str, PredictionEvent] = {}
        for part in in_parts(sorted({clean(name) for name in ids})):
            query = select(*COLUMNS).where(events.c.request_id.in_(part), here).order_by(events.c.id)
            for row in self._connection.execute(query):
                found.setdefault(row.request_id, event_of(row))
        return found

    def endpoints_of(self, ids: Sequence[str]) -> dict[str, set[str]]:
        """Who answered each request: one id may have gone to several endpoints. Ids that were not sampled are missing."""
        found: dict[str, set[str]] = {}
        for part in in_parts(sorted({clean(name) for name in ids})):
            query = select(events.c.request_id, events.c.endpoint).where(events.c.request_id.in_(part)).distinct()
            for request, endpoint in self._connection.execute(query):
                found.setdefault(request, set()).add(endpoint)
        return found

    def count(self) -> int:
        return int(self._connection.execute(select(func.count()).select_from(events)).scalar_one())

    def _copy(self, batch: Sequence[PredictionEvent]) -> None:
        """COPY takes rows twice as fast as INSERT; SQLAlchemy has no words for it."""
        driver = self._connection.connection.driver_connection
        assert driver is not None
        with driver.cursor() as cursor, cursor.copy(_COPY) as copy:
            copy.set_types(_COPY_TYPES)
            for event in batch:
                copy.write_row(tuple(_values(event).values()))


def event_of(row: Any) -> PredictionEvent:
    """From a row that begins with COLUMNS."""
    return PredictionEvent(**dict(zip(FIELDS, row, strict=False)))


def _values(event: PredictionEvent) -> dict[str, Any]:
    values = {name: getattr(event, name) for name in FIELDS}
    values["request_id"] = clean(event.request_id)
    values["unit"] = clean(event.unit)
    return values
