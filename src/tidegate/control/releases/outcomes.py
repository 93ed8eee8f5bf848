"""Outcomes of predictions whose labels have come: moments per variant, for the outcome guardrail."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from tidegate.control.analysis.means import Moments
from tidegate.control.releases.look import Measured
from tidegate.control.releases.release import Release
from tidegate.observations import label_of
from tidegate.settings import OutcomeGuardrail, seconds_of
from tidegate.storage.records import Labelled
from tidegate.storage.store import Unit

_NAMES = ("labels", "predictions")


def measured(unit: Unit, release: Release, index: int, rail: OutcomeGuardrail, now: float) -> Measured:
    """Predictions made since the candidate got its first share, and long enough ago for their labels to have come: the
    labels that come first need not be like the others."""
    until = now - seconds_of(rail.wait)
    found = unit.feedback.labels(release.endpoint, rail.metric, release.began, until) if until > release.began else []
    sides = {name: moments(_values(found, name, release.first)) for name in ("baseline", "candidate")}
    return Measured(index, sides["baseline"], sides["candidate"])


def moments(values: Sequence[float]) -> Moments:
    n = len(values)
    if not n:
        return Moments()
    mean = sum(values) / n
    return Moments(n, mean, sum((value - mean) ** 2 for value in values) / (n - 1) if n > 1 else 0.0)


def _values(found: Iterable[Labelled], variant: str, first: int) -> list[float]:
    values = (
        value_of(one)
        for one in found
        if one.event.variant == variant and not one.event.forced and one.event.snapshot >= first
    )
    return [value for value in values if value is not None]


def value_of(labelled: Labelled) -> float | None:
    """The number that was sent, or whether the predicted label is the true one; None where neither can be told."""
    if labelled.feedback.value is not None:
        return labelled.feedback.value
    if labelled.feedback.label is None or labelled.event.rows != 1:
        return None
    predicted = _predicted(labelled.event.outputs)
    return None if predicted is None else float(predicted == label_of(labelled.feedback.label))


def _predicted(outputs: bytes) -> str | None:
    try:
        named = msgspec.json.decode(outputs, type=dict[str, list[object]])
    except (msgspec.MsgspecError, UnicodeDecodeError):  # left out because it was too large, or no JSON
        return None
    values = next((named[name] for name in _NAMES if name in named), next(iter(named.values()), None))
    return label_of(values[0]) if values and not isinstance(values[0], list | dict) else None
