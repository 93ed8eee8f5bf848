from __future__ import annotations

from typing import Any

import pytest

from tests.unit.control.monitoring.observed import HOUR, START
from tidegate.control.monitoring.alerts import Observation
from tidegate.control.monitoring.bounds import first_windows, of_performance
from tidegate.control.monitoring.records import Metric, Performance
from tidegate.monitor_plan import PerformancePlan, QualityBound


def measured(metrics: dict[str, Metric], **fields: Any) -> Performance:
    values: dict[str, Any] = {
        "endpoint": "churn",
        "variant": "baseline",
        "version": "3",
        "basis": "arrival",
        "start": START,
        "seconds": HOUR,
        "labels": 400,
        "predictions": 900,
        "task": "classification",
    }
    return Performance(metrics=metrics, **values | fields)


def observed(
    metric: Metric,
    name: str = "accuracy",
    reference: float | None = 0.9,
    bound: QualityBound | None = None,
    **fields: Any,
) -> list[Observation]:
    plan = PerformancePlan(bounds={name: bound} if bound else {})
    known = {} if reference is None else {name: reference}
    return [*of_performance(measured({name: metric}, **fields), known, plan, START + HOUR, complete=True)]


@pytest.mark.parametrize(
    ("name", "bound", "metric", "broken", "threshold"),
    [
        ("accuracy", None, Metric(0.80, 0.77, 0.84), True, 0.85),
        ("accuracy", None, Metric(0.80, 0.74, 0.86), False, 0.85),
        ("accuracy", QualityBound(min=0.7), Metric(0.66, 0.6, 0.71), False, 0.7),
        ("accuracy", QualityBound(min=0.7), Metric(0.66, 0.6, 0.69), True, 0.7),
        ("accuracy", QualityBound(min=0.7, max_drop=0.3), Metric(0.66, 0.6, 0.69), True, 0.7),
        ("accuracy", QualityBound(max=0.95, max_drop=0.3), Metric(0.99, 0.97, 1.0), True, 0.95),
        ("log_loss", QualityBound(max_drop=0.1), Metric(1.2, 1.1, 1.3), True, 1.0),
        ("log_loss", QualityBound(max_drop=0.1), Metric(0.2, 0.1, 0.3), False, 1.0),
        ("log_loss", QualityBound(max_drop=0.1), Metric(1.2, 0.9, 1.5), False, 1.0),
        ("rmse", QualityBound(max=5.0), Metric(7.0, 6.0, 8.0), True, 5.0),
    ],
)
def test_a_bound_is_broken_when_the_whole_interval_is_beyond_it(
    name: str, bound: QualityBound | None, metric: Metric, broken: bool, threshold: float
) -> None:
    [seen] = observed(metric, name, bound=bound)
    assert (seen.broken, seen.value, seen.rule) == (broken, metric.value, f"performance:baseline:{name}")
    assert seen.threshold == pytest.approx(threshold)


def test_the_text_names_what_was_measured_and_from_what() -> None:
    [seen] = observed(Metric(0.80, 0.77, 0.84))
    assert seen.text == (
        "accuracy of churn (baseline, version 3) is 0.8 (from 0.77 to 0.84), below 0.85, from 400 labels of 900 "
        "predictions that were kept; the reference is 0.9"
    )
    assert seen.command == f"tidegate monitor show churn --start {START:.0f}"
    assert (seen.rows, seen.window, seen.source) == (400, START, "performance")
    [fine] = observed(Metric(0.90, 0.87, 0.94), endpoint="a b; rm")
    assert "is 0.9 (from 0.87 to 0.94), not shown to be below 0.85" in fine.text
    assert fine.command == f"tidegate monitor show 'a b; rm' --start {START:.0f}"
    [other] = observed(Metric(0.90, 0.87, 0.94), variant="candidate")
    assert other.command == f"tidegate monitor show churn --variant candidate --start {START:.0f}"


def test_what_says_nothing() -> None:
    low = Metric(0.1, 0.05, 0.15)
    assert observed(low, labels=99) == [], "too few labels"
    assert observed(low, basis="estimated") == [], "an estimate accuses nobody"
    assert observed(low, reference=None) == [], "nothing to compare with"
    assert observed(low, reference=None, bound=QualityBound(min=0.5))[0].broken, "but a fixed bound needs none"
    assert observed(low, "f1") == [], "no bound"
    [of_numbers] = observed(low, "r2", task="regression")
    assert of_numbers.broken


def test_the_first_windows_are_the_reference_of_a_version_that_brought_none() -> None:
    plan = PerformancePlan()
    few = measured({"accuracy": Metric(0.1, 0.0, 0.2)}, labels=50)
    ok = [
        measured({"accuracy": Metric(value, 0, 1), "f1": Metric(0.5, 0, 1)}, labels=labels)
        for value, labels in ((0.9, 300), (0.8, 100), (0.7, 100), (0.1, 900))
    ]
    assert first_windows([few, *ok[:2]], plan) == {}
    assert first_windows([few, *ok], plan) == pytest.approx({"accuracy": (270 + 80 + 70) / 500, "f1": 0.5})
