"""Several e-values about one thing."""

from __future__ import annotations

import math
from collections.abc import Sequence


def log_mean(logs: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """Logarithm of the (weighted) mean of e-values given by their logarithms; an e-value whatever their dependence.

    No e-value says nothing: 0.
    """
    if not logs:
        return 0.0
    shares = [1.0 / len(logs)] * len(logs) if weights is None else list(weights)
    peak = max(logs)
    if math.isinf(peak):
        return peak
    return peak + math.log(math.fsum(share * math.exp(log - peak) for share, log in zip(shares, logs, strict=True)))


def bonferroni(alpha: float, tests: int) -> float:
    """The level of each of so many tests, that any of them errs with a chance of at most ``alpha``."""
    return alpha / max(tests, 1)


def p_of(log_e: float) -> float:
    """The p-value, valid at any time, that an e-value gives."""
    return math.exp(-log_e) if log_e > 0 else 1.0
