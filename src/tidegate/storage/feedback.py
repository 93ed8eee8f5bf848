"""Labels and outcomes that come later than the predictions they are about."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    LargeBinary,
    Select,
    Subquery,
    and_,
    bindparam,
    case,
    func,
    literal,
    or_,
    select,
    true,
    union,
)

from tidegate.errors import InvalidInput
from tidegate.observations import Feedback
from tidegate.storage.base import Repository, clean
from tidegate.storage.events import COLUMNS as EVENT_COLUMNS
from tidegate.storage.events import event_of
from tidegate.storage.records import Labelled
from tidegate.storage.tables import events, exposures, feedback

COLUMNS = tuple(feedback.c[name] for name in Feedback.__struct_fields__)
NOTHING = literal(b"", LargeBinary)
ONE_ROW = events.c.rows == 1
SMALL = and_(ONE_ROW, func.length(events.c.outputs) <= 4096)
"""Outputs that come beside the label; others are read when they are wanted, once for all labels of a request."""
ANSWERS = {"inputs": NOTHING, "outputs": case((SMALL, events.c.outputs), else_=NOTHING)}
LIGHT = ANSWERS | {"outputs": case((and_(SMALL, feedback.c.value.is_(None)), events.c.outputs), else_=NOTHING)}
ANSWER_COLUMNS = (events.c.id, *(ANSWERS.get(column.name, column) for column in EVENT_COLUMNS))
LIGHT_COLUMNS = (events.c.id, *(LIGHT.get(column.name, column) for column in EVENT_COLUMNS))
OUTPUTS = select(events.c.outputs).where(events.c.id == bindparam("wanted"))
REQUEST, ROW = "request:", "row:"
"""What the keys of labels begin with; of a row its number comes next."""
ROWS_AT_ONCE = 1000
GATHERED = 10_000
"""Labels among which those of one request are brought together."""
TOLERANCE = 1.0
"""Seconds that an outcome may seem older than its exposure: senders round their times."""


class FeedbackRepository(Repository):
    def add(self, batch: Sequence[Feedback]) -> int:
        """How many were new, or later than what was there. Raises InvalidInput for one that names nothing.

        What was sent for one endpoint changes nothing that was sent for another, whoever knows the request.
        """
        if not batch:
            return 0
        newest: dict[tuple[str, str], dict[str, Any]] = {}
        for place, one in enumerate(batch):
            row = _values(place, one)
            known = newest.setdefault((row["key"], row["metric"]), row)
            ours = not known["endpoint"] or row["endpoint"] in ("", known["endpoint"])
            if ours and row["time"] > known["time"]:
                row["endpoint"], row["unit"] = row["endpoint"] or known["endpoint"], row["unit"] or known["unit"]
                newest[row["key"], row["metric"]] = row
        values = [newest[key] for key in sorted(newest)]  # all writers in one order: no deadlock
        query = self._insert(feedback)
        fresh = query.excluded
        # Whoever says no time and sends it again, after an answer that was lost, says nothing new.
        news = or_(
            fresh.request_id == "",
            fresh.time != fresh.received,
            fresh.value.is_distinct_from(feedback.c.value),
            fresh.label.is_distinct_from(feedback.c.label),
        )
        same = or_(feedback.c.endpoint == "", fresh.endpoint.in_(("", feedback.c.endpoint)))
        told = {name: fresh[name] for name in ("value", "label", "time", "received")}
        # Whoever does not say them again takes nothing back.
        known = {name: case((fresh[name] == "", feedback.c[name]), else_=fresh[name]) for name in ("unit", "endpoint")}
        query = query.on_conflict_do_update(
            index_elements=["key", "metric"],
            set_=told | known,
            where=and_(fresh.time > feedback.c.time, same, news),
        )
        return self._changed(query, values)

    def labels(
        self, endpoint: str, metric: str, since: float, until: float, answers: bool = False
    ) -> Iterator[Labelled]:
        """Feedback on predictions *made* in [since, until), whenever it came, in the order of the predictions. A request
        that was sent several times counts once, as its first prediction; a label for a row that it did not have is left out.

        Read while it is iterated, inside the unit, since it may be a month's. The events come without what nobody needs
        for it: their inputs, and without ``answers`` the outputs where a value was sent.
        """
        columns = ANSWER_COLUMNS if answers else LIGHT_COLUMNS
        query = (
            select(*COLUMNS, *columns)
            .join_from(
                events, feedback, and_(feedback.c.request_id == events.c.request_id, feedback.c.metric == metric)
            )
            .where(events.c.endpoint == endpoint, events.c.time >= since, events.c.time < until)
            .where(events.c.request_id != "", *_counts_for(endpoint))
            .order_by(events.c.time, events.c.id, feedback.c.id)
        )
        return self._labelled(query, answers)

    def arrived(self, endpoint: str, metric: str, since: float, until: float) -> Iterator[Labelled]:
        """As ``labels`` with the answers, for feedback that *came* in [since, until). What was sent anew came when it was
        sent last. In the order of its coming but for ``GATHERED`` labels at a time, of which those of one request come
        together: else what was answered would be read once for each of its rows."""
        # As in _sent_before: the events of a request are looked up, those of the endpoint are not gone through.
        here = and_(events.c.request_id == feedback.c.request_id, events.c.endpoint.concat("") == endpoint)
        query = (
            select(*COLUMNS, *ANSWER_COLUMNS)
            .join_from(feedback, events, here)
            .where(feedback.c.received >= since, feedback.c.received < until, feedback.c.metric == metric)
            .where(feedback.c.request_id != "", *_counts_for(endpoint))
            .order_by(feedback.c.received, feedback.c.id)
        )
        return self._labelled(query, answers=True, gathered=GATHERED)

    def times(self, endpoint: str, metric: str, since: float) -> Iterator[tuple[float, float]]:
        """When the prediction was made and when its label came, of labels that came at ``since`` or later and are about
        one row that is known."""
        here = and_(events.c.request_id == feedback.c.request_id, events.c.endpoint.concat("") == endpoint)
        query = (
            select(events.c.time, feedback.c.received)
            .join_from(feedback, events, here)
            .where(feedback.c.received >= since, feedback.c.metric == metric)
            .where(feedback.c.request_id != "", *_counts_for(endpoint), or_(feedback.c.row.is_not(None), ONE_ROW))
        )
        rows = self._connection.execute(query.execution_options(yield_per=ROWS_AT_ONCE))
        return ((made, came) for made, came in rows)

    def _labelled(self, query: Select[Any], answers: bool, gathered: int = 0) -> Iterator[Labelled]:
        wide = len(COLUMNS)
        known, bare, whole = 0, None, None
        for row in self._rows_of(query, gathered, wide):
            if bare is None or row[wide] != known:
                known, bare, whole = row[wide], event_of(row[wide + 1 :]), None
            told, event = _feedback(row[:wide]), bare
            if not bare.outputs and (answers or told.value is None):
                event = whole = whole or msgspec.structs.replace(bare, outputs=self._outputs(known))
            yield Labelled(told, event)

    def _rows_of(self, query: Select[Any], gathered: int, wide: int) -> Iterator[Any]:
        found = self._connection.execute(query.execution_options(yield_per=gathered or ROWS_AT_ONCE))
        for part in found.partitions():
            yield from sorted(part, key=itemgetter(wide)) if gathered else part

    def _outputs(self, id: int) -> bytes:  # noqa: A002
        return bytes(self._connection.execute(OUTPUTS, {"wanted": id}).scalar_one())

    def outcomes(self, experiment: str, metric: str, before: bool = False) -> list[tuple[str, str, float]]:
        """(variant, unit, value) of units with an exposure, for values that happened after it; with ``before`` those
        that were known earlier (a covariate).

        Feedback that names a unit is joined by it, feedback that names a request by the exposure's request or by the
        unit of a sampled prediction; so a unit may come several times, once for each request. In the order of units.
        """
        fields = (feedback.c.id, exposures.c.variant, exposures.c.unit, feedback.c.value)
        when = feedback.c.time < exposures.c.time if before else feedback.c.time >= exposures.c.time - TOLERANCE
        wanted = and_(
            exposures.c.experiment == experiment,
            feedback.c.metric == metric,
            feedback.c.value.is_not(None),
            or_(feedback.c.endpoint == "", feedback.c.endpoint == exposures.c.endpoint),
            when,
        )
        by_unit = select(*fields).join_from(exposures, feedback, feedback.c.unit == exposures.c.unit)
        by_request = select(*fields).join_from(
            exposures, feedback, and_(feedback.c.request_id == exposures.c.request_id, exposures.c.request_id != "")
        )
        # An expression, which no index has: SQLite would go through all events of the endpoint for each exposure.
        of_event = events.c.endpoint.concat("")
        by_event = (
            select(*fields)
            .join_from(feedback, events, and_(events.c.request_id == feedback.c.request_id, events.c.unit != ""))
            .join(exposures, and_(exposures.c.unit == events.c.unit, exposures.c.endpoint == of_event))
        )
        found = union(
            by_unit.where(wanted, feedback.c.unit != ""),
            by_request.where(wanted),
            by_event.where(wanted, feedback.c.request_id != "", events.c.forced.is_(False)),
        ).subquery()
        query = select(found.c.variant, found.c.unit, found.c.value).order_by(found.c.unit, found.c.id)
        return [(variant, unit, value) for variant, unit, value in self._connection.execute(query)]

    def history(self, metric: str, covariate: str, until: float, limit: int = 100_000) -> list[tuple[float, float]]:
        """(value, covariate) of units that had both before ``until``, the latest first: their means, so that one unit with
        labels of many rows is one pair, and not each of them with each."""

        def means(name: str) -> Subquery:
            columns = feedback.c.unit, func.avg(feedback.c.value).label("mean"), func.max(feedback.c.id).label("newest")
            query = select(*columns).where(feedback.c.metric == name, feedback.c.unit != "", feedback.c.time < until)
            return query.where(feedback.c.value.is_not(None)).group_by(feedback.c.unit).subquery()

        values, known = means(metric), means(covariate)
        query = select(values.c.mean, known.c.mean).join_from(values, known, values.c.unit == known.c.unit)
        query = query.order_by(values.c.newest.desc()).limit(limit)
        return [(value, earlier) for value, earlier in self._connection.execute(query)]

    def counts(self, endpoints: Sequence[str] = (), limit: int = 1000) -> dict[str, int]:
        """Rows by metric, most first; with ``endpoints`` of what was sent for these."""
        query = select(feedback.c.metric, func.count()).group_by(feedback.c.metric).where(_sent_for(endpoints))
        ordered = query.order_by(func.count().desc(), feedback.c.metric).limit(limit)
        return {metric: int(count) for metric, count in self._connection.execute(ordered)}

    def unknown(self, endpoints: Sequence[str] = ()) -> int:
        """Kept feedback whose request no event and no exposure knows: not sampled, or never made here. With
        ``endpoints`` of what was sent for these."""
        query = (
            select(func.count())
            .select_from(feedback)
            .where(
                _sent_for(endpoints),
                feedback.c.request_id != "",
                ~select(events.c.id).where(events.c.request_id == feedback.c.request_id).exists(),
                ~select(exposures.c.unit).where(exposures.c.request_id == feedback.c.request_id).exists(),
            )
        )
        return int(self._connection.execute(query).scalar_one())


def _counts_for(endpoint: str) -> tuple[ColumnElement[bool], ...]:
    """Whether a label counts for the event that has its request: the first of the endpoint's, and it had such a row."""
    return (
        feedback.c.endpoint.in_(("", endpoint)),
        or_(feedback.c.row.is_(None), feedback.c.row < events.c.rows),
        or_(events.c.rows != 1, ~_said_otherwise(endpoint).exists()),
        ~_sent_before().exists(),
    )


