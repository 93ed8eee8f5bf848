"""How far two distributions are apart, and how far chance alone brings them. Pure; counts by bin are the last axis, so that
a thousand windows are measured at once.

``now`` are the counts of a window, ``then`` those of the reference. A p-value is the chance of a statistic at least so
large when both were drawn from the same distribution; ``critical`` is the statistic whose p-value is alpha. With n and m
rows a difference of shares has the variance (1/n + 1/m)·p·(1 − p), so that nothing shrinks with n alone.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]

PLUS = 0.5
"""Added to each count where the logarithm of a share is taken: it would make much of one row in an empty bin."""
_LN2 = math.log(2)


def _exact(values: ArrayLike) -> Floats:
    return np.asarray(values, np.float64)


def shares(counts: ArrayLike) -> Floats:
    """Counts as shares of their sum; zeros where there are none."""
    exact = _exact(counts)
    whole = exact.sum(axis=-1, keepdims=True)
    return np.asarray(np.divide(exact, whole, out=np.zeros_like(exact), where=whole > 0))


def inverse_rows(now: ArrayLike, then: ArrayLike) -> Floats:
    """1/n + 1/m."""
    n, m = _exact(now).sum(axis=-1), _exact(then).sum(axis=-1)
    return np.asarray(1 / np.maximum(n, 1e-300) + 1 / np.maximum(m, 1e-300))


def freedom(now: ArrayLike, then: ArrayLike) -> NDArray[np.int64]:
    """Bins that have a row on either side, less one."""
    occupied = (np.asarray(now) > 0) | (np.asarray(then) > 0)
    return np.asarray(np.maximum(occupied.sum(axis=-1) - 1, 1))


def psi(now: ArrayLike, then: ArrayLike, plus: float = PLUS) -> Floats:
    """Population stability index, Σ (q − p) ln(q/p); bins without a row on either side say nothing."""
    a, b = _exact(now), _exact(then)
    occupied = (a > 0) | (b > 0)
    q, p = shares(np.where(occupied, a + plus, 0)), shares(np.where(occupied, b + plus, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = (q - p) * np.log(q / p)
    return np.asarray(np.where(occupied, parts, 0.0).sum(axis=-1))


def js(now: ArrayLike, then: ArrayLike, plus: float = PLUS) -> Floats:
    """Jensen–Shannon distance: the root of the divergence to base 2, from 0 to 1."""
    a, b = _exact(now), _exact(then)
    occupied = (a > 0) | (b > 0)
    q, p = shares(np.where(occupied, a + plus, 0)), shares(np.where(occupied, b + plus, 0))
    middle = (q + p) / 2
    bits = (special.rel_entr(q, middle) + special.rel_entr(p, middle)).sum(axis=-1) / (2 * _LN2)
    return np.asarray(np.sqrt(np.maximum(bits, 0)))


def chi2(now: ArrayLike, then: ArrayLike) -> Floats:
    """Cohen's w of the two: the root of chi-square over nm/(n+m), which does not grow with the rows."""
    q, p = shares(now), shares(then)
    n, m = _exact(now).sum(axis=-1), _exact(then).sum(axis=-1)
    weight = (n / np.maximum(n + m, 1e-300))[..., None]
    pooled = weight * q + (1 - weight) * p
    parts = np.divide((q - p) ** 2, pooled, out=np.zeros_like(pooled), where=pooled > 0)
    return np.asarray(np.sqrt(parts.sum(axis=-1)))


def chi_square_of(method: str, statistic: ArrayLike) -> Floats:
    """The statistic as a chi-square over nm/(n+m): all three have the same limit, since near p each is quadratic."""
    exact = _exact(statistic)
    if method == "psi":
        return exact
    return np.asarray(8 * _LN2 * exact**2 if method == "js" else exact**2)


def chi_square_p(method: str, statistic: ArrayLike, inverse: ArrayLike, degrees: ArrayLike) -> Floats:
    """For psi, js and chi2."""
    return np.asarray(special.chdtrc(_exact(degrees), chi_square_of(method, statistic) / _exact(inverse)))


def chi_square_critical(method: str, inverse: ArrayLike, degrees: ArrayLike, alpha: float) -> Floats:
    bound = _exact(inverse) * special.chdtri(_exact(degrees), alpha)
    if method == "psi":
        return np.asarray(bound)
    return np.asarray(np.sqrt(bound / (8 * _LN2)) if method == "js" else np.sqrt(bound))


def ks(now: ArrayLike, then: ArrayLike) -> Floats:
    """Largest difference of the cumulative shares at the edges: at most that of the values themselves."""
    return np.asarray(np.abs(np.cumsum(shares(now) - shares(then), axis=-1)).max(axis=-1))


def ks_p(statistic: ArrayLike, inverse: ArrayLike) -> Floats:
    """Kolmogorov's limit, which is on the safe side for few rows and for values that repeat."""
    return np.asarray(special.kolmogorov(_exact(statistic) / np.sqrt(_exact(inverse))))


def ks_critical(inverse: ArrayLike, alpha: float) -> Floats:
    return np.asarray(special.kolmogi(alpha) * np.sqrt(_exact(inverse)))


