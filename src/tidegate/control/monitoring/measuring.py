"""Quality of predictions: which windows got labels since the last look, what they say now, and which bounds they break."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from tidegate.control.monitoring import bounds, labelled
from tidegate.control.monitoring.alerts import Observation
from tidegate.control.monitoring.records import Basis, Performance
from tidegate.control.monitoring.state import start_of
from tidegate.monitor_plan import PerformancePlan

if TYPE_CHECKING:
    from tidegate.storage.store import Unit

FIRST_LOOKED_AT = 50
"""Windows of a version among which its first ones with enough labels are sought."""


class News(NamedTuple):
    """Starts of windows that got labels: by the time of the prediction, and of the label's arrival; and whether any label
    came, be it for a prediction too old to count."""

    made: set[float]
    came: set[float]
    any: bool


def news_of(unit: Unit, endpoint: str, metric: str, since: float, oldest: float, seconds: float) -> News:
    """From labels that came at ``since`` or later, for predictions of ``oldest`` or later."""
    made, came, found = set(), set(), False
    for time, received in unit.feedback.times(endpoint, metric, since):
        found = True
        if time >= oldest:
            made.add(start_of(time, seconds))
            came.add(start_of(received, seconds))
    return News(made, came, found)


def measured(
    unit: Unit, endpoint: str, basis: Basis, start: float, seconds: float, plan: PerformancePlan
) -> list[Performance]:
    """Of all variants in one window."""
    end = start + seconds

    def made(since: float, until: float) -> Mapping[tuple[str, str], int]:
        return unit.events.made(endpoint, since, until)

    if basis == "estimated":
        return list(
            labelled.estimates(unit.events.answers(endpoint, start, end), endpoint=endpoint, seconds=seconds, plan=plan)
        )
    found = (
        unit.feedback.labels(endpoint, plan.metric, start, end, answers=True)
        if basis == "prediction"
        else unit.feedback.arrived(endpoint, plan.metric, start, end)
    )
    return list(labelled.performances(found, endpoint=endpoint, basis=basis, seconds=seconds, plan=plan, made=made))


def observations(
    unit: Unit,
    found: Iterable[Performance],
    trained: Mapping[str, Mapping[str, float]],
    plan: PerformancePlan,
    now: float,
    settled: float,
) -> Iterator[Observation]:
    """Of windows of predictions; those of arrival show the same labels in another order. ``trained``: metrics of the
    training, by version."""
    for one in found:
        if one.basis == "prediction":
            reference = trained.get(one.version) or first_windows(unit, one, plan, now)
            yield from bounds.of_performance(
                one, reference, plan, now, complete=now >= one.start + one.seconds + settled
            )


def first_windows(unit: Unit, one: Performance, plan: PerformancePlan, now: float) -> dict[str, float]:
    """Of the version, whatever variant it was then: who was a candidate is the baseline now."""
    rows = unit.monitors.first_performance(one.endpoint, one.version, "prediction", FIRST_LOOKED_AT)
    known = [msgspec.json.decode(row.body, type=Performance) for row in rows]
    return bounds.first_windows((first for first in known if first.start + first.seconds <= now), plan)


def trained_metrics(metadata: Mapping[str, str]) -> dict[str, float]:
    """What the training measured, by metric, as it was registered with the version."""
    try:
        told = msgspec.json.decode(metadata.get("metrics", "{}"), type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):  # somebody edited the tag
        return {}
    values = {name: one.get("value") if isinstance(one, dict) else one for name, one in told.items()}
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
