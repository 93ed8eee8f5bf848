"""How good predictions are, as one number: to choose a family, and thousands of times to compare two models. What people
are shown has intervals, and comes from ``monitoring.performance``; both agree, which a test holds.

Classes are numbers here, indices into ``classes``; scores are (n, k), or None where a model gives none. Predictions of
no known class are -1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import numpy as np

from tidegate.types import Array

LOSSES = frozenset({"log_loss", "brier", "mae", "rmse"})
"""Less is better."""
NEED_SCORES = frozenset({"roc_auc", "log_loss", "brier"})
_TINY = float(np.finfo(np.float64).eps)


class Answers(msgspec.Struct, frozen=True):
    """What a model said about some rows, beside the truth."""

    truth: Array
    predicted: Array
    scores: Array | None = None
    classes: tuple[str, ...] = ()
    positive: int = -1
    """Index of the positive class of two; -1 where metrics are averaged over the classes."""

    def take(self, rows: Array) -> Answers:
        scores = None if self.scores is None else self.scores[rows]
        return Answers(self.truth[rows], self.predicted[rows], scores, self.classes, self.positive)


def accuracy(answers: Answers) -> float:
    return float(np.mean(answers.truth == answers.predicted))


def _rates(answers: Answers) -> tuple[Array, Array, Array]:
    """Precision, recall and F1 of each class; 0 where there is nothing to divide by."""
    count = len(answers.classes)
    right = np.bincount(answers.truth[answers.truth == answers.predicted], minlength=count).astype(float)
    real = np.bincount(answers.truth, minlength=count).astype(float)
    said = np.bincount(answers.predicted[answers.predicted >= 0], minlength=count).astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.nan_to_num(right / said)
        recall = np.nan_to_num(right / real)
        f1 = np.nan_to_num(2 * right / (said + real))
    return precision, recall, f1


def _averaged(answers: Answers, values: Array) -> float:
    """Of the positive class, or the mean over the classes that are there or were said."""
    if answers.positive >= 0:
        return float(values[answers.positive])
    there = np.union1d(answers.truth, answers.predicted[answers.predicted >= 0])
    return float(values[there].mean())


def balanced_accuracy(answers: Answers) -> float:
    recall = _rates(answers)[1]
    return float(recall[np.unique(answers.truth)].mean())


def precision(answers: Answers) -> float:
    return _averaged(answers, _rates(answers)[0])


def recall(answers: Answers) -> float:
    return _averaged(answers, _rates(answers)[1])


def f1(answers: Answers) -> float:
    return _averaged(answers, _rates(answers)[2])


def roc_auc(answers: Answers) -> float:
    """By ranks, ties count half; for several classes the mean of one against the rest. Not a number for one class."""
    assert answers.scores is not None
    columns = [answers.positive] if answers.positive >= 0 else list(np.unique(answers.truth))
    return float(np.mean([_auc(answers.truth == column, answers.scores[:, column]) for column in columns]))


def _auc(positive: Array, score: Array) -> float:
    count = int(positive.sum())
    others = len(positive) - count
    if not count or not others:
        return float("nan")
    _, place, copies = np.unique(score, return_inverse=True, return_counts=True)
    last = np.cumsum(copies)
    ranks = (last - (copies - 1) / 2)[place]
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * others))


def log_loss(answers: Answers) -> float:
    assert answers.scores is not None
    chance = answers.scores[np.arange(len(answers.truth)), answers.truth]
    return float(-np.mean(np.log(np.clip(chance, _TINY, 1.0))))


def brier(answers: Answers) -> float:
    """Of the positive class of two; else summed over the classes, half of which is the same for two."""
    assert answers.scores is not None
    if answers.positive >= 0:
        return float(np.mean((answers.scores[:, answers.positive] - (answers.truth == answers.positive)) ** 2))
    truth = np.eye(len(answers.classes))[answers.truth]
    return float(np.mean(((answers.scores - truth) ** 2).sum(axis=1)))


def mae(answers: Answers) -> float:
    return float(np.mean(np.abs(answers.truth - answers.predicted)))


def rmse(answers: Answers) -> float:
    return float(np.sqrt(np.mean((answers.truth - answers.predicted) ** 2)))


def r2(answers: Answers) -> float:
    spread = float(((answers.truth - answers.truth.mean()) ** 2).sum())
    return float("nan") if spread == 0 else 1.0 - float(((answers.truth - answers.predicted) ** 2).sum()) / spread


METRICS: Mapping[str, Callable[[Answers], float]] = {
    "accuracy": accuracy, "balanced_accuracy": balanced_accuracy, "precision": precision, "recall": recall, "f1": f1,
    "roc_auc": roc_auc, "log_loss": log_loss, "brier": brier, "mae": mae, "rmse": rmse, "r2": r2,
}  # fmt: skip


def better(metric: str, value: float) -> float:
    """The value turned so that more is better."""
    return -value if metric in LOSSES else value
