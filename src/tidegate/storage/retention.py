"""What is thrown away, and when. The audit log, the snapshots, the experiments and their reports stay for ever."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    Table,
    bindparam,
    case,
    delete,
    func,
    or_,
    select,
    tuple_,
    update,
)

from tidegate.section import seconds_of
from tidegate.settings import Retention
from tidegate.storage.experiments import ENDED
from tidegate.storage.store import Store
from tidegate.storage.tables import (
    acknowledgements,
    alert_events,
    deliveries,
    drift_reports,
    events,
    experiments,
    exposures,
    feedback,
    idempotency,
    instances,
    jobs,
    performance,
    profiles,
    release_events,
    release_evidence,
    releases,
    reports,
    sessions,
    snapshots,
    windows,
)

BATCH = 5000
"""Rows in one transaction: a writer waits for one batch at most."""
DAY = 86_400.0
MARGIN = 60.0
"""Seconds around a release whose windows stay with it: its evidence may use windows that began a little earlier."""
KEPT_SNAPSHOTS = 1000
"""Newest ones whose acknowledgements stay."""


class Rule(NamedTuple):
    """Rows of ``table`` that may go."""

    table: Table
    gone: ColumnElement[bool]


class Run(msgspec.Struct, frozen=True):
    """When an experiment was there; ``ended`` is infinite while it is."""

    name: str
    created: float
    ended: float


class _Ended(msgspec.Struct):
    """What this reads of an experiment's body."""

    ended: float = 0.0


def purge(store: Store, retention: Retention, now: float, batch: int = BATCH) -> dict[str, int]:
    """Rows deleted, by table. Each batch is a transaction of its own, so that it may end anywhere and go on later."""
    deleted: dict[str, int] = {}
    for rule in rules(retention, now, runs(store)):
        count = 0
        while taken := _take(store, rule, batch):
            count += taken
        deleted[rule.table.name] = count
    return deleted


def runs(store: Store) -> list[Run]:
    query = select(experiments.c.name, experiments.c.created, experiments.c.state, experiments.c.body)
    with store.read() as unit:
        return [
            Run(name, created, msgspec.json.decode(body, type=_Ended).ended if state in ENDED else math.inf)
            for name, created, state, body in unit.connection.execute(query)
        ]


def rules(retention: Retention, now: float, known: Sequence[Run] = ()) -> Iterator[Rule]:
    """In an order in which each still sees what it asks for: releases go before the windows that they keep."""
    old = now - seconds_of(retention.releases)
    yield Rule(releases, releases.c.open.is_(False) & (releases.c.changed < old))
    for table in (release_events, release_evidence):
        yield Rule(table, ~select(releases.c.id).where(releases.c.id == table.c.release).exists())
    kept = (
        select(releases.c.id)
        .where(releases.c.endpoint == windows.c.endpoint, releases.c.created - MARGIN <= windows.c.start)
        .where(or_(releases.c.open.is_(True), releases.c.changed + MARGIN >= windows.c.start))
    )
    yield Rule(windows, (windows.c.start < now - seconds_of(retention.windows)) & ~kept.exists())
    yield Rule(events, events.c.time < now - seconds_of(retention.events))
    old = now - seconds_of(retention.exposures)
    held = [run.name for run in known if run.ended >= old]
    # As words of the query: there may be more names than it takes parameters.
    names: BindParameter[Any] = bindparam("held", held, expanding=True, literal_execute=True)
    yield Rule(exposures, (exposures.c.time < old) & exposures.c.experiment.not_in(names))
    age = seconds_of(retention.feedback)
    # For feedback time stands still at the beginning of the oldest experiment that still asks for it.
    still = min([now, *(run.created for run in known if run.ended >= now - age)])
    yield Rule(feedback, feedback.c.received < still - age)
    newest = select(func.coalesce(func.max(snapshots.c.number), 0)).scalar_subquery()
    old = now - seconds_of(retention.monitoring)
    for table in (profiles, performance):
        yield Rule(table, table.c.start < old)
    yield Rule(drift_reports, drift_reports.c.created < old)
    yield Rule(alert_events, alert_events.c.time < old)
    yield Rule(reports, reports.c.created < old)
    yield Rule(jobs, jobs.c.open.is_(False) & (jobs.c.changed < now - seconds_of(retention.jobs)))
    yield Rule(acknowledgements, acknowledgements.c.number < newest - KEPT_SNAPSHOTS)
    yield Rule(instances, instances.c.time < now - DAY)
    yield Rule(sessions, sessions.c.expires < now)
    yield Rule(idempotency, idempotency.c.created < now - DAY)
    undated = deliveries.c.id.startswith("older:")  # it counts as long as its secret does, whenever it is sent again
    yield Rule(deliveries, deliveries.c.received < now - case((undated, 366 * DAY), else_=DAY))


def _take(store: Store, rule: Rule, batch: int) -> int:
    key = list(rule.table.primary_key)
    some = select(*key).where(rule.gone).limit(batch)
    with store.begin(durable=False) as unit:
        if rule.table is events:
            some = _oldest(unit.connection, some, batch)
            _tell(unit.connection, some)
        return unit.connection.execute(delete(rule.table).where(tuple_(*key).in_(some))).rowcount


def _oldest(connection: Connection, some: Select[Any], batch: int) -> Select[Any]:
    """The first of them, with as many rows as make a batch, since each row may have labels of its own; but one at least."""
    ordered = some.order_by(events.c.time, events.c.id)  # so that all statements are about the same
    rows, last = 0, None
    for row in connection.execute(ordered.add_columns(events.c.time, events.c.rows)):
        rows += row.rows
        if last is not None and rows > batch:
            break
        last = row
    if last is None:
        return ordered
    same = (events.c.time == last.time) & (events.c.id <= last.id)
    return ordered.where((events.c.time < last.time) | same)


def _tell(connection: Connection, some: Select[Any]) -> None:
    """Writes down in the feedback what it takes from these events, which are about to go: whose outcome it is.

    Not where a prediction or an exposure of another endpoint has the same request: the feedback is about both.
    """
    going, other = events.alias("going"), events.alias("other")
    query = (
        select(feedback.c.key, feedback.c.metric, going.c.unit, going.c.endpoint)
        .join_from(going, feedback, feedback.c.request_id == going.c.request_id)
        .where(going.c.id.in_(some), going.c.unit != "", going.c.forced.is_(False), going.c.request_id != "")
        .where(feedback.c.unit == "", feedback.c.endpoint.in_(("", going.c.endpoint)))
        .order_by(going.c.id)
    )
    for table in (other, exposures):
        elsewhere = table.c.endpoint.concat("") != going.c.endpoint  # an expression: by the request, not by this
        query = query.where(~select(table.c.unit).where(table.c.request_id == going.c.request_id, elsewhere).exists())
    found: dict[tuple[str, str], dict[str, str]] = {}
    for key, metric, unit, endpoint in connection.execute(query):
        found.setdefault((key, metric), {"of": key, "about": metric, "unit": unit, "endpoint": endpoint})
    if found:
        told = update(feedback).where(feedback.c.key == bindparam("of"), feedback.c.metric == bindparam("about"))
        told = told.where(feedback.c.unit == "").values(unit=bindparam("unit"), endpoint=bindparam("endpoint"))
        connection.execute(told, [found[key] for key in sorted(found)])  # all writers in one order: no deadlock
