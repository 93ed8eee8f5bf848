"""A failure rate shown to be below a limit, valid under continuous looking: a beta mixture below the limit."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaln

Floats = NDArray[np.float64]

PRIOR = (0.5, 0.5)
"""Beta parameters: Jeffreys, which favours rates near 0."""


def below(failures: int, requests: int, limit: float) -> float:
    """log E against "the rate is at least ``limit``": a mixture of likelihood ratios over rates below it.

    The likelihood ratio falls with each failure, so that the e-value holds for every rate above the limit too.
    """
    if not requests or limit <= 0:
        return 0.0
    if limit >= 1:
        return math.inf
    return float(log_e(failures, requests, limit))


def log_e(failures: ArrayLike, requests: ArrayLike, limit: float) -> Floats:
    """As ``below``, for many runs at once; 0 < limit < 1."""
    x, n = np.asarray(failures, dtype=np.float64), np.asarray(requests, dtype=np.float64)
    a, b = PRIOR
    with np.errstate(divide="ignore"):  # -inf where the rate is too far above the limit for a float
        inside = np.log(betainc(a + x, b + n - x, limit))
    prior = float(betaln(a, b)) + math.log(float(betainc(a, b, limit)))
    mixture = betaln(a + x, b + n - x) + inside - prior
    return np.asarray(mixture - x * math.log(limit) - (n - x) * math.log1p(-limit))


def upper(failures: int, requests: int, alpha: float) -> float:
    """Upper bound of the rate, valid at any time with confidence 1 - alpha; 1 without requests."""
    if not requests:
        return 1.0
    wanted = -math.log(alpha)
    inside, outside = 1.0, failures / requests
    for _ in range(40):
        middle = 0.5 * (inside + outside)
        if below(failures, requests, middle) >= wanted:
            inside = middle
        else:
            outside = middle
    return inside
