"""Whether a challenger is good enough: pure, from what it and the champion say about the same rows.

The difference of the metric has a paired bootstrap interval: rows are drawn with replacement, the same ones for both, so
that what is hard for both cancels out. The challenger is accepted when the whole one-sided interval lies above the
bound: no worse than the margin, or better by the least gain. Where few rows tell the models apart, or none, drawing again
shows too little of what other rows might; so the share of rows that the challenger alone gets wrong counts for an accuracy
as what it may be at most, by Clopper and Pearson (Biometrika 1934). McNemar's test (Psychometrika 1947) looks at the rows that
just one of them got right, and is exact: the share of those that the challenger got is above a half.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from scipy.stats import beta, binom

from tidegate.control.training.config import Gate
from tidegate.control.training.scores import LOSSES, METRICS, NEED_SCORES, Answers, better
from tidegate.types import Array

RESAMPLES = 2000
LARGE = 20_000
"""With more rows a quarter of the resamples says the same, and a metric by ranks takes its time."""
_ROWWISE = frozenset({"accuracy", "mae", "log_loss"})


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """``difference`` and its interval are challenger − champion, turned so that more is better."""

    accepted: bool
    reason: str
    """One sentence with the figures."""
    metric: str
    test: Literal["bootstrap", "mcnemar", "none"]
    rows: int
    alpha: float
    bound: float = 0.0
    """What the difference must be shown to exceed."""
    challenger: float
    champion: float | None = None
    champion_version: str = ""
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    """Each end is wrong with chance ``alpha``."""
    p: float = 1.0
    only_challenger: int = 0
    only_champion: int = 0
    """Rows that just one of them got right."""


def compare(
    challenger: Answers,
    champion: Answers | None,
    gate: Gate,
    metric: str,
    seed: int,
    version: str = "",
    resamples: int = RESAMPLES,
) -> Comparison:
    """``champion`` is None where there is none. Both are about the same rows."""
    value = METRICS[metric](challenger)
    said: dict[str, object] = {
        "metric": metric,
        "rows": len(challenger.truth),
        "alpha": gate.alpha,
        "challenger": value,
    }
    if gate.floor is not None and (low := _shown(challenger, gate, metric, seed, resamples)) < better(
        metric, gate.floor
    ):
        least = "at most" if metric in LOSSES else "at least"
        shown = better(metric, low)
        return _said(
            False,
            "none",
            f"{metric} {value:.4f}, shown to be {least} {shown:.4f} only; the floor is {gate.floor:g}",
            said,
        )
    if champion is None:
        return _said(
            True, "none", f"there is no champion; {metric} {value:.4f} on {len(challenger.truth):,} rows", said
        )
    if metric in NEED_SCORES and champion.scores is None:
        return _said(
            False, "none", f"the champion gives no scores, which {metric} needs; choose another gate.metric", said
        )
    said |= {"champion": METRICS[metric](champion), "champion_version": version}
    said |= _rows(challenger, champion)
    draws = _differences(challenger, champion, metric, seed, resamples)
    low, high = (float(np.quantile(draws, q)) for q in (gate.alpha, 1 - gate.alpha))
    if metric == "accuracy":
        low = min(low, _at_least(challenger, champion, gate.alpha))
    difference = better(metric, value) - better(metric, METRICS[metric](champion))
    bound = _bound(gate)
    said |= {"difference": difference, "low": low, "high": high, "bound": bound}
    figures = (
        f"{metric} {value:.4f} against {said['champion']:.4f}, difference {difference:+.4f} "
        f"({low:+.4f} to {high:+.4f}) on {len(challenger.truth):,} rows"
    )
    if gate.test == "mcnemar":
        return _mcnemar(figures, gate, said)
    p = float((np.sum(draws <= bound) + 1) / (len(draws) + 1))
    if low > bound:
        how = f"better by more than {bound:g}" if gate.min_gain is not None else f"no worse than {gate.margin:g}"
        return _said(True, "bootstrap", f"shown to be {how}: {figures}", said | {"p": p})
    wanted = f"to be better by {bound:g}" if gate.min_gain is not None else f"not to be worse by {gate.margin:g}"
    return _said(False, "bootstrap", f"not shown {wanted}: {figures}", said | {"p": p})


def _said(accepted: bool, test: str, reason: str, said: dict[str, object]) -> Comparison:
    return msgspec.convert({"accepted": accepted, "test": test, "reason": reason, **said}, Comparison)


def _bound(gate: Gate) -> float:
    if gate.test == "mcnemar":
        return 0.0
    return gate.min_gain if gate.min_gain is not None else -gate.margin


def _rows(challenger: Answers, champion: Answers) -> dict[str, int]:
    if not challenger.classes:
        return {}
    mine, its = challenger.predicted == challenger.truth, champion.predicted == champion.truth
    return {"only_challenger": int((mine & ~its).sum()), "only_champion": int((~mine & its).sum())}


def _at_least(challenger: Answers, champion: Answers, alpha: float) -> float:
    """The difference of the accuracies if as many rows are lost as may be, given how many were."""
    counts, rows = _rows(challenger, champion), len(challenger.truth)
    won, lost = counts["only_challenger"], counts["only_champion"]
    most = float(beta.ppf(1 - alpha, lost + 1, rows - lost)) if lost < rows else 1.0
    return won / rows - most


def _mcnemar(figures: str, gate: Gate, said: dict[str, object]) -> Comparison:
    won, lost = int(str(said["only_challenger"])), int(str(said["only_champion"]))
    p = float(binom.sf(won - 1, won + lost, 0.5)) if won + lost else 1.0
    told = f"{won} rows that it alone got right, {lost} that the champion alone did, p {p:.3g}"
    if p <= gate.alpha:
        return _said(True, "mcnemar", f"shown to be right more often: {told}; {figures}", said | {"p": p})
    return _said(False, "mcnemar", f"not shown to be right more often: {told}; {figures}", said | {"p": p})


def _shown(answers: Answers, gate: Gate, metric: str, seed: int, resamples: int) -> float:
    """What the metric is shown to be at least, turned so that more is better."""
    draws = np.array(
        [
            better(metric, METRICS[metric](answers.take(rows)))
            for rows in _resamples(len(answers.truth), seed, resamples)
        ]
    )
    return float(np.nanquantile(draws, gate.alpha))


def _differences(challenger: Answers, champion: Answers, metric: str, seed: int, resamples: int) -> Array:
    """Of the metric in each resample; a resample in which it is not defined says nothing."""
    if metric in _ROWWISE:
        gains = _each(challenger, metric) - _each(champion, metric)
        draws = np.array([gains[rows].mean() for rows in _resamples(len(gains), seed, resamples)])
    else:
        score = METRICS[metric]
        draws = np.array(
            [
                better(metric, score(challenger.take(rows))) - better(metric, score(champion.take(rows)))
                for rows in _resamples(len(challenger.truth), seed, resamples)
            ]
        )
    defined = draws[np.isfinite(draws)]
    return defined if len(defined) else np.array([-np.inf])


def _each(answers: Answers, metric: str) -> Array:
    """Of single rows, more is better; the metric is their mean."""
    if metric == "accuracy":
        hits: Array = (answers.truth == answers.predicted).astype(float)
        return hits
    if metric == "mae":
        gains: Array = -np.abs(answers.truth - answers.predicted)
        return gains
    assert answers.scores is not None
    chance = answers.scores[np.arange(len(answers.truth)), answers.truth]
    logs: Array = np.log(np.clip(chance, np.finfo(np.float64).eps, 1.0))
    return logs


def _resamples(rows: int, seed: int, resamples: int) -> list[Array]:
    random = np.random.default_rng(seed)
    return [random.integers(0, rows, rows) for _ in range(resamples if rows <= LARGE else resamples // 4)]
