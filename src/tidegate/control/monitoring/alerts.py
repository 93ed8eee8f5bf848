"""The state machine of an alert: observations and the time in, the next alert and what it did out. Pure.

An endpoint has one alert for each rule, such as ``drift:baseline:age``; it is made by the first window in which the rule
is broken, and comes and goes after that. ``broken`` and ``right`` count windows in a row; one of them is always 0.

    ok ────▶ pending ────▶ firing ────▶ resolved
    ▲ │         │          ▲    ▲          │  │
    │ └─────────┼──────────┘    └──────────┘  │
    └───────────┘                             └─▶ pending

- A broken window adds to ``broken``. With more than ``plan.pending`` in a row the alert fires; before it is pending, and
  one right window ends that: the alert is ok, or resolved if it ever fired.
- ``plan.resolve`` right windows in a row resolve an alert that fires.
- A window counts once, however often it is looked at; a later look at the same window may change what it counted as. Of
  windows that are older than the newest one that counted nothing is learned.
- A window that is not over yet may show that something is wrong, but not that all is well: it adds to ``broken`` alone.
- Another version of the model starts the streak anew. An alert that fires goes on firing until windows of the new version
  were right; one that was pending must be confirmed by windows of the new version alone.
- What is not watched any more (``withdraw``) is ok, or resolved.

A notification is due when an alert fires, or is resolved, and the newest notification did not say so. It waits until
``plan.cooldown`` has passed since the one before, and is not sent at all when by then things are as they were told: an
alert that comes and goes is told once. A silence changes no state and notifies nobody. When it is over, what is due is
told, and an alert that still fires is told again. ``tick`` finds what is due without a new window.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec
from msgspec.structs import replace

from tidegate.control.monitoring.records import Alert, AlertState, Source
from tidegate.monitor_plan import MonitorPlan
from tidegate.section import seconds_of

LEGAL: frozenset[tuple[AlertState, AlertState]] = frozenset(
    {
        ("ok", "pending"), ("ok", "firing"),
        ("pending", "ok"), ("pending", "firing"), ("pending", "resolved"),
        ("firing", "resolved"),
        ("resolved", "pending"), ("resolved", "firing"),
    }
)  # fmt: skip
"""Changes of state that there are."""

Event = Literal["pending", "fired", "resolved", "ok", "silence_over", "told"]
"""``told``: the state is as it was, and a notification that had waited is due."""


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What one look at one window says about one rule. ``window`` is its start, ``complete`` whether it is over."""

    endpoint: str
    rule: str
    source: Source
    variant: str
    version: str
    column: str = ""
    statistic: str
    value: float
    threshold: float
    broken: bool
    complete: bool
    rows: int
    reference_rows: int = 0
    window: float
    window_seconds: float
    time: float
    """Of the look."""
    report: str = ""
    text: str
    command: str


class Transition(msgspec.Struct, frozen=True):
    """What happened to an alert. ``notify``: people are to be told now."""

    event: Event
    before: AlertState
    after: AlertState
    time: float
    notify: bool = False


class IllegalTransition(AssertionError):
    """A fault of ours; the message has the alert as it was."""


def alert_id(endpoint: str, rule: str) -> str:
    """The same for a rule for ever, so that two writers cannot make two alerts of it."""
    digest = hashlib.sha256("\0".join((endpoint, rule)).encode()).hexdigest()
    return f"a-{digest[:16]}"


def observe(alert: Alert | None, seen: Observation, plan: MonitorPlan) -> tuple[Alert | None, Transition | None]:
    """The alert after a look; None as long as nothing was ever wrong. The alert may differ without a transition."""
    if alert is None:
        if not seen.broken:
            return None, None
        alert = _first(seen)
    elif seen.window < alert.window:
        return tick(alert, seen.time, plan)
    else:
        counted = _counted(alert, seen)
        if counted is None:
            return tick(alert, seen.time, plan)
        alert = counted
    after = _state(alert, plan)
    event = None if after == alert.state else _EVENTS[after]
    return _settled(alert, after, event, seen.time, plan)


def tick(alert: Alert, now: float, plan: MonitorPlan) -> tuple[Alert, Transition | None]:
    """Without a new window: the end of a silence, and notifications that waited for the cool-down."""
    return _settled(alert, alert.state, None, now, plan)


