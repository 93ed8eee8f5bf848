"""Sticky units of very unequal traffic: what becomes of a test that takes failures for independent?"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tidegate.control.analysis import ramp

Floats = NDArray[np.float64]
UNITS, RATE, SECONDS, FAILING, SHARE, ALPHA = 2000, 500, 120, 0.01, 0.05, 0.01


def alarms(rng: np.random.Generator, spread: float, runs: int) -> Floats:
    """Whether each run, in which both variants are the same, is rolled back (runs, 3): by the test on configured shares
    alone, by that on observed shares alone, by both together as in a release.

    Traffic of the units follows Zipf's law; the logarithm of a unit's failure rate varies by ``spread``.
    """
    traffic = 1 / np.arange(1, UNITS + 1) ** 1.1
    traffic *= RATE / traffic.sum()
    return np.array([_run(rng, traffic, spread) for _ in range(runs)])


def _run(rng: np.random.Generator, traffic: Floats, spread: float) -> list[bool]:
    rates = np.minimum(FAILING * np.exp(spread * rng.standard_normal(UNITS) - spread**2 / 2), 1.0)
    mine = rng.random(UNITS) < SHARE
    requests = rng.poisson(traffic, (SECONDS, UNITS))
    failed = rng.binomial(requests, rates)
    both = [_by_arm(counts, mine) for counts in (requests, failed, failed > 0)]
    configured = ramp.log_e_of(np.array([SHARE]), both[2][:, None, :], 0.0, ramp.ROLL_BACK)
    observed = np.array(
        [
            ramp.worse({float(seen[1] / seen.sum()): (int(pair[0]), int(pair[1]))})
            for seen, pair in zip(both[0], both[1], strict=True)
        ]
    )
    threshold = -math.log(ALPHA)
    return [bool((logs >= threshold).any()) for logs in (configured, observed, np.minimum(configured, observed))]


def _by_arm(counts: NDArray[np.int64] | NDArray[np.bool_], mine: NDArray[np.bool_]) -> Floats:
    """Cumulative, (seconds, 2)."""
    arms = counts[:, ~mine].sum(axis=1), counts[:, mine].sum(axis=1)
    return np.stack(arms, axis=1).cumsum(axis=0).astype(np.float64)