def _said_otherwise(endpoint: str) -> Select[Any]:
    """Of the only row of a request, which a label need not name, one that counts more and names it where this does not."""
    other = feedback.alias("other")
    prefix = case((feedback.c.row.is_(None), f"{ROW}0:"), else_=REQUEST)
    later = or_(other.c.time > feedback.c.time, and_(other.c.time == feedback.c.time, other.c.id < feedback.c.id))
    return select(other.c.id).where(
        other.c.key == prefix.concat(feedback.c.request_id),
        other.c.metric == feedback.c.metric,
        other.c.endpoint.in_(("", endpoint)),
        later,
    )


def _sent_before() -> Select[Any]:
    """The same request, earlier, at the same endpoint."""
    earlier = events.alias("earlier")
    # An expression, which no index has: SQLite might go through all events of the endpoint for each event.
    return select(earlier.c.id).where(
        earlier.c.request_id == events.c.request_id,
        earlier.c.endpoint.concat("") == events.c.endpoint,
        earlier.c.id < events.c.id,
    )


def _sent_for(endpoints: Sequence[str]) -> ColumnElement[bool]:
    return feedback.c.endpoint.in_(endpoints) if endpoints else true()


def _feedback(row: Any) -> Feedback:
    return Feedback(**dict(zip(Feedback.__struct_fields__, row, strict=True)))


def _values(place: int, one: Feedback) -> dict[str, Any]:
    if not one.metric or not (one.request_id or one.unit):
        raise InvalidInput("feedback names a metric, and a request_id or a unit", (place,))
    time = one.time or one.received
    if not math.isfinite(time) or (one.value is not None and not math.isfinite(one.value)):
        raise InvalidInput("value and time must be finite numbers", (place,))
    request_id, unit = clean(one.request_id), clean(one.unit)
    return {
        "key": _key(request_id, one.row, unit),
        "metric": clean(one.metric),
        "request_id": request_id,
        "row": one.row if request_id else None,
        "unit": unit,
        "endpoint": clean(one.endpoint),
        "value": one.value,
        "label": None if one.label is None else clean(one.label),
        "time": time,
        "received": one.received,
    }


def _key(request_id: str, row: int | None, unit: str) -> str:
    if not request_id:
        return f"unit:{unit}"
    return f"{REQUEST}{request_id}" if row is None else f"{ROW}{row}:{request_id}"