def withdraw(alert: Alert, now: float, plan: MonitorPlan, why: str) -> tuple[Alert, Transition | None]:
    """The rule is not watched any more: the variant is gone, or the model has no such column. ``why`` becomes the text."""
    after: AlertState = "resolved" if alert.state == "firing" or alert.fired else "ok"
    if alert.state not in ("pending", "firing"):
        return tick(alert, now, plan)
    return _settled(replace(alert, broken=0, right=0, text=why), after, _EVENTS[after], now, plan)


def silence(alert: Alert, until: float, who: str) -> Alert:
    """Nobody is notified before ``until``; a silence that is there already is replaced."""
    return replace(alert, silenced_until=until, silenced_by=who)


def unsilence(alert: Alert, now: float) -> Alert:
    """The silence ends now; the next ``tick`` tells what is due."""
    return replace(alert, silenced_until=min(alert.silenced_until, now))


def is_silenced(alert: Alert, now: float) -> bool:
    return alert.silenced_until > now


_EVENTS: dict[AlertState, Event] = {"pending": "pending", "firing": "fired", "resolved": "resolved", "ok": "ok"}


def _first(seen: Observation) -> Alert:
    return Alert(
        id=alert_id(seen.endpoint, seen.rule),
        endpoint=seen.endpoint,
        rule=seen.rule,
        source=seen.source,
        variant=seen.variant,
        version=seen.version,
        column=seen.column,
        state="ok",
        statistic=seen.statistic,
        value=seen.value,
        threshold=seen.threshold,
        rows=seen.rows,
        reference_rows=seen.reference_rows,
        window=seen.window,
        window_seconds=seen.window_seconds,
        broken=1,
        created=seen.time,
        changed=seen.time,
        report=seen.report,
        text=seen.text,
        command=seen.command,
    )


def _counted(alert: Alert, seen: Observation) -> Alert | None:
    """With the window in its streak; None where it says nothing new."""
    again = seen.window == alert.window and seen.version == alert.version
    broken, right = (alert.broken, alert.right) if seen.version == alert.version else (0, 0)
    if seen.broken:
        broken, right = broken if again and broken else broken + 1, 0
    elif seen.complete:
        broken, right = 0, right if again and right else right + 1
    else:
        return None
    return replace(
        alert,
        version=seen.version,
        statistic=seen.statistic,
        value=seen.value,
        threshold=seen.threshold,
        rows=seen.rows,
        reference_rows=seen.reference_rows,
        window=seen.window,
        window_seconds=seen.window_seconds,
        broken=broken,
        right=right,
        report=seen.report,
        text=seen.text,
        command=seen.command,
    )


def _state(alert: Alert, plan: MonitorPlan) -> AlertState:
    """What the streak makes of the state."""
    if alert.state == "firing":
        return "resolved" if alert.right >= plan.resolve else "firing"
    if alert.broken > plan.pending:
        return "firing"
    if alert.broken:
        return "pending"
    return "resolved" if alert.fired else "ok"


def _settled(
    alert: Alert, after: AlertState, event: Event | None, now: float, plan: MonitorPlan
) -> tuple[Alert, Transition | None]:
    """Changes the state, ends a silence, and decides whether people are told."""
    before = alert.state
    if after != before:
        if (before, after) not in LEGAL:
            raise IllegalTransition(f"{before} → {after}: {alert!r}")
        alert = replace(
            alert,
            state=after,
            changed=now,
            fired=now if after == "firing" else alert.fired,
            resolved=now if after == "resolved" and before == "firing" else alert.resolved,
        )
    if alert.silenced_until and not is_silenced(alert, now):
        told = "ok" if alert.state == "firing" else alert.told
        alert = replace(alert, silenced_until=0.0, silenced_by="", told=told)
        event = event or "silence_over"
    notify = _is_due(alert, now, plan)
    if notify:
        alert = replace(alert, told=alert.state, notified=now)
        event = event or "told"
    return alert, None if event is None else Transition(event, before, alert.state, now, notify)


def _is_due(alert: Alert, now: float, plan: MonitorPlan) -> bool:
    if is_silenced(alert, now):
        return False
    news = alert.told != "firing" if alert.state == "firing" else alert.state == "resolved" and alert.told == "firing"
    return news and (not alert.notified or now - alert.notified >= seconds_of(plan.cooldown))
