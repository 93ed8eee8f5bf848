"""When a model is trained anew by itself: pure. Facts in, a decision out, with its reason in either case."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tidegate.control.monitoring.records import Alert
from tidegate.control.training.retraining import Trigger
from tidegate.monitor_plan import RetrainPlan
from tidegate.section import seconds_of

WEEK = 7 * 86_400.0


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """``labels`` is None where nobody counted: the rule about them is left out then. ``began``: when the model that serves
    came to be, for a schedule before the first retraining."""

    now: float
    version: str
    """That serves now."""
    alerts: Sequence[Alert] = ()
    """Those that fire."""
    open: str = ""
    """Id of a retraining that has not ended."""
    last: float = 0.0
    """When the newest one was asked for, by whomever; 0 for none."""
    began: float = 0.0
    week: int = 0
    """Those of the last seven days that began by themselves."""
    labels: int | None = None
    """Labelled rows of production since the last one."""
    metric: str = ""
    """Whose feedback labels them."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    start: bool
    reason: str
    trigger: Trigger = "alert"
    alerts: tuple[str, ...] = ()
    reports: tuple[str, ...] = ()


def decide(plan: RetrainPlan, facts: Facts) -> Decision:
    """Whether to begin, and why, or why not: the first thing that stands in the way."""
    wanted = _wanted(plan, facts)
    if not wanted.start:
        return wanted
    if facts.open:
        return _no(wanted, f"retraining {facts.open} has not ended yet")
    ready = facts.last + seconds_of(plan.cooldown)
    if facts.last and facts.now < ready:
        return _no(wanted, f"the last one was {_ago(facts.now - facts.last)} ago; cooldown is {plan.cooldown}")
    if facts.week >= plan.max_per_week:
        return _no(
            wanted, f"{facts.week} began by themselves in the last seven days; max_per_week is {plan.max_per_week}"
        )
    if plan.mode == "combined" and facts.labels is not None and facts.labels < plan.min_labels:
        since = " since the last one" if facts.last else ""
        return _no(
            wanted,
            f"{facts.labels} rows were labelled{since}, by feedback of the metric {facts.metric!r}; min_labels is "
            f"{plan.min_labels}",
        )
    return wanted


def _wanted(plan: RetrainPlan, facts: Facts) -> Decision:
    """An alert about the version that serves now; what fired about an older one is over with it."""
    found = [alert for alert in facts.alerts if _counts(alert, plan, facts)]
    if found:
        first = found[0].text + (f", and {len(found) - 1} more" if len(found) > 1 else "")
        reports = dict.fromkeys(alert.report for alert in found if alert.report)
        return Decision(start=True, reason=first, alerts=tuple(one.id for one in found), reports=tuple(reports))
    since = max(facts.last, facts.began)
    if plan.every is not None and since and facts.now - since >= seconds_of(plan.every):
        return Decision(start=True, reason=f"the last training was {_ago(facts.now - since)} ago", trigger="schedule")
    return Decision(start=False, reason="no alert that starts it fires" + _not_yet(plan, since))


def _not_yet(plan: RetrainPlan, since: float) -> str:
    if plan.every is None:
        return ""
    if not since:
        return ", and no registry says how old the model is: the first one is a person's to start"
    return ", and it is not time yet"


def _counts(alert: Alert, plan: RetrainPlan, facts: Facts) -> bool:
    return (
        alert.state == "firing"
        and alert.source in plan.on
        and alert.variant == "baseline"
        and (not facts.version or alert.version == facts.version)
        and alert.silenced_until <= facts.now
    )


def _no(wanted: Decision, why: str) -> Decision:
    return msgspec.structs.replace(wanted, start=False, reason=f"{why} (wanted since: {wanted.reason})")


def _ago(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
