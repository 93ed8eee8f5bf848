"""Writes what the machine decided: release, history, snapshot and audit entry in the caller's one transaction."""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from tidegate.control.access import audit
from tidegate.control.releases.events import Event, Publish, Record, Superseded
from tidegate.control.releases.history import SYSTEM, entry_for, event_row, release_of, row_of, shown
from tidegate.control.releases.machine import Transition, advance
from tidegate.control.releases.plans import plan_after, with_plan
from tidegate.control.releases.release import Release
from tidegate.errors import Conflict
from tidegate.storage.store import Unit

UNAUDITED = ("in_force", "instance_lost", "refused")
"""Kinds of records that are history only: nobody decided them."""


class Enacted(NamedTuple):
    release: Release
    published: bool = False


def happen(unit: Unit, release: Release, event: Event, *, tick: int = -1) -> Enacted:
    """Applies one event to a release as it is in the store. ``tick``: the look that it is part of.

    Raises IllegalTransition, and Conflict when somebody else changed the release.
    """
    moved = advance(release, event)
    after, published = publish(unit, moved)
    after = replace(after, tick=tick if tick >= 0 else after.tick)
    record = next((one for one in moved.instructions if isinstance(one, Record)), None)
    entry = entry_for(after, record, event, tick, published)
    unit.releases.save(row_of(after), event_row(after, entry) if entry else None, release.revision)
    if record is not None and record.kind not in UNAUDITED:
        audit.record(
            unit,
            record.who or SYSTEM,
            f"release.{record.kind}",
            f"release:{after.id}",
            at=event.now,
            before=shown(release),
            after=shown(after),
            reason=record.text,
        )
    return Enacted(after, published)


def supersede(unit: Unit, endpoint: str, event: Superseded) -> None:
    """The version that an earlier release keeps warm is given up: a third one beside it would be one too many."""
    for row in unit.releases.list(endpoint=endpoint, open=False, limit=5):
        earlier = release_of(row)
        if earlier.state == "promoted" and earlier.warm_until:
            happen(unit, earlier, event)


def publish(unit: Unit, moved: Transition) -> Enacted:
    """Publishes what the transition asks for, and notes it in the release."""
    wish = next((one for one in moved.instructions if isinstance(one, Publish)), None)
    if wish is None:
        return Enacted(moved.release)
    release = moved.release
    newest = unit.snapshots.latest()
    if newest is None or release.endpoint not in newest.snapshot.endpoints:
        raise Conflict(f"endpoint {release.endpoint} is not published any more")
    plan = plan_after(newest.snapshot.endpoints[release.endpoint], release, wish.change)
    done = unit.snapshots.publish(
        with_plan(newest.snapshot, plan),
        reason=wish.reason,
        author=release.author,
        release=release.id,
        at=release.changed,
    )
    return Enacted(noted(release, done.number, done.published), True)


def noted(release: Release, number: int, at: float) -> Release:
    """The release with its newest publication; the first that shows the candidate to anybody begins the evidence."""
    visible = release.open and release.phase != "pending" and not release.first
    return replace(
        release,
        snapshot=number,
        published=at,
        first=number if visible else release.first,
        began=at if visible else release.began,
    )
