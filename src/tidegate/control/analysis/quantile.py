"""Is a quantile of the candidate's latency above the baseline's? Valid under continuous looking.

Howard & Ramdas, "Sequential estimation of quantiles with applications to A/B testing and best-arm identification",
Bernoulli 2022, Theorem 5: at the true quantile x of probability p the number of observations up to x is binomial, and
``M(m, n)``, a beta mixture of likelihood ratios, is a martingale. Two arms share their quantile at some x; what their
product M M' reaches at every x refutes that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln

from tidegate.control.analysis.bins import UPPER, Counts, Shift, cumulative
from tidegate.metrics import BINS_PER_DECADE

Floats = NDArray[np.float64]

N_OPT = 1000.0
"""Observations of an arm at which its test is sharpest."""


class Prior(msgspec.Struct, frozen=True):
    """Beta parameters of the mixture for one quantile, from the number of observations that it shall suit best."""

    p: float
    a: float
    b: float

    @classmethod
    def of(cls, p: float, n_opt: float = N_OPT) -> Prior:
        v = n_opt * p * (1 - p)
        log20 = 2 * math.log(20.0)
        r = max(v / (log20 + math.log(1 + log20)) - p * (1 - p), 0.001 * p * (1 - p))
        return cls(p, r / (1 - p), r / p)

    def log_m(self, below: ArrayLike, total: float) -> Floats:
        """log M for ``below`` of ``total`` observations up to x. A count may be a real number."""
        m = np.asarray(below, dtype=np.float64)
        return np.asarray(
            betaln(self.a + m, self.b + total - m)
            - betaln(self.a, self.b)
            - m * math.log(self.p)
            - (total - m) * math.log1p(-self.p)
        )


def p_value(one: Sequence[float], other: Sequence[float], p: float, n_opt: float = N_OPT) -> float:
    """Theorem 5 on raw observations: p-value, valid at any time, of "both have the same p-quantile"."""
    first, second = np.sort(np.asarray(one, dtype=np.float64)), np.sort(np.asarray(other, dtype=np.float64))
    if not len(first) or not len(second):
        return 1.0
    points = np.concatenate((first, second))
    prior = Prior.of(p, n_opt)
    # Ties: the true quantile x has F(x-) <= p <= F(x), so that each arm counts what speaks least against x.
    logs = sum(
        prior.log_m(
            np.clip(p * len(values), np.searchsorted(values, points), np.searchsorted(values, points, side="right")),
            len(values),
        )
        for values in (first, second)
    )
    return min(1.0, math.exp(-float(np.min(logs))))


class Comparison(msgspec.Struct, frozen=True):
    """Latencies of two arms; cumulative counts per bin, (BINS + 1,)."""

    baseline: NDArray[np.int64]
    candidate: NDArray[np.int64]

    @classmethod
    def of(cls, baseline: Counts, candidate: Counts) -> Comparison:
        return cls(cumulative(baseline), cumulative(candidate))

    def slower(self, p: float, shift: Shift, n_opt: tuple[float, float] = (N_OPT, N_OPT)) -> float:
        """log E against "the candidate's p-quantile is at most that of the shifted baseline".

        Within its bin i the candidate has at most ``candidate[i + 1]`` observations up to x, the baseline at least
        ``baseline[floor[i]]``.
        """
        above = _Side(self.candidate[1:], float(self.candidate[-1]), n_opt[1])
        return _log_e(p, above, _Side(self.baseline[shift.floor], float(self.baseline[-1]), n_opt[0]))

    def not_slower(self, p: float, shift: Shift, n_opt: tuple[float, float] = (N_OPT, N_OPT)) -> float:
        """log E against "the candidate's p-quantile is above that of the shifted baseline"."""
        above = _Side(self.baseline[shift.ceiling], float(self.baseline[-1]), n_opt[0])
        return _log_e(p, above, _Side(self.candidate[:-1], float(self.candidate[-1]), n_opt[1]))

    def ratio(self, p: float) -> float | None:
        """Candidate's p-quantile over the baseline's, to the bin; None where one has no observations."""
        if not self.baseline[-1] or not self.candidate[-1]:
            return None
        bins = self._bins(p)
        return float(10.0 ** ((bins[1] - bins[0]) / BINS_PER_DECADE))

    def quantiles(self, p: float) -> tuple[float, float]:
        """Of baseline and candidate in seconds, to the middle of the bin; infinite in the last."""
        middle = 10.0 ** (0.5 / BINS_PER_DECADE)
        base, cand = (float(UPPER[place]) / middle for place in self._bins(p))
        return base, cand

    def _bins(self, p: float) -> tuple[int, int]:
        base, cand = (
            max(int(np.searchsorted(counts, p * counts[-1])) - 1, 0) for counts in (self.baseline, self.candidate)
        )
        return base, cand

    def interval(
        self, p: float, alpha: float, n_opt: tuple[float, float] = (N_OPT, N_OPT)
    ) -> tuple[float, float] | None:
        """Of the ratio, valid at any time; None while one of its ends is open."""
        base = _quantile_interval(p, self.baseline, alpha / 2, n_opt[0])
        cand = _quantile_interval(p, self.candidate, alpha / 2, n_opt[1])
        if not (base[0] and cand[0] and math.isfinite(base[1]) and math.isfinite(cand[1])):
            return None
        return cand[0] / base[1], cand[1] / base[0]


class _Side(msgspec.Struct, frozen=True):
    """Counts up to x, bin by bin and never falling, of so many observations."""

    below: NDArray[np.int64]
    total: float
    n_opt: float


def _log_e(p: float, high: _Side, low: _Side) -> float:
    if not high.total or not low.total:
        return 0.0
    # Left of the quantile of low its term is at its least and that of high grows to the left, and the same the other
    # way round: the least of the sum lies between the two sample quantiles.
    ends = (
        int(np.searchsorted(low.below, p * low.total)),
        int(np.searchsorted(high.below, p * high.total)),
    )
    between = slice(max(min(ends) - 1, 0), max(ends) + 1)
    above = Prior.of(p, high.n_opt), high.below[between], high.total
    return float(least(above, (Prior.of(p, low.n_opt), low.below[between], low.total)))


def least(high: tuple[Prior, ArrayLike, float], low: tuple[Prior, ArrayLike, float]) -> Floats:
    """log E against "the quantile of ``high`` is at most that of ``low``", least over the bins (…, bins).

    The evidence that the quantile of ``high`` lies above x counts only where fewer than p n of its observations are
    below x, and the other way round for ``low``; elsewhere each stays at its least, so that the test is one-sided.
    """
    (one, above, n_high), (other, beneath, n_low) = high, low
    logs = one.log_m(np.minimum(above, one.p * n_high), n_high) + other.log_m(
        np.maximum(beneath, other.p * n_low), n_low
    )
    return np.asarray(logs.min(axis=-1))


def _quantile_interval(p: float, counts: NDArray[np.int64], alpha: float, n_opt: float) -> tuple[float, float]:
    """Seconds between which the quantile lies, at any time, with confidence 1 - alpha; to the edges of bins."""
    total = float(counts[-1])
    if not total:
        return 0.0, math.inf
    inside = np.flatnonzero(Prior.of(p, n_opt).log_m(counts[1:], total) < -math.log(alpha))
    if not len(inside):
        inside = np.array([np.searchsorted(counts[1:], p * total)])
    first = int(inside[0])
    # From the edge before the first that is not rejected, to the first that is rejected on the other side.
    last = min(int(inside[-1]) + 1, len(UPPER) - 1)
    return (float(UPPER[first - 1]) if first else 0.0), float(UPPER[last])
