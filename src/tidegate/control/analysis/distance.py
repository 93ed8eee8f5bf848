"""How far are the distributions of two arms' predictions apart? Valid under continuous looking, for finite samples.

The total variation distance is the largest ``P(A) - Q(A)`` over sets A of kinds. For one set, each arm's frequency is a
mean of values in [0, 1], whose sum is sub-Gaussian with variance n/4; a normal mixture gives each an e-process, and
"P(A) - Q(A) = d" is refuted where their product is large for every P(A) and Q(A) with that difference.
Showing that *some* set differs takes a mixture over all sets: each kind is in with a chance that is uniform itself, so
that a set of k of K kinds has weight 1/((K + 1) binomial(K, k)), whatever kinds appear later. Showing that *none*
differs takes no correction: the largest observed difference must be refuted, then all are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln

N_OPT = 1000.0
_TUNED = 2 * math.log(20.0) + math.log(1 + 2 * math.log(20.0))


class Arm(msgspec.Struct, frozen=True):
    """What one arm predicted, by kind.

    ``clusters`` is the number of requests that the rows came in, where that is less than the rows: rows of one request
    resemble each other, so that each request counts once.
    """

    kinds: Mapping[str, int]
    clusters: int | None = None
    n_opt: float = N_OPT
    """Size at which its test is sharpest."""

    @property
    def rows(self) -> int:
        return sum(self.kinds.values())

    @property
    def size(self) -> float:
        return float(self.rows if self.clusters is None else min(self.rows, self.clusters))

    @property
    def growth(self) -> float:
        """Variance of the sum times the precision of the mixture: what its e-process pays for looking on."""
        return self.size * _TUNED / self.n_opt


class Distance(msgspec.Struct, frozen=True):
    """``excess[k - 1]``: the largest difference, candidate minus baseline, over sets of k kinds."""

    excess: NDArray[np.float64]
    spread: float
    """Variance of a difference, with the mixtures' share in it."""
    price: float
    """What both mixtures cost in log E."""

    @property
    def estimate(self) -> float:
        """Total variation between the observed frequencies."""
        return float(np.max(self.excess, initial=0.0))

    def above(self, limit: float) -> float:
        """log E against "the distance is at most ``limit``"."""
        kinds = len(self.excess)
        if kinds < 2 or not math.isfinite(self.spread):
            return 0.0
        sizes = np.arange(1, kinds + 1)
        weights = betaln(sizes + 1.0, kinds - sizes + 1.0)  # -log((K + 1) binomial(K, k))
        gaps = np.maximum(self.excess - limit, 0.0)
        return float(np.max(0.5 * gaps**2 / self.spread + weights)) - self.price

    def within(self, limit: float) -> float:
        """log E against "the distance is more than ``limit``"."""
        if not math.isfinite(self.spread):
            return 0.0
        gap = max(limit - self.estimate, 0.0)
        return 0.5 * gap * gap / self.spread - self.price

    def interval(self, alpha: float) -> tuple[float, float]:
        """Of the distance; each end is valid at any time with confidence 1 - alpha/2."""
        if not math.isfinite(self.spread):
            return 0.0, 1.0
        wanted = self.price - math.log(alpha / 2)
        kinds = len(self.excess)
        sizes = np.arange(1, kinds + 1)
        radii = np.sqrt(2 * self.spread * (wanted - betaln(sizes + 1.0, kinds - sizes + 1.0)))
        low = float(np.max(self.excess - radii, initial=0.0))
        return low, min(1.0, self.estimate + math.sqrt(2 * self.spread * wanted))


def distance(baseline: Arm, candidate: Arm) -> Distance:
    """Compares two arms; kinds that only one of them has count as well."""
    names = sorted({*baseline.kinds, *candidate.kinds})
    if not baseline.size or not candidate.size:
        return Distance(np.zeros(len(names)), math.inf, 0.0)
    gaps = np.array([candidate.kinds.get(name, 0) / candidate.rows - baseline.kinds.get(name, 0) / baseline.rows for name in names])  # fmt: skip
    spread = sum((1 + arm.growth) / arm.growth / (4 * arm.size) for arm in (baseline, candidate))
    price = 0.5 * sum(math.log1p(arm.growth) for arm in (baseline, candidate))
    return Distance(np.cumsum(np.sort(gaps)[::-1]), spread, price)
