"""What the scores alone let expect of the quality, while labels are not there: confidence-based performance estimation.

A calibrated score p of the predicted class is right with chance p, so the expected accuracy is the mean of p, and the
expected table of confusion the sum of such chances (NannyML's CBPE). That holds as long as the scores stay calibrated:
``calibration`` checks it where there are labels. It does not notice when what is true changes while the inputs stay.

The interval is that of as many labels: drawing rows and drawing their truth together vary as a share does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from tidegate.control.monitoring import metrics
from tidegate.control.monitoring.performance import are_probabilities, columns_of, is_named, score_matrix
from tidegate.control.monitoring.records import Metric
from tidegate.observations import label_of

Floats = NDArray[np.float64]

BINS = 10
CLOSE = 0.02
"""Calibration error that nobody minds, however sure it is."""
FEWEST = 30
"""Labels before anything is said about calibration."""


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    rows: int
    gap: Metric
    """Mean score of the predicted class minus share of right predictions; above 0 the model is too sure of itself."""
    error: float
    """Expected calibration error: mean distance of score and share over bins of equal numbers of rows."""
    p_value: float
    """Of Spiegelhalter's test (Statistics in Medicine 1986): such outcomes from calibrated scores."""
    calibrated: bool | None
    """Whether an estimate can be believed; None for too few labels."""


def expected_accuracy(scores: Any, alpha: float = 0.05) -> Metric | None:
    """Of predictions that are the class with the largest score; ``scores`` (rows, classes), probabilities. One column is
    that of the second class of two. None without such scores."""
    matrix = _probabilities(scores, None)
    return None if matrix is None else _accuracy(matrix.max(axis=1), alpha)


def expected(
    scores: Any, predicted: Sequence[Any], classes: Sequence[str] = (), positive: str = "", alpha: float = 0.05
) -> dict[str, Metric]:
    """Accuracy of these predictions; of two classes F1 and ROC AUC too. Rows whose scores are no probabilities, or whose
    prediction is none of the classes, are left out; of what remains nothing, nothing."""
    matrix = _probabilities(scores, len(predicted))
    if matrix is None:
        return {}
    given = np.array([label_of(one, classes) for one in predicted], dtype=object)
    usable = np.isfinite(matrix).all(axis=1)
    matrix, given = matrix[usable], given[usable]
    columns = columns_of(list(given), matrix, tuple(classes) or sorted(set(given)), bool(classes))
    if columns is None or not len(matrix) or not are_probabilities(matrix):
        return {}
    places = np.array([columns.index(one) if one in columns else -1 for one in given], dtype=np.int64)
    matrix, places = matrix[places >= 0], places[places >= 0]
    found: dict[str, Metric | None] = {
        "accuracy": _accuracy(matrix[np.arange(len(places)), places], alpha) if len(places) else None
    }
    if len(columns) == 2 and len(places):
        one = columns.index(positive) if positive in columns else columns.index(max(columns))
        chances, chosen = matrix[:, one], places == one
        if all(map(is_named, columns)):
            right, wrong = float(chances[chosen].sum()), float((1 - chances[chosen]).sum())
            found["f1"] = metrics.f1_of_counts(right, wrong, float(chances[~chosen].sum()), alpha)
        found["roc_auc"] = _area(chances, alpha)
    return {name: metric for name, metric in found.items() if metric is not None}


def calibration(
    scores: Any, predicted: Sequence[Any], truth: Sequence[Any], classes: Sequence[str] = (), alpha: float = 0.05
) -> Calibration | None:
    """Whether the predicted class is right as often as its score says. None without scores that are probabilities."""
    matrix = _probabilities(scores, len(predicted))
    if matrix is None:
        return None
    given = [label_of(one, classes) for one in predicted]
    right = np.array(
        [label_of(one, classes) == other for one, other in zip(truth, given, strict=True)], dtype=np.float64
    )
    usable = np.isfinite(matrix).all(axis=1)
    columns = columns_of(given, matrix, tuple(classes) or sorted({*given}), bool(classes))
    if columns is None or not usable.any() or not are_probabilities(matrix[usable]):
        return None
    usable &= np.array([one in columns for one in given])
    rows = np.flatnonzero(usable)
    if not len(rows):
        return None
    chances = np.clip(matrix[rows, [columns.index(given[row]) for row in rows]], 0.0, 1.0)
    return _calibration(chances, right[rows], alpha)


def _calibration(chances: Floats, right: Floats, alpha: float) -> Calibration:
    count = len(chances)
    gap = float(chances.mean() - right.mean())
    half = float(norm.isf(alpha / 2)) * math.sqrt(float((chances * (1 - chances)).sum())) / count
    spread = math.sqrt(float(((1 - 2 * chances) ** 2 * chances * (1 - chances)).sum()))
    moved = float(((right - chances) * (1 - 2 * chances)).sum())
    p_value = 2 * float(norm.sf(abs(moved) / spread)) if spread > 0 else float(np.allclose(chances, right))
    parts = np.array_split(np.argsort(chances, kind="stable"), min(BINS, count))
    error = sum(len(part) * abs(float(chances[part].mean() - right[part].mean())) for part in parts) / count
    sure = p_value < alpha or abs(gap) > half
    calibrated = None if count < FEWEST else not (sure and max(abs(gap), error) > CLOSE)
    return Calibration(
        rows=count, gap=Metric(gap, gap - half, gap + half), error=error, p_value=p_value, calibrated=calibrated
    )


def _probabilities(scores: Any, rows: int | None) -> Floats | None:
    """Two columns at least; None where they are no numbers, or no row has chances that add up to 1."""
    if scores is None:
        return None
    matrix = score_matrix(scores, len(scores) if rows is None else rows)
    if matrix is None or not len(matrix):
        return None
    if matrix.shape[1] == 1:
        matrix = np.hstack([1 - matrix, matrix])
    finite = matrix[np.isfinite(matrix).all(axis=1)]
    if not len(finite) or not are_probabilities(finite):
        return None
    return matrix if rows is not None else finite


def _accuracy(chances: Floats, alpha: float) -> Metric | None:
    return metrics.share(float(chances.sum()), len(chances), alpha)


def _area(chances: Floats, alpha: float) -> Metric | None:
    """Each row counts as positive with its chance and as negative with the rest; variance after Hanley & McNeil
    (Radiology 1982)."""
    positive, negative = float(chances.sum()), float((1 - chances).sum())
    if min(positive, negative) < 2:
        return None
    order = np.argsort(chances, kind="stable")
    ranks = rankdata(chances[order], method="min").astype(np.int64) - 1
    ends = rankdata(chances[order], method="max").astype(np.int64)
    below = np.concatenate([[0.0], np.cumsum(1 - chances[order])])
    under, tied = below[ranks], below[ends] - below[ranks]
    weights = chances[order]
    same = weights * (1 - weights)  # no row is compared with itself
    wins = float((weights * (under + tied / 2)).sum() - same.sum() / 2)
    area = wins / (positive * negative - float(same.sum()))
    first, second = area / (2 - area), 2 * area * area / (1 + area)
    spread = area * (1 - area) + (positive - 1) * (first - area**2) + (negative - 1) * (second - area**2)
    return metrics.within_unit(area, spread / (positive * negative), min(positive, negative), alpha)
