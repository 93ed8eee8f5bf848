"""Latencies in bins, compared after every few requests: how soon is a slow tail found, and how often one that is none?"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tidegate.control.analysis import band, combine
from tidegate.control.analysis.bins import Shift, shift_of
from tidegate.control.analysis.quantile import Comparison
from tidegate.metrics import BINS
from tidegate.serving.events.windows import bins_of

Floats = NDArray[np.float64]
QUANTILES = (0.5, 0.9, 0.99)
SLACK = shift_of(0.1, 0.001)
NONE = shift_of(0.0, 0.0)
ALPHA = 0.05


def usual(rng: np.random.Generator, size: int) -> Floats:
    """Seconds: log-normal around 80 ms."""
    return np.asarray(0.08 * np.exp(0.4 * rng.standard_normal(size)))


def slow_tail(rng: np.random.Generator, size: int) -> Floats:
    """Half a second more on two requests of a hundred."""
    return usual(rng, size) + 0.5 * (rng.random(size) < 0.02)


def a_fifth_slower(rng: np.random.Generator, size: int) -> Floats:
    return 1.2 * usual(rng, size)


Draw = Callable[[np.random.Generator, int], Floats]


def histogram(values: Floats) -> dict[int, int]:
    bins, counts = np.unique(bins_of(values), return_counts=True)
    return dict(zip(bins.tolist(), counts.tolist(), strict=True))


def log_e(comparison: Comparison, shift: Shift) -> float:
    return combine.log_mean([comparison.slower(p, shift) for p in QUANTILES])


def stop(rng: np.random.Generator, candidate: Draw, most: int, every: int, shift: Shift = SLACK) -> float:
    """Requests per arm until the candidate is shown slower; infinite if it is not within ``most``."""
    counts = np.zeros((2, BINS + 1), dtype=np.int64)
    for seen in range(every, most + 1, every):
        for arm, draw in enumerate((usual, candidate)):
            counts[arm, 1:] += np.bincount(bins_of(draw(rng, every)), minlength=BINS)
        comparison = Comparison(counts[0].cumsum(), counts[1].cumsum())
        if log_e(comparison, shift) >= -math.log(ALPHA):
            return seen
    return math.inf


def stops(rng: np.random.Generator, candidate: Draw, most: int, every: int, runs: int, shift: Shift = SLACK) -> Floats:
    return np.array([stop(rng, candidate, most, every, shift) for _ in range(runs)])


def band_sees(rng: np.random.Generator, candidate: Draw, requests: int) -> bool:
    """Whether the band shows the candidate slower after so many requests per arm."""
    return band.slower(histogram(usual(rng, requests)), histogram(candidate(rng, requests)), SLACK, ALPHA)
