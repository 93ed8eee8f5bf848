"""What monitoring shows on /metrics. What was estimated has a name of its own, so that no rule takes it for measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from tidegate.control.monitoring.monitor import Monitor
from tidegate.control.monitoring.records import Performance
from tidegate.errors import NotFound

if TYPE_CHECKING:
    from tidegate.control.monitoring.service import MonitorService

MOST_FEATURES = 200
"""Of one endpoint; those furthest over their threshold."""
METRICS: Mapping[str, str] = {
    "tidegate_feature_drift": "Drift of a feature in the newest window of the baseline that was checked, by the method's own "
    "statistic. By endpoint, feature and method.",
    "tidegate_model_accuracy": "Accuracy of the newest window with labels. By endpoint and variant.",
    "tidegate_model_accuracy_estimated": "Accuracy that the scores of the newest window let expect, where there are no labels "
    "yet. By endpoint and variant.",
    "tidegate_alerts_firing": "Alerts that fire, silenced ones included. By endpoint.",
    "tidegate_monitor_lag_seconds": "Age of the oldest prediction that the monitor has not read. By endpoint.",
    "tidegate_monitor_looked_seconds": "Time since the monitor's last look. By endpoint.",
}


class Sample(NamedTuple):
    name: str
    labels: Mapping[str, str]
    value: float


def samples(service: MonitorService, now: float) -> Iterator[Sample]:
    """Of endpoints that the configuration lists; features are the baseline's columns."""
    for monitor in service.monitors():
        own = {"endpoint": monitor.endpoint}
        yield Sample("tidegate_alerts_firing", own, monitor.firing)
        yield Sample("tidegate_monitor_lag_seconds", own, monitor.lag_seconds)
        if monitor.looked:
            yield Sample("tidegate_monitor_looked_seconds", own, max(0.0, now - monitor.looked))
        yield from _drift(service, monitor)
        for watched in monitor.variants:
            labels = {**own, "variant": watched.variant}
            for name, found in (
                ("tidegate_model_accuracy", watched.performance),
                ("tidegate_model_accuracy_estimated", watched.estimated),
            ):
                if found is not None and "accuracy" in found.metrics:
                    yield Sample(name, labels, _accuracy(found))


def _accuracy(found: Performance) -> float:
    return found.metrics["accuracy"].value


def _drift(service: MonitorService, monitor: Monitor) -> Iterator[Sample]:
    name = next((one.report for one in monitor.variants if one.variant == "baseline"), "")
    if not name:
        return
    try:
        report = service.report(name)
    except NotFound:  # it was too old to be kept
        return
    worst = sorted(report.columns, key=lambda one: one.threshold and -one.statistic / one.threshold)
    for one in worst[:MOST_FEATURES]:
        labels = {"endpoint": monitor.endpoint, "feature": one.column, "method": one.method}
        yield Sample("tidegate_feature_drift", labels, one.statistic)
