"""Retrainings as the store keeps them, in the caller's transaction."""

from __future__ import annotations

from tidegate.control.access import audit
from tidegate.control.training.retraining import Retraining, retraining_of
from tidegate.errors import NotFound
from tidegate.storage.store import Unit


def open_in(unit: Unit, endpoint: str) -> Retraining | None:
    rows = unit.retrainings.list(endpoint=endpoint, open=True, limit=1)
    return retraining_of(rows[0]) if rows else None


def found_in(unit: Unit, id: str) -> Retraining:  # noqa: A002
    row = unit.retrainings.get(id)
    if row is None:
        raise NotFound(f"there is no retraining {id[:80]!r}")
    return retraining_of(row)


def audited(
    unit: Unit, who: str, action: str, after: Retraining, reason: str, now: float, before: str | None = None
) -> None:
    told = {
        "endpoint": after.endpoint,
        "state": after.state,
        "mode": after.mode,
        "trigger": after.trigger,
        "job": after.job,
    }
    audit.record(
        unit, who, action, f"retraining:{after.id}", at=now, after=told, reason=reason,
        before=None if before is None else {"state": before},
    )  # fmt: skip
