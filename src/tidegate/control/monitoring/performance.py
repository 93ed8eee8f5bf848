"""Quality of predictions from late labels: what is measured of pairs of truth and prediction, and by window.

A label belongs to a request, so it says something only where the request had one row; labels of requests with several
rows are left out. So are rows without what is needed: no prediction in the event, a value that is no number. Labels are
compared as ``observations.label_of`` writes them. A measure that cannot be had is absent: there are no errors here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tidegate.control.monitoring import metrics
from tidegate.control.monitoring.records import Metric
from tidegate.observations import label_of

Task = Literal["classification", "regression"]

LOWER_IS_BETTER = frozenset({"log_loss", "brier", "mae", "rmse"})

MOST_CLASSES = 64
"""With more, scores are not looked at, and the table of confusion is not made: accuracy remains."""
_NAMES = ("labels", "predictions")
_SUM = 0.01
"""By how much probabilities of one row may miss 1."""


def measure(
    truth: Sequence[Any],
    predicted: Sequence[Any],
    scores: Any = None,
    classes: Sequence[str] = (),
    task: Task = "classification",
    positive: str = "",
    alpha: float = 0.05,
) -> Mapping[str, Metric]:
    """What can be measured of pairs. ``scores`` (rows, classes) or (rows,) are in the order of ``classes``; where that is
    not known, it is found from which score is the largest beside which prediction. One column is that of the second class.

    With two classes precision, recall and F1 are of ``positive`` (the last by name when empty), with more the means over
    classes.
    """
    if len(truth) != len(predicted):
        raise ValueError(f"{len(truth)} true values for {len(predicted)} predictions")
    with np.errstate(over="ignore", invalid="ignore"):
        if task == "regression":
            return _regression(truth, predicted, alpha)
        return _classification(truth, predicted, scores, tuple(classes), positive, alpha)


def _regression(truth: Sequence[Any], predicted: Sequence[Any], alpha: float) -> dict[str, Metric]:
    actual, given = _numbers(truth), _numbers(predicted)
    both = np.isfinite(actual) & np.isfinite(given)
    actual, given = actual[both], given[both]
    found = {
        "mae": metrics.mae(actual, given, alpha),
        "rmse": metrics.rmse(actual, given, alpha),
        "r2": metrics.r2(actual, given, alpha),
    }
    return {name: metric for name, metric in found.items() if metric is not None}


def _classification(
    truth: Sequence[Any], predicted: Sequence[Any], scores: Any, classes: tuple[str, ...], positive: str, alpha: float
) -> dict[str, Metric]:
    known = [place for place in range(len(truth)) if _is_class(truth[place]) and _is_class(predicted[place])]
    actual = [_class(truth[place], classes) for place in known]
    given = [_class(predicted[place], classes) for place in known]
    names = sorted({*actual, *given, *classes})
    places = {name: place for place, name in enumerate(names)}
    found: dict[str, Metric | None] = {}
    if len(names) > MOST_CLASSES:
        found["accuracy"] = metrics.share(sum(map(str.__eq__, actual, given)), len(actual), alpha)
        return {name: metric for name, metric in found.items() if metric is not None}
    true_places = np.array([places[name] for name in actual], dtype=np.int64)
    given_places = np.array([places[name] for name in given], dtype=np.int64)
    table = metrics.Confusion(true_places, given_places, max(len(names), 1))
    found["accuracy"] = table.accuracy(alpha)
    chosen = _positive(names, positive)
    if len(names) > 2:
        found |= {name: table.macro(name, alpha) for name in ("precision", "recall", "f1")}
    elif chosen:
        one = places[chosen]
        found |= {
            "precision": table.precision(one, alpha),
            "recall": table.recall(one, alpha),
            "f1": table.f1(one, alpha),
        }
    matrix = score_matrix(scores, len(truth))
    if matrix is not None and len(actual):
        found |= _scored(actual, given, matrix[known], classes, chosen, alpha)
    return {name: metric for name, metric in found.items() if metric is not None}


def _positive(names: Sequence[str], wanted: str) -> str:
    """Of two classes; empty where there is nothing to choose from."""
    if wanted:
        return wanted if wanted in names else ""
    return names[1] if len(names) == 2 else ""


def _scored(
    actual: Sequence[str],
    given: Sequence[str],
    matrix: NDArray[np.float64],
    classes: tuple[str, ...],
    positive: str,
    alpha: float,
) -> dict[str, Metric | None]:
    columns = columns_of(given, matrix, classes or sorted({*actual, *given}), bool(classes))
    if columns is None:
        return {}
    place = {name: number for number, name in enumerate(columns)}
    usable = np.isfinite(matrix).all(axis=1) & np.array([name in place for name in actual])
    if not usable.any():
        return {}
    matrix = matrix[usable]
    truth = np.array([place[name] for name, use in zip(actual, usable, strict=True) if use], dtype=np.int64)
    if matrix.shape[1] == 1:  # of the second class alone
        first = 1 - matrix
        matrix = np.hstack([first, matrix])
    if len(columns) == 2:
        one = place.get(positive, 1)
        found = {"roc_auc": metrics.roc_auc(matrix[:, one], truth == one, alpha)}
    else:
        found = {"roc_auc": metrics.macro_auc(matrix, truth[:, None] == np.arange(len(columns)), alpha)}
    if are_probabilities(matrix):
        found |= {"log_loss": metrics.log_loss(matrix, truth, alpha), "brier": metrics.brier(matrix, truth, alpha)}
    return found


def score_matrix(scores: Any, rows: int) -> NDArray[np.float64] | None:
    """(rows, columns), or None for what is no such matrix."""
    if scores is None:
        return None
    try:
        matrix = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError):  # ragged, or no numbers
        return None
    if matrix.ndim == 1:
        matrix = matrix[:, None]
    return matrix if matrix.ndim == 2 and len(matrix) == rows and 0 < matrix.shape[1] <= MOST_CLASSES else None


def are_probabilities(matrix: NDArray[np.float64]) -> bool:
    inside = bool((matrix >= -1e-6).all() and (matrix <= 1 + 1e-6).all())
    return inside and bool((np.abs(matrix.sum(axis=1) - 1) <= _SUM).all())


def columns_of(
    given: Sequence[str], matrix: NDArray[np.float64], classes: Sequence[str], in_order: bool
) -> tuple[str, ...] | None:
    """The class of each column. ``in_order``: ``classes`` are the model's own. Else each column is the class that is
    predicted most often where its score is the largest; what remains goes in the order of names. None when that does not
    come out even."""
    width = matrix.shape[1]
    if width == 1:
        return tuple(classes) if len(classes) == 2 else None
    if in_order:
        return tuple(classes) if len(classes) == width else None
    if len(classes) > width:
        return None
    votes: dict[int, dict[str, int]] = {}
    for column, name in zip(np.nan_to_num(matrix, nan=-math.inf).argmax(axis=1).tolist(), given, strict=True):
        ballot = votes.setdefault(column, {})
        ballot[name] = ballot.get(name, 0) + 1
    chosen = {column: max(sorted(ballot), key=ballot.__getitem__) for column, ballot in votes.items()}
    if len(set(chosen.values())) < len(chosen):
        return None
    left = [name for name in _by_name(classes) if name not in chosen.values()]
    if len(left) + len(chosen) < width:  # classes that nobody has seen: their columns have no name
        left += [f"\0{number}" for number in range(width)]
    return tuple(chosen[column] if column in chosen else left.pop(0) for column in range(width))


def is_named(column: str) -> bool:
    """Whether ``columns_of`` knows its class."""
    return not column.startswith("\0")


def _by_name(classes: Sequence[str]) -> list[str]:
    """Numbers by their size, as models order them."""
    try:
        return sorted(classes, key=int)
    except ValueError:
        return sorted(classes)


def _is_class(value: Any) -> bool:
    if isinstance(value, float | np.floating):
        return math.isfinite(value)
    return isinstance(value, str | int | np.integer | bool | np.bool_)


def _class(value: Any, classes: Sequence[str]) -> str:
    return label_of(value.item() if isinstance(value, np.generic) else value, classes)


def _numbers(values: Sequence[Any]) -> NDArray[np.float64]:
    """NaN for what is no number."""
    return np.array([_number(value) for value in values], dtype=np.float64)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
