"""A band around a whole distribution of latencies, valid at any time; for what the fixed quantiles do not look at.

Howard & Ramdas 2022, eq. (20): with chance 1 - alpha, |F_t(x) - F(x)| stays below ``radius`` for all x and all t.
"""

from __future__ import annotations

import math

import numpy as np

from tidegate.control.analysis.bins import Counts, Shift, cumulative


def radius(observations: int, alpha: float) -> float:
    """Half-width of the band in probability; above 1 says nothing yet."""
    if observations < 1:
        return math.inf
    grown = math.log(math.log(math.e * observations)) if observations > 1 else 0.0
    return 0.85 * math.sqrt((grown + 0.8 * math.log(1612 / alpha)) / observations)


def slower(baseline: Counts, candidate: Counts, shift: Shift, alpha: float) -> bool:
    """Whether the candidate is shown slower than the shifted baseline anywhere in the distribution."""
    base, cand = cumulative(baseline), cumulative(candidate)
    if not base[-1] or not cand[-1]:
        return False
    room = radius(int(base[-1]), alpha / 2) + radius(int(cand[-1]), alpha / 2)
    # At any x within bin i the candidate has at most cand[i], the shifted baseline at least base[floor].
    gap = base[shift.floor] / base[-1] - cand[1:] / cand[-1]
    return bool(np.max(gap) > room)
