"""Bounds on the quality of predictions: what a measured window says to the alerts. Pure.

A bound is broken when the whole interval is beyond it, so that a window of few labels accuses nobody. An estimate without
labels raises no alert: it may be wrong exactly when the inputs have changed.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping

from tidegate.control.monitoring.alerts import Observation
from tidegate.control.monitoring.performance import LOWER_IS_BETTER
from tidegate.control.monitoring.records import Metric, Performance
from tidegate.monitor_plan import PerformancePlan, QualityBound

FIRST_WINDOWS = 3
"""Whose mean is the reference of a version that brought none."""
UNSET: Mapping[str, Mapping[str, QualityBound]] = {
    "classification": {"accuracy": QualityBound(max_drop=0.05)},
    "regression": {"r2": QualityBound(max_drop=0.05)},
}
"""By task, where the plan has no bounds."""


def bounds_of(plan: PerformancePlan) -> list[Mapping[str, QualityBound]]:
    """By metric, for each task that may be predicted."""
    return [plan.bounds] if plan.bounds else list(UNSET.values())


def of_performance(
    found: Performance, reference: Mapping[str, float], plan: PerformancePlan, now: float, complete: bool
) -> Iterator[Observation]:
    """One observation for each metric that has a bound and was measured; none for too few labels, or for an estimate.

    ``reference`` are the metrics of the training, or of ``first_windows``; without one ``max_drop`` says nothing.
    """
    if found.basis == "estimated" or found.labels < plan.min_labels:
        return
    for name, bound in (plan.bounds or UNSET[found.task]).items():
        metric = found.metrics.get(name)
        limits = limits_of(name, bound, reference.get(name))
        if metric is None or not limits:
            continue
        broken = [limit for limit in limits if is_beyond(metric, *limit)]
        side, limit = broken[0] if broken else limits[0]
        yield Observation(
            endpoint=found.endpoint,
            rule=f"performance:{found.variant}:{name}",
            source="performance",
            variant=found.variant,
            version=found.version,
            statistic=name,
            value=metric.value,
            threshold=limit,
            broken=bool(broken),
            complete=complete,
            rows=found.labels,
            window=found.start,
            window_seconds=found.seconds,
            time=now,
            text=_text(found, name, metric, side, limit, bool(broken), reference.get(name)),
            command=show_command(found.endpoint, found.variant, found.start),
        )


def show_command(endpoint: str, variant: str, start: float | None, column: str = "") -> str:
    """For a shell: shows the very window that an alert is about, however much later it is read; without a ``start`` the
    newest one."""
    words = ["tidegate", "monitor", "show", endpoint]
    if variant != "baseline":
        words += ["--variant", variant]
    if column:
        words += ["--column", column]
    if start is not None:
        words += ["--start", repr(float(start)).removesuffix(".0")]
    return shlex.join(words)


def limits_of(name: str, bound: QualityBound, reference: float | None) -> list[tuple[str, float]]:
    """``("below", limit)`` or ``("above", limit)`` for what must not be; the drop first, it is what is set most."""
    found = []
    if bound.max_drop is not None and reference is not None:
        worse = name in LOWER_IS_BETTER
        found.append(("above", reference + bound.max_drop) if worse else ("below", reference - bound.max_drop))
    if bound.min is not None:
        found.append(("below", bound.min))
    if bound.max is not None:
        found.append(("above", bound.max))
    return found


def is_beyond(metric: Metric, side: str, limit: float) -> bool:
    return metric.high < limit if side == "below" else metric.low > limit


def first_windows(
    measured: Iterable[Performance], plan: PerformancePlan, windows: int = FIRST_WINDOWS
) -> dict[str, float]:
    """Mean metrics, by labels, of the first windows with enough of them: what is known of a version that brought no
    metrics of its training. Empty until there are so many. ``measured`` is of one variant and version, in the order of
    time, of windows that are over."""
    first = [one for one in measured if one.basis != "estimated" and one.labels >= plan.min_labels][:windows]
    if len(first) < windows:
        return {}
    names = set.intersection(*(set(one.metrics) for one in first))
    labels = sum(one.labels for one in first)
    return {name: sum(one.metrics[name].value * one.labels for one in first) / labels for name in sorted(names)}


def _text(
    found: Performance, name: str, metric: Metric, side: str, limit: float, broken: bool, reference: float | None
) -> str:
    is_or_not = side if broken else f"not shown to be {side}"
    text = (
        f"{name} of {found.endpoint} ({found.variant}, version {found.version}) is {metric.value:.4g} "
        f"(from {metric.low:.4g} to {metric.high:.4g}), {is_or_not} {limit:.4g}, from {found.labels:,} labels "
        f"of {found.predictions:,} predictions that were kept"
    )
    return text if reference is None else f"{text}; the reference is {reference:.4g}"