def wasserstein(now: ArrayLike, then: ArrayLike, centers: ArrayLike, sigma: float) -> Floats:
    """Mean way that a value has to go, in standard deviations of the reference; all values are at their bin's centre."""
    apart = np.abs(np.cumsum(shares(now) - shares(then), axis=-1))[..., :-1]
    return np.asarray((apart * np.diff(_exact(centers))).sum(axis=-1) / sigma)


class Null(NamedTuple):
    """Of Σ gap·|B(F)|, B a Brownian bridge: a gamma distribution with its mean and variance, and the deviation of
    Σ gap·B(F), which gives the tail."""

    shape: Floats
    scale: Floats
    deviation: Floats


def wasserstein_null(now: ArrayLike, then: ArrayLike, centers: ArrayLike, sigma: float) -> Null:
    """For two normal variables with correlation r, Cov(|X|, |Y|) = 2/π·(r·asin r + √(1 − r²) − 1) of their deviations."""
    gaps = np.diff(_exact(centers)) / sigma
    inverse = inverse_rows(now, then)
    pooled = np.cumsum(shares(_exact(now) + _exact(then)), axis=-1)[..., :-1]
    pooled = np.clip(pooled, 1e-12, 1 - 1e-12)
    spread = gaps * np.sqrt(pooled * (1 - pooled))
    odds = np.sqrt(pooled / (1 - pooled))
    ratio = odds[..., :, None] / odds[..., None, :]
    r = np.minimum(np.minimum(ratio, 1 / ratio), 1.0)
    covariance = 2 / np.pi * (r * np.arcsin(r) + np.sqrt(1 - r**2) - 1)
    mean = np.maximum(np.sqrt(2 / np.pi * inverse) * spread.sum(axis=-1), 1e-150)
    variance = np.maximum(inverse * np.einsum("...i,...ij,...j->...", spread, covariance, spread), 1e-300)
    straight = np.maximum(inverse * np.einsum("...i,...ij,...j->...", spread, r, spread), 1e-300)
    return Null(_exact(mean**2 / variance), _exact(variance / mean), _exact(np.sqrt(straight)))


_ABOVE_TAIL = 1.4
"""By what the chance of the sum of absolute values exceeds that of the absolute sum, far out; 1.1 to 1.3 were simulated."""


def wasserstein_p(statistic: ArrayLike, null: Null) -> Floats:
    """The greater of both: the gamma has the better middle, the normal the right tail."""
    exact = _exact(statistic)
    gamma = special.gammaincc(null.shape, exact / null.scale)
    return np.asarray(np.minimum(np.maximum(gamma, _ABOVE_TAIL * 2 * special.ndtr(-exact / null.deviation)), 1.0))


def wasserstein_critical(null: Null, alpha: float) -> Floats:
    gamma = special.gammainccinv(null.shape, alpha) * null.scale
    return np.asarray(np.maximum(gamma, -special.ndtri(alpha / (2 * _ABOVE_TAIL)) * null.deviation))


def linf(now: ArrayLike, then: ArrayLike) -> Floats:
    """Largest difference of any one share."""
    return np.asarray(np.abs(shares(now) - shares(then)).max(axis=-1))


def linf_p(statistic: ArrayLike, now: ArrayLike, then: ArrayLike) -> Floats:
    """Sum over the categories of the chance that this one differs so much, given how often it came on both sides:
    binomial while a category is rare, normal where it is frequent."""
    a, b = _exact(now), _exact(then)
    n, m = a.sum(axis=-1, keepdims=True), b.sum(axis=-1, keepdims=True)
    whole, both = n + m, a + b
    chance = n / whole
    # |a/n − (both − a)/m| ≥ d  ⇔  a is at most low or at least high.
    apart = _exact(statistic)[..., None] * n * m / whole
    low = np.floor(both * chance - apart + 1e-9)
    high = np.ceil(both * chance + apart - 1e-9)
    # Binomial tails as incomplete betas, which take fractions of rows as well.
    below = special.betainc(np.maximum(both - low, 1e-9), np.maximum(low, 0) + 1, 1 - chance)
    above = special.betainc(np.maximum(high, 1e-9), np.maximum(both - high, 0) + 1, chance)
    exact = np.where(low >= 0, below, 0.0) + np.where(high <= both, above, 0.0)
    deviation = np.sqrt(np.maximum(both * chance * (1 - chance) * (1 - both / whole), 1e-300))
    normal = 2 * special.ndtr(-(np.maximum(apart - 0.5, 0)) / deviation)
    frequent = both * chance * (1 - both / whole) >= 100
    each = np.where(both > 0, np.where(frequent, normal, exact), 0.0)
    return np.asarray(np.minimum(each.sum(axis=-1), 1.0))


def linf_critical(now: ArrayLike, then: ArrayLike, alpha: float) -> float:
    """Of one window; the p-value falls with the statistic."""
    low, high = 0.0, 1.0
    for _ in range(18):
        middle = (low + high) / 2
        low, high = (low, middle) if float(linf_p(middle, now, then)) <= alpha else (middle, high)
    return high


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """q-values: the smallest share of false discoveries at which each is one."""
    p = _exact(p_values)
    if not len(p):
        return p
    order = np.argsort(p)
    raised = p[order] * len(p) / np.arange(1, len(p) + 1)
    found = np.empty_like(p)
    found[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1.0)
    return found
