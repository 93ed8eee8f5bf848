"""A failure rate shown to be below a limit, valid under continuous looking: a beta mixture below the limit."""

from __future__ import annotations

import math

from scipy.special import betainc, betaln

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
    a, b = PRIOR
    inside = float(betainc(a + failures, b + requests - failures, limit))
    if inside <= 0:  # too small for a float: the rate is far above the limit
        return -math.inf
    mixture = float(betaln(a + failures, b + requests - failures)) + math.log(inside)
    prior = float(betaln(a, b)) + math.log(float(betainc(a, b, limit)))
    return mixture - prior - failures * math.log(limit) - (requests - failures) * math.log1p(-limit)


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
