"""Observations into alerts, in the transaction that keeps what was observed: the alert and what happened to it are there
together or not at all, as is the notification that the caller queues in the same transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from tidegate.control.monitoring import alerts, observing
from tidegate.control.monitoring.alerts import Observation, Transition
from tidegate.control.monitoring.records import Alert, DriftReport
from tidegate.monitor_plan import MonitorPlan
from tidegate.storage.records import AlertEventRow, AlertRow

if TYPE_CHECKING:
    from tidegate.storage.store import Unit

MOST_ALERTS = 2000
"""Of an endpoint that are looked at in one look; those that changed last."""
LIVE = ("pending", "firing", "resolved")

Told = list[tuple[Alert, Transition]]
Tell = Callable[["Unit", Told], Callable[[], None]]
"""Queues a notification in the unit; what it gives is called once the unit is kept."""


class Watch(NamedTuple):
    """What is watched now. ``served`` is the version of each variant: what another version was like is no news.
    ``without`` says of those that are compared with nothing why."""

    plan: MonitorPlan
    served: Mapping[str, str]
    without: Mapping[str, str]


class Kept(msgspec.Struct):
    """An alert as it is in the store, and as it is now."""

    stored: AlertRow | None
    alert: Alert | None
    transitions: list[Transition]

    def moved(self, found: tuple[Alert | None, Transition | None]) -> None:
        self.alert, transition = found
        if transition is not None:
            self.transitions.append(transition)


def raise_alerts(
    unit: Unit,
    endpoint: str,
    seen: Sequence[Observation],
    reports: Sequence[DriftReport],
    watch: Watch,
    now: float,
) -> Told:
    """What happened. ``reports`` are those that ``seen`` was made of. Raises LostRace when somebody silenced an alert at
    this moment."""
    known = _known(unit, endpoint, seen)
    plan, served = watch.plan, watch.served
    for one in seen:
        if served and served.get(one.variant) != one.version:
            continue
        kept = known.setdefault(alerts.alert_id(endpoint, one.rule), Kept(None, None, []))
        kept.moved(alerts.observe(kept.alert, one, plan))
    observed = {alerts.alert_id(endpoint, one.rule) for one in seen}
    for name, kept in known.items():
        if kept.alert is not None and name not in observed:
            _unseen(kept, kept.alert, reports, watch, now)
    return _save_all(unit, known.values())


def withdraw_all(unit: Unit, endpoint: str, plan: MonitorPlan, why: str, now: float) -> Told:
    """Of an endpoint that is not watched any more."""
    known = _known(unit, endpoint, ())
    for kept in known.values():
        if kept.alert is not None:
            kept.moved(alerts.withdraw(kept.alert, now, plan, why))
    return _save_all(unit, known.values())


def _save_all(unit: Unit, known: Iterable[Kept]) -> Told:
    told: Told = []
    for kept in known:
        told += _save(unit, kept)
    return told


def _unseen(
    kept: Kept,
    alert: Alert,
    reports: Sequence[DriftReport],
    watch: Watch,
    now: float,
) -> None:
    """An alert of whose rule no window spoke: a check that finds nothing says nothing."""
    plan, served = watch.plan, watch.served
    if why := ended(alert, watch):
        kept.moved(alerts.withdraw(alert, now, plan, why))
        return
    spoke = False
    for report in reports if alert.state in ("pending", "firing") else ():
        if report.note or report.variant != alert.variant or served.get(report.variant) != report.version:
            continue
        right = observing.of_silence(report, alert)
        if right is not None:
            kept.moved(alerts.observe(kept.alert, right, plan))
            spoke = True
        elif observing.is_dropped(report, alert):
            why = f"{alert.rule} of {alert.endpoint} is not looked at any more"
            kept.moved(alerts.withdraw(alert, now, plan, why))
            return
    if not spoke:
        kept.moved(alerts.tick(alert, now, plan))


def ended(alert: Alert, watch: Watch) -> str:
    """Why no window will ever speak of an alert that is pending or fires; empty while one may."""
    if alert.state not in ("pending", "firing"):
        return ""
    if watch.served and alert.variant not in watch.served:
        return f"{alert.variant} of {alert.endpoint} is not served any more"
    volume = alert.rule.endswith(":volume") and alert.source == "quality"
    if not observing.is_asked(alert, watch.plan):
        return f"{alert.rule} of {alert.endpoint} is not looked at any more"
    reason = watch.without.get(alert.variant)
    if reason and not volume and alert.source != "performance" and watch.served.get(alert.variant) != alert.version:
        return f"version {alert.version} of {alert.endpoint} is not served any more, and of the one that is: {reason}"
    return ""


def needs_looking(unit: Unit, endpoint: str, watch: Watch, now: float) -> bool:
    """Whether an alert changes without a window: its silence is over, its notification waited, nobody watches it."""
    found = (msgspec.json.decode(row.body, type=Alert) for row in unit.alerts.list(endpoint, LIVE, MOST_ALERTS))
    return any(ended(one, watch) or alerts.tick(one, now, watch.plan) != (one, None) for one in found)


def _known(unit: Unit, endpoint: str, seen: Sequence[Observation]) -> dict[str, Kept]:
    rows = unit.alerts.list(endpoint, LIVE, MOST_ALERTS)
    have = {row.id for row in rows}
    wanted = {alerts.alert_id(endpoint, one.rule) for one in seen} - have
    rows += unit.alerts.of(sorted(wanted))
    return {row.id: Kept(row, msgspec.json.decode(row.body, type=Alert), []) for row in rows}


def _save(unit: Unit, kept: Kept) -> Told:
    """Each transition is an event under a revision of its own."""
    alert = kept.alert
    if alert is None or (not kept.transitions and kept.stored is not None and _body(alert) == kept.stored.body):
        return []
    revision = -1 if kept.stored is None else kept.stored.revision
    if not kept.transitions:
        unit.alerts.save(row_of(alert, revision + 1), None, revision)
    for transition in kept.transitions:
        row, event = row_of(alert, revision + 1), _event(alert, revision + 1, transition)
        if revision < 0:
            unit.alerts.add(row, event)
        else:
            unit.alerts.save(row, event, revision)
        revision += 1
    return [(alert, transition) for transition in kept.transitions]


def row_of(alert: Alert, revision: int) -> AlertRow:
    return AlertRow(
        id=alert.id,
        endpoint=alert.endpoint,
        rule=alert.rule,
        state=alert.state,
        created=alert.created,
        changed=alert.changed,
        revision=revision,
        body=_body(alert),
    )


class AlertChange(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to an alert: a transition, a silence, or its end."""

    event: str
    before: str
    after: str
    value: float = 0.0
    threshold: float = 0.0
    window: float = 0.0
    text: str = ""
    notified: bool = False
    who: str = ""
    reason: str = ""
    until: float = 0.0
    """Of a silence."""


def _event(alert: Alert, revision: int, transition: Transition) -> AlertEventRow:
    change = AlertChange(
        event=transition.event,
        before=transition.before,
        after=transition.after,
        value=alert.value,
        threshold=alert.threshold,
        window=alert.window,
        text=alert.text,
        notified=transition.notify,
    )
    return event_row(alert, revision, transition.time, change)


def event_row(alert: Alert, revision: int, time: float, change: AlertChange) -> AlertEventRow:
    return AlertEventRow(alert.id, revision, time, alert.state, msgspec.json.encode(change).decode())


def _body(alert: Alert) -> str:
    return msgspec.json.encode(alert).decode()
