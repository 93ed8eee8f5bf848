"""Failures one by one, in many runs: after how many does a test fire?"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tidegate.control.analysis import multinomial, ramp

Floats = NDArray[np.float64]
RUNS = 2000
CHUNK = 250
ALPHA = 0.05

STEPS = ((0, 0.01), (200, 0.05), (500, 0.25), (1000, 0.5))
"""(first failure, candidate's share) of each step."""


def theta(share: Floats, times: float) -> Floats:
    """Chance that the next failure is the candidate's, which fails ``times`` as often."""
    return share * times / (share * times + 1 - share)


def arrivals(rng: np.random.Generator, share: Floats, times: float, runs: int = CHUNK) -> NDArray[np.bool_]:
    """Whether each failure (runs, n) is the candidate's; ``share`` (n,) is in force when it comes."""
    return rng.random((runs, len(share))) < theta(share, times)


def ramped(failures: int) -> Floats:
    share = np.zeros(failures)
    for first, value in STEPS:
        share[first:] = value
    return share


def two_sided(mine: NDArray[np.bool_], share: float, concentration: float) -> Floats:
    """log E after each failure (runs, n) of the multinomial test."""
    candidate = mine.cumsum(axis=1)
    n = np.arange(1, mine.shape[1] + 1)
    counts = np.stack((n - candidate, candidate), axis=-1)
    return multinomial.log_e(counts, [1 - share, share], concentration)


def one_sided(mine: NDArray[np.bool_], share: Floats, null: float, grid: tuple[float, ...]) -> Floats:
    """log E after each failure (runs, n) of the ramp-safe test, by counts per share as in a release."""
    values = np.unique(share)
    counts = np.zeros((*mine.shape, len(values), 2))
    for place, value in enumerate(values):
        here = share == value
        counts[..., place, 1] = (mine & here).cumsum(axis=1)
        counts[..., place, 0] = (~mine & here).cumsum(axis=1)
    return ramp.log_e_of(values, counts, null, grid)


def z_test(mine: NDArray[np.bool_], share: float) -> Floats:
    """The broken variant: log(1/p) of the two-sided test for one look, after each failure."""
    from scipy.special import log_ndtr

    n = np.arange(1, mine.shape[1] + 1)
    z = (mine.cumsum(axis=1) - n * share) / np.sqrt(n * share * (1 - share))
    return np.asarray(-math.log(2) - log_ndtr(-np.abs(z)))


def stops(logs: Floats, alpha: float = ALPHA) -> Floats:
    """Failures until log E reaches its threshold, infinite where it does not."""
    hit = logs >= -math.log(alpha)
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1.0, np.inf)


def two_sided_stops(
    rng: np.random.Generator, share: float, concentration: float, times: float, failures: int
) -> Floats:
    shares = np.full(failures, share)
    return np.concatenate(
        [
            stops(two_sided(arrivals(rng, shares, times), share, concentration))
            for _ in range(RUNS // CHUNK)
        ]
    )  # fmt: skip


def roll_back_stops(rng: np.random.Generator, times: float, failures: int) -> Floats:
    share = ramped(failures)
    return np.concatenate(
        [stops(one_sided(arrivals(rng, share, times), share, 0.0, ramp.ROLL_BACK)) for _ in range(RUNS // CHUNK)]
    )


def promote_stops(
    rng: np.random.Generator, share: float, times: float, failures: int, tolerance: float = 1.5
) -> Floats:
    shares, null = np.full(failures, share), math.log(tolerance)
    grid = tuple(point for point in ramp.PROMOTE if point < null - 1e-9)
    return np.concatenate(
        [stops(one_sided(arrivals(rng, shares, times), shares, null, grid)) for _ in range(RUNS // CHUNK)]
    )
