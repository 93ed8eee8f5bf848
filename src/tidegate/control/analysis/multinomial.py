"""Counts of which arm each event came from, against fixed shares; valid under continuous looking.

Lindon & Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022. Given an event, the chance that it
came from arm i is ``rho_i e^delta_i / sum``, free of how traffic varies over time; under equal rates it is the share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

Floats = NDArray[np.float64]

CONCENTRATION = 100.0
"""Of the Dirichlet prior around the null: less reacts faster to large effects, more to small ones."""


def log_e(counts: ArrayLike, null: ArrayLike, concentration: float = CONCENTRATION) -> Floats:
    """Natural logarithm of the e-value of counts (…, arms) against the shares ``null`` (arms,).

    A non-negative martingale that begins at 1 (at 0 in logarithms) while the null is true.
    """
    shares = _shares(null)
    prior = concentration * shares
    found = np.asarray(counts, dtype=np.float64)
    return _log_marginal(found, prior) - found @ np.log(shares)


def running_p(counts: ArrayLike, null: ArrayLike, concentration: float = CONCENTRATION) -> Floats:
    """p-values after each row of cumulative counts (times, arms): the least of ``1/E`` so far, at most 1."""
    return np.minimum.accumulate(np.exp(-np.maximum(log_e(counts, null, concentration), 0.0)))


def intervals(
    counts: Sequence[int], null: ArrayLike, alpha: float, concentration: float = CONCENTRATION
) -> list[tuple[float, float]]:
    """For each arm the range of its probability within the confidence set
    ``{theta: sum S_i log theta_i >= log B(a0 + S) - log B(a0) + log alpha}``; all hold together, at any time."""
    found = np.asarray(counts, dtype=np.float64)
    floor = float(_log_marginal(found, concentration * _shares(null))) + math.log(alpha)
    return [_interval(found, arm, floor) for arm in range(len(found))]


def _interval(found: Floats, arm: int, floor: float) -> tuple[float, float]:
    """With one coordinate fixed, the likelihood is highest where the others keep their observed proportions."""
    mine, total = float(found[arm]), float(found.sum())
    others = np.delete(found, arm)
    rest = total - mine
    inner = float(sum(value * math.log(value / rest) for value in others if value)) if rest else 0.0

    def excess(theta: float) -> float:
        left = mine * math.log(theta) if mine else 0.0
        right = rest * math.log1p(-theta) if rest else 0.0
        return left + right + inner - floor

    if not total:
        return 0.0, 1.0
    peak = mine / total
    low = 0.0 if not mine else _root(excess, 0.0, peak)
    high = 1.0 if not rest else _root(excess, 1.0, peak)
    return low, high


def _root(excess: object, outside: float, inside: float) -> float:
    for _ in range(60):
        middle = 0.5 * (outside + inside)
        if middle in (outside, inside):
            break
        if excess(middle) >= 0:  # type: ignore[operator]
            inside = middle
        else:
            outside = middle
    return outside


def _shares(null: ArrayLike) -> Floats:
    shares = np.asarray(null, dtype=np.float64)
    if shares.ndim != 1 or len(shares) < 2 or not np.all(shares > 0):
        raise ValueError("shares are at least two positive numbers")
    return np.asarray(shares / shares.sum())


def _log_marginal(found: Floats, prior: Floats) -> Floats:
    """log B(prior + found) - log B(prior)."""
    total = prior.sum()
    marginal = (gammaln(prior + found) - gammaln(prior)).sum(axis=-1)
    return np.asarray(marginal - gammaln(total + found.sum(axis=-1)) + gammaln(total))
