"""Measures of the quality of predictions, each with its interval. Arrays in, a ``Metric`` or None out.

Shares: Wilson's score interval (JASA 1927). F1 of two classes: with J = TP / (TP + FP + FN), a share of the rows that
are not true negatives, F1 = 2 J / (1 + J) (Hand, Christen & Kirielle, 2021), so that Wilson's bounds are carried over.
Averages over classes: the delta method on the multinomial table of confusion (Takahashi et al., Applied Intelligence
2022). ROC AUC: DeLong, DeLong & Clarke-Pearson (Biometrics 1988) by midranks (Sun & Xu, 2014). Means of losses, RMSE and
R²: their influence functions. An estimate in [0, 1] with a variance gets Wilson's interval for as many rows as would have
that variance: unlike the usual "± z errors" it stays inside and does not collapse at 0 and 1.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from tidegate.control.monitoring.records import Metric

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

LEAST_PROBABILITY = float(np.finfo(np.float64).eps)
"""Below it a probability is taken as this in log-loss, or a single row would make it infinite (as scikit-learn)."""


def share(hits: float, rows: float, alpha: float) -> Metric | None:
    """A share of independent rows; None without rows. Neither number needs to be whole."""
    if rows <= 0:
        return None
    value = min(max(hits / rows, 0.0), 1.0)
    squared = float(norm.isf(alpha / 2)) ** 2
    centre = (value + squared / (2 * rows)) / (1 + squared / rows)
    half = math.sqrt(squared * (value * (1 - value) / rows + squared / (4 * rows * rows))) / (1 + squared / rows)
    return Metric(value, min(value, max(0.0, centre - half)), max(value, min(1.0, centre + half)))


def within_unit(value: float, variance: float, rows: float, alpha: float) -> Metric | None:
    """An estimate in [0, 1]; ``rows`` are what it rests on at least, where the variance says nothing."""
    value = min(max(value, 0.0), 1.0)
    spread = value * (1 - value)
    like = spread / variance if variance > 0 and spread > 0 else rows
    return share(value * like, like, alpha)


def f1_of_counts(right: float, wrong: float, missed: float, alpha: float) -> Metric | None:
    """From true positives, false positives and false negatives."""
    overlap = share(right, right + wrong + missed, alpha)
    return (
        None
        if overlap is None
        else Metric(*(2 * one / (1 + one) for one in (overlap.value, overlap.low, overlap.high)))
    )


class Confusion:
    """Rows by true and by predicted class; ``table[true, predicted]``."""

    def __init__(self, truth: Integers, predicted: Integers, classes: int) -> None:
        self.table = np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)
        self.rows = len(truth)

    def accuracy(self, alpha: float) -> Metric | None:
        return share(float(np.trace(self.table)), self.rows, alpha)

    def precision(self, positive: int, alpha: float) -> Metric | None:
        return share(float(self.table[positive, positive]), float(self.table[:, positive].sum()), alpha)

    def recall(self, positive: int, alpha: float) -> Metric | None:
        return share(float(self.table[positive, positive]), float(self.table[positive].sum()), alpha)

    def f1(self, positive: int, alpha: float) -> Metric | None:
        right = float(self.table[positive, positive])
        wrong = float(self.table[:, positive].sum()) - right
        return f1_of_counts(right, wrong, float(self.table[positive].sum()) - right, alpha)

    def macro(self, name: str, alpha: float) -> Metric | None:
        """``precision``, ``recall`` or ``f1``, the mean over the classes that were seen; 0 where it is not defined for
        one of them."""
        if not self.rows:
            return None
        shares = self.table / self.rows
        true, predicted, right = shares.sum(axis=1), shares.sum(axis=0), np.diag(shares)
        seen = np.flatnonzero(true + predicted)
        under = {"precision": predicted, "recall": true, "f1": (true + predicted) / 2}[name]
        in_row, in_column = {"precision": (0.0, 1.0), "recall": (1.0, 0.0), "f1": (0.5, 0.5)}[name]
        slope = np.zeros_like(shares)
        total = 0.0
        for one in seen:
            if under[one] > 0:
                ratio = float(right[one] / under[one])
                total += ratio
                slope[one, one] += 1 / under[one]
                slope[one, :] -= in_row * ratio / under[one]
                slope[:, one] -= in_column * ratio / under[one]
        slope /= len(seen)
        variance = float((shares * slope**2).sum() - (shares * slope).sum() ** 2) / self.rows
        return within_unit(total / len(seen), max(variance, 0.0), self.rows, alpha)


def influence_of_auc(scores: Floats, positive: Booleans) -> tuple[float, Floats] | None:
    """The area, and what each row adds to its error: DeLong's variance is the sum of their squares. None unless each
    class has two rows."""
    count, others = int(positive.sum()), int((~positive).sum())
    if min(count, others) < 2:
        return None
    ranks = rankdata(scores)
    above = (ranks[positive] - rankdata(scores[positive])) / others
    below = 1.0 - (ranks[~positive] - rankdata(scores[~positive])) / count
    area = float(above.mean())
    influence = np.empty(len(scores))
    influence[positive] = (above - area) / math.sqrt(count * (count - 1))
    influence[~positive] = (below - area) / math.sqrt(others * (others - 1))
    return area, influence


def roc_auc(scores: Floats, positive: Booleans, alpha: float) -> Metric | None:
    """Of two classes, by any score that grows with the chance of the positive one."""
    return macro_auc(scores[:, None], positive[:, None], alpha)


def macro_auc(scores: Floats, truth: Booleans, alpha: float) -> Metric | None:
    """The mean over columns (rows, classes) of each class against the rest; columns without both are left out."""
    found = [influence_of_auc(scores[:, one], truth[:, one]) for one in range(scores.shape[1])]
    parts = [(part, truth[:, one]) for one, part in enumerate(found) if part is not None]
    if not parts:
        return None
    value = float(np.mean([area for (area, _), _ in parts]))
    influence = np.mean([each for (_, each), _ in parts], axis=0)
    fewest = min(min(int(one.sum()), int((~one).sum())) for _, one in parts)
    return within_unit(value, float(influence @ influence), fewest, alpha)


def log_loss(probabilities: Floats, truth: Integers, alpha: float) -> Metric | None:
    """``probabilities`` (rows, classes), ``truth`` indices of columns."""
    chosen = probabilities[np.arange(len(truth)), truth]
    return mean(-np.log(np.clip(chosen, LEAST_PROBABILITY, 1.0)), alpha)


def brier(probabilities: Floats, truth: Integers, alpha: float) -> Metric | None:
    """Of two columns half the sum over both, as is usual; of more the sum (as scikit-learn)."""
    actual = np.zeros_like(probabilities)
    actual[np.arange(len(truth)), truth] = 1.0
    squares = ((probabilities - actual) ** 2).sum(axis=1)
    return mean(squares / 2 if probabilities.shape[1] == 2 else squares, alpha)


def mae(truth: Floats, predicted: Floats, alpha: float) -> Metric | None:
    return mean(np.abs(predicted - truth), alpha)


def rmse(truth: Floats, predicted: Floats, alpha: float) -> Metric | None:
    squared = mean((predicted - truth) ** 2, alpha)
    return None if squared is None else Metric(*(math.sqrt(one) for one in (squared.value, squared.low, squared.high)))


def r2(truth: Floats, predicted: Floats, alpha: float) -> Metric | None:
    """None when the true values do not vary."""
    if len(truth) < 2:
        return None
    errors, spread = (predicted - truth) ** 2, (truth - truth.mean()) ** 2
    total = float(spread.mean())
    if not total > 0:
        return None
    left = float(errors.mean()) / total
    influence = (errors - left * spread) / total
    half = float(norm.isf(alpha / 2)) * float(np.sqrt((influence**2).mean() / len(truth)))
    return finite(1 - left, 1 - left - half, min(1.0, 1 - left + half))


def mean(losses: Floats, alpha: float) -> Metric | None:
    """Of what is never negative; None for fewer than two."""
    if len(losses) < 2:
        return None
    value = float(losses.mean())
    half = float(norm.isf(alpha / 2)) * float(losses.std(ddof=1)) / math.sqrt(len(losses))
    return finite(value, max(0.0, value - half), value + half)


def finite(value: float, low: float, high: float) -> Metric | None:
    """None for what JSON has no word for: losses of absurd numbers."""
    return Metric(value, low, high) if all(map(math.isfinite, (value, low, high))) else None
