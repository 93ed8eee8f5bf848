"""How a figure went over time: quality with intervals, a feature's statistic, with the releases that came between. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tidegate.console import text
from tidegate.console.pictures import TABLE_ROWS, Picture
from tidegate.control.monitoring.records import Basis, ColumnResult, DriftReport, Metric, Performance

PREFERRED = ("accuracy", "r2", "f1", "roc_auc", "rmse", "mae", "log_loss", "brier")
"""Which metric stands for all where there is room for one."""


class Mark(NamedTuple):
    """Something that happened, as an upright line."""

    time: float
    name: str
    tone: str
    """good or bad"""


def main_metric(names: Iterable[str], bounds: Iterable[str] = ()) -> str:
    """The one that is bounded, or else the commonest; empty when there is none."""
    known = list(names)
    return next((name for name in (*bounds, *PREFERRED, *known) if name in known), "")


def quality(
    windows: Sequence[Performance],
    metric: str,
    basis: Basis,
    marks: Sequence[Mark] = (),
    bounds: Mapping[str, float] | None = None,
) -> Picture | None:
    """One metric of every variant, from labels by the time of ``basis``, and estimated where there are no labels."""
    series: dict[tuple[str, bool], list[list[float | None]]] = {}
    rows = []
    for window in windows:
        found = window.metrics.get(metric)
        estimated = window.basis == "estimated"
        if found is None or window.basis not in (basis, "estimated"):
            continue
        middle = window.start + window.seconds / 2
        point: list[float | None] = [round(middle * 1000), found.value, found.low, found.high]
        series.setdefault((window.variant, estimated), []).append(point)
        rows.append(
            [
                text.absolute(window.start)[:-7],
                f"{window.variant} {text.version(window.version)}" + (", estimated" if estimated else ""),
                text.number(found.value),
                f"{text.number(found.low)} to {text.number(found.high)}",
                text.number(window.labels) if not estimated else text.DASH,
            ]
        )
    if not series:
        return None
    payload = {
        "series": [
            {
                "name": f"{variant}, estimated" if estimated else variant,
                "role": variant,
                "dashed": estimated,
                "points": own,
            }
            for (variant, estimated), own in sorted(series.items())
        ],
        **_frame(marks, bounds),
    }
    return Picture(payload, ["Window", "Variant", metric, "Interval", "Labels"], rows[-TABLE_ROWS:][::-1])


def statistic(reports: Sequence[DriftReport], column: str, marks: Sequence[Mark] = ()) -> Picture | None:
    """How far one feature was from its reference in each window, beside what that had to exceed."""
    found: list[tuple[DriftReport, ColumnResult]] = []
    for report in sorted(reports, key=lambda report: report.start):
        found += [(report, result) for result in report.columns if result.column == column and not result.note]
    if not found:
        return None

    def points(of: str) -> list[list[float | None]]:
        return [[round(report.start * 1000), getattr(result, of), None, None] for report, result in found]

    payload = {
        "series": [
            {"name": found[-1][1].method, "role": "candidate", "dashed": False, "points": points("statistic")},
            {"name": "threshold", "role": "limit", "dashed": True, "points": points("threshold")},
        ],
        **_frame(marks, None),
    }
    rows = [
        [
            text.absolute(report.start)[:-7],
            f"{result.method} {text.number(result.statistic)}",
            text.number(result.threshold),
            text.number(result.q_value),
            text.number(result.rows),
            "yes" if result.drifted else "no",
        ]
        for report, result in found
    ]
    return Picture(payload, ["Window", "Statistic", "Threshold", "q", "Rows", "Drifted"], rows[-TABLE_ROWS:][::-1])


def written(metric: Metric) -> str:
    """0.91 (0.89 to 0.93)."""
    return f"{text.number(metric.value)} ({text.number(metric.low)} to {text.number(metric.high)})"


def newest(windows: Sequence[Performance], metric: str, basis: Basis, variant: str) -> Performance | None:
    """The last window of a variant that has the metric."""
    return next(
        (
            window
            for window in reversed(windows)
            if window.basis == basis and window.variant == variant and metric in window.metrics
        ),
        None,
    )


def _frame(marks: Sequence[Mark], bounds: Mapping[str, float] | None) -> dict[str, Any]:
    return {
        "marks": [[round(mark.time * 1000), mark.name, mark.tone] for mark in marks],
        "lines": [[value, name] for name, value in (bounds or {}).items()],
    }
