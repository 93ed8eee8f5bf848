"""Outcomes of predictions whose labels have come: moments per variant, for the outcome guardrail."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from tidegate.control.analysis.means import Moments
from tidegate.control.releases.history import entry_of
from tidegate.control.releases.look import Measured
from tidegate.control.releases.release import Release
from tidegate.observations import PredictionEvent, label_of, outputs_of
from tidegate.section import seconds_of
from tidegate.settings import OutcomeGuardrail
from tidegate.storage.records import Labelled
from tidegate.storage.store import Unit

_SIDES = ("baseline", "candidate")
_NAMES = ("labels", "predictions")
_LARGEST = 1e100
"""Numbers are cut here, so that their squares can still be added up: JSON has no infinity."""


def measured(unit: Unit, release: Release, index: int, rail: OutcomeGuardrail, now: float) -> Measured:
    """Predictions made since the candidate got its first share, and long enough ago for their labels to have come: the
    labels that come first need not be like the others."""
    until = now - seconds_of(rail.wait)
    steps = [entry.snapshot for row in unit.releases.events(release.id) if (entry := entry_of(row)).snapshot]
    strata: dict[int, tuple[Running, Running]] = {}
    found = unit.feedback.labels(release.endpoint, rail.metric, release.began, until)
    for event, value in by_request(found):
        if event.variant not in _SIDES or event.forced or event.snapshot < release.first:
            continue
        sides = strata.setdefault(bisect_right(steps, event.snapshot), (Running(), Running()))
        sides[_SIDES.index(event.variant)].add(value)
    return Measured(index, *side_by_side([(base.moments, cand.moments) for base, cand in strata.values()]))


def by_request(labelled: Iterable[Labelled]) -> Iterator[tuple[PredictionEvent, float]]:
    """One value a request, the mean of its rows': its rows got their variant together, so they are no evidence of their
    own each."""
    for _, rows in groupby(labelled, lambda one: (one.event.request_id, one.event.time)):
        event, values = None, []
        for one in rows:
            if (value := value_of(one)) is not None:
                event = one.event
                values.append(value)
        if event is not None:
            yield event, math.fsum(value / len(values) for value in values)


def side_by_side(steps: Sequence[tuple[Moments, Moments]]) -> tuple[Moments, Moments]:
    """Of both variants, each step with the same weight for both. Simply pooled, the baseline would have most of its labels
    from the first steps and the candidate from the last ones, and what changed between them would pass for a difference.

    The weights (Mantel & Haenszel) make the most of the labels; a step in which one side has hardly any says nothing.
    """
    both = [(base, cand) for base, cand in steps if min(base.n, cand.n) > 1]
    weights = [base.n * cand.n / (base.n + cand.n) for base, cand in both]
    total = math.fsum(weights)

    def joined(sides: Sequence[Moments]) -> Moments:
        n = sum(side.n for side in sides)
        mean = math.fsum(weight / total * side.mean for weight, side in zip(weights, sides, strict=True))
        squared = math.fsum(
            (weight / total) ** 2 * side.variance / side.n for weight, side in zip(weights, sides, strict=True)
        )
        return Moments(n, mean, squared * n)

    return joined([base for base, _ in both]), joined([cand for _, cand in both])


class Running:
    """Moments of numbers that come one by one and are not kept (Welford)."""

    def __init__(self) -> None:
        self._n = 0
        self._mean = self._squares = 0.0

    def add(self, value: float) -> None:
        self._n += 1
        gap = value - self._mean
        self._mean += gap / self._n
        self._squares += gap * (value - self._mean)

    @property
    def moments(self) -> Moments:
        return Moments(self._n, self._mean, self._squares / (self._n - 1) if self._n > 1 else 0.0)


def value_of(labelled: Labelled) -> float | None:
    """The number that was sent, or whether the predicted label is the true one; None where neither can be told."""
    if labelled.feedback.value is not None:
        return max(-_LARGEST, min(labelled.feedback.value, _LARGEST))
    if labelled.feedback.label is None or labelled.row is None:
        return None
    predicted = _predicted(labelled.event.outputs, labelled.row)
    return None if predicted is None else float(predicted == label_of(labelled.feedback.label))


def _predicted(outputs: bytes, row: int) -> str | None:
    named = outputs_of(outputs)
    values = next((named[name] for name in _NAMES if name in named), next(iter(named.values()), None))
    if not values or row >= len(values) or isinstance(values[row], list | dict):
        return None
    return label_of(values[row])
