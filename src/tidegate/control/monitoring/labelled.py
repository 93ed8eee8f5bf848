"""Labels beside predictions, and predictions alone, made into the quality of windows. Streams in, records out.

Only one window is kept at a time, so the streams come in the order of the time that counts: ``feedback.labels`` for windows
of predictions, ``feedback.arrived`` for one window of arrival, ``events.answers`` for estimates. Forced requests are left out,
as in all of monitoring: whoever sends them is looking at something.

A label belongs to a row of a request; one that names no row counts where the request had one only. What came as a number
is compared with ``predictions``, what came as a text with ``labels`` where the model has them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, Generic, Literal, TypeVar

import msgspec

from tidegate.control.monitoring import estimate
from tidegate.control.monitoring.performance import MOST_CLASSES, Task, measure
from tidegate.control.monitoring.records import Performance
from tidegate.monitor_plan import PerformancePlan
from tidegate.observations import PredictionEvent, outputs_of
from tidegate.storage.records import Labelled

MOST_LABELS = 50_000
"""Of one window, variant and version; of more, a random part is looked at."""

Key = tuple[str, str]
"""Variant and version."""

Kept = TypeVar("Kept")


class Answer(msgspec.Struct, frozen=True):
    """What was predicted for one row. ``label`` is None where the model has no names for its classes."""

    prediction: Any
    label: str | None = None
    scores: tuple[float, ...] = ()


class Pair(msgspec.Struct, frozen=True):
    truth: str | float
    predicted: Any
    scores: tuple[float, ...] = ()
    classes: bool = False
    """Whether the truth or the answer can only be that of a classifier."""


def performances(
    labelled: Iterable[Labelled],
    *,
    endpoint: str,
    basis: Literal["prediction", "arrival"],
    seconds: float,
    plan: PerformancePlan,
    classes: Mapping[Key, Sequence[str]] | None = None,
    made: Callable[[float, float], Mapping[Key, int]] | None = None,
) -> Iterator[Performance]:
    """Of each window, variant and version with a label that counts; in the order of time. ``classes`` are the models' own
    names, where they are known. ``made(start, end)`` counts predictions, as ``events.made`` does."""

    def read() -> Iterator[Counted]:
        for one in labelled:
            if (pair := pair_of(one)) is not None:
                yield (one.event.time if basis == "prediction" else one.feedback.received), one.event, pair

    for start, groups in _windows(read(), endpoint, seconds):
        count = made(start, start + seconds) if made else {}
        for key, group in sorted(groups.items()):
            names = (classes or {}).get(key, ())
            task = task_of(group.kept, plan)
            yield Performance(
                endpoint=endpoint,
                variant=key[0],
                version=key[1],
                basis=basis,
                start=start,
                seconds=seconds,
                labels=group.seen,
                predictions=max(count.get(key, 0), group.seen if basis == "prediction" else 0),
                task=task,
                metrics=measure(
                    [pair.truth for pair in group.kept],
                    [pair.predicted for pair in group.kept],
                    scores_of(group.kept),
                    names,
                    task,
                    plan.positive,
                    plan.alpha,
                ),
            )


def estimates(
    events: Iterable[PredictionEvent],
    *,
    endpoint: str,
    seconds: float,
    plan: PerformancePlan,
    classes: Mapping[Key, Sequence[str]] | None = None,
) -> Iterator[Performance]:
    """What the scores of each window let expect, for classifiers whose scores are probabilities; basis ``estimated``."""

    def read() -> Iterator[Counted]:
        for event in events:
            answered = max(map(len, outputs_of(event.outputs).values()), default=0)
            for row in range(min(event.rows, answered)):
                answer = answer_of(event, row)
                if answer is not None and answer.scores:
                    yield event.time, event, Pair("", answer.label or answer.prediction, answer.scores, True)

    for start, groups in _windows(read(), endpoint, seconds):
        for key, group in sorted(groups.items()):
            found = estimate.expected(
                scores_of(group.kept),
                [pair.predicted for pair in group.kept],
                (classes or {}).get(key, ()),
                plan.positive,
                plan.alpha,
            )
            if found:
                yield Performance(
                    endpoint=endpoint,
                    variant=key[0],
                    version=key[1],
                    basis="estimated",
                    start=start,
                    seconds=seconds,
                    labels=0,
                    predictions=group.seen,
                    task="classification",
                    metrics=found,
                )


def pair_of(one: Labelled) -> Pair | None:
    """None where the label says nothing about a prediction that is known."""
    answer = None if one.row is None else answer_of(one.event, one.row)
    if answer is None:
        return None
    classes = bool(answer.scores) or answer.label is not None or not isinstance(answer.prediction, float)
    if one.feedback.value is not None:
        return Pair(one.feedback.value, answer.prediction, answer.scores, classes)
    if one.feedback.label is None:
        return None
    predicted = answer.prediction if answer.label is None else answer.label
    return Pair(one.feedback.label, predicted, answer.scores, classes)


def answer_of(event: PredictionEvent, row: int) -> Answer | None:
    """None for outputs that were not kept, and for answers that are no single value."""
    if event.forced:
        return None
    own = {name: values[row] for name, values in outputs_of(event.outputs).items() if row < len(values)}
    label, scores = own.pop("labels", None), _scores(own.pop("scores", None))
    prediction = own.get("predictions", next(iter(own.values()), label))
    if isinstance(prediction, list | dict) or prediction is None:
        return None
    return Answer(prediction, None if label is None else str(label), scores)


def _scores(values: Any) -> tuple[float, ...]:
    several = values if isinstance(values, list) else [values]
    if len(several) > MOST_CLASSES or not all(isinstance(one, int | float) for one in several):
        return ()
    return tuple(map(float, several))


def scores_of(pairs: Sequence[Pair]) -> list[tuple[float, ...]] | None:
    """One row a pair, NaN where a pair has none; None where most have none, or they are of several lengths."""
    widths = {len(pair.scores) for pair in pairs if pair.scores}
    if len(widths) != 1:
        return None
    missing = (math.nan,) * widths.pop()
    return [pair.scores or missing for pair in pairs]


def task_of(pairs: Sequence[Pair], plan: PerformancePlan) -> Task:
    """As the plan says; else numbers with a fraction are a regression, where every true value is a number."""
    if plan.task != "auto":
        return plan.task
    return "classification" if any(pair.classes or not _is_number(pair.truth) for pair in pairs) else "regression"


def _is_number(value: str | float) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


Counted = tuple[float, PredictionEvent, Pair]
"""When it counts, the prediction, and its row's answer beside the truth."""


class _Sample(Generic[Kept]):
    """At most ``most`` of what comes, each with the same chance (reservoir sampling); the same every time."""

    def __init__(self, most: int = MOST_LABELS) -> None:
        self._most = most
        self.seen = 0
        self.kept: list[Kept] = []
        self._random = Random(0)  # noqa: S311 - a sample, no secret

    def add(self, one: Kept) -> None:
        self.seen += 1
        if len(self.kept) < self._most:
            self.kept.append(one)
        elif (place := self._random.randrange(self.seen)) < self._most:
            self.kept[place] = one


def _windows(
    counted: Iterable[Counted], endpoint: str, seconds: float
) -> Iterator[tuple[float, dict[Key, _Sample[Pair]]]]:
    current, groups = -math.inf, dict[Key, _Sample[Pair]]()
    for time, event, pair in counted:
        if event.endpoint != endpoint:
            continue
        start = math.floor(time / seconds) * seconds
        if start != current:
            if groups:
                yield current, groups
            current, groups = start, {}
        key = event.variant, event.version
        if key not in groups:
            groups[key] = _Sample()
        groups[key].add(pair)
    if groups:
        yield current, groups
