"""What is thrown away, and when. The audit log, the snapshots, the experiments and their reports stay for ever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import ColumnElement, Table, case, delete, func, or_, select, tuple_

from tidegate.settings import Retention, seconds_of
from tidegate.storage.experiments import ENDED
from tidegate.storage.store import Store
from tidegate.storage.tables import (
    acknowledgements,
    deliveries,
    events,
    experiments,
    exposures,
    feedback,
    idempotency,
    instances,
    release_events,
    release_evidence,
    releases,
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


def purge(store: Store, retention: Retention, now: float, batch: int = BATCH) -> dict[str, int]:
    """Rows deleted, by table. Each batch is a transaction of its own, so that it may end anywhere and go on later."""
    deleted: dict[str, int] = {}
    for rule in rules(retention, now):
        count = 0
        while True:
            taken = _take(store, rule, batch)
            count += taken
            if taken < batch:
                break
        deleted[rule.table.name] = count
    return deleted


def rules(retention: Retention, now: float) -> Iterator[Rule]:
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
    running = select(experiments.c.name).where(experiments.c.state.not_in(ENDED))
    aged = exposures.c.time < now - seconds_of(retention.exposures)
    yield Rule(exposures, aged & exposures.c.experiment.not_in(running))
    yield Rule(feedback, feedback.c.received < now - seconds_of(retention.feedback))
    newest = select(func.coalesce(func.max(snapshots.c.number), 0)).scalar_subquery()
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
        return unit.connection.execute(delete(rule.table).where(tuple_(*key).in_(some))).rowcount
