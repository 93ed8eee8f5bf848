"""Failures of a candidate against the baseline's at the same time, while the share changes from step to step.

Lindon & Malek 2022, one-sided. With the candidate's share s in force, the next failure is the candidate's with chance
``theta(d) = s e^d / (s e^d + 1 - s)``, d = log of the ratio of failure rates. Against d0 the e-value is a mixture over
a grid of d_j of the product, over all failures, of their likelihood ratios. It depends on the failures through their
integer counts per share alone, so that folding in any grouping cannot change a bit of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = Mapping[float, tuple[int, int]]
"""Candidate's share (0 … 1) -> failures of the baseline and of the candidate while it was in force."""

ROLL_BACK = tuple(math.log(ratio) for ratio in (1.1, 1.2, 1.35, 1.5, 1.75, 2, 2.5, 3, 4, 6, 10))
"""Grid against "the candidate fails at most as often"."""
PROMOTE = tuple(math.log(ratio) for ratio in (0.25, 0.5, 0.75, 0.9, 1, 1.1, 1.5, 2, 3, 5))
"""Grid against "it fails at least ``tolerance`` times as often"; only what lies below the tolerance is used."""
AROUND = tuple(math.log(16.0) * step / 20 for step in range(-20, 21))
"""Grid of the interval: ratios from 1/16 to 16."""
WIDEST = math.log(1000.0)
"""Intervals end at ratios of 1/1000 and 1000: without any failure of the baseline there is no upper end."""


def fold(counts: Counts, share: float, baseline: int, candidate: int) -> dict[float, tuple[int, int]]:
    """The counts with further failures."""
    seen = counts.get(share, (0, 0))
    return {**counts, share: (seen[0] + baseline, seen[1] + candidate)}


def worse(counts: Counts) -> float:
    """log E against "the ratio is at most 1": large when the candidate fails more often."""
    return log_e(counts, 0.0, ROLL_BACK)


def good_enough(counts: Counts, tolerance: float) -> float:
    """log E against "the ratio is at least ``tolerance``": large when the candidate fails seldom enough."""
    limit = math.log(tolerance)
    return log_e(counts, limit, [point for point in PROMOTE if point < limit - 1e-9])


def log_e(counts: Counts, null: float, grid: Sequence[float]) -> float:
    """log of the mean over the grid of the likelihood ratios against log ratio ``null``."""
    shares, failures = _sufficient(counts)
    if not len(shares) or not grid:
        return 0.0
    return float(log_e_of(shares, failures, null, grid))


def log_e_of(shares: Floats, failures: Floats, null: float, grid: Sequence[float]) -> Floats:
    """As ``log_e``, for failures (…, shares, 2) of many runs at once."""
    logs = _log_likelihood(shares, failures, np.array([null, *grid]))
    return _log_mean_exp(logs[..., 1:]) - logs[..., 0]


def ratio(counts: Counts) -> float | None:
    """Most likely ratio of the failure rates; None without failures of the baseline or without any."""
    shares, failures = _sufficient(counts)
    if not len(shares) or not failures[:, 0].sum():
        return None
    found = float(failures[:, 1].sum())
    if not found:
        return 0.0
    odds = [float(share / (1 - share)) for share in shares]
    totals = [float(total) for total in failures.sum(axis=1)]

    def excess(log_ratio: float) -> float:
        scaled = [odd * math.exp(log_ratio) for odd in odds]
        return math.fsum(total * odd / (1 + odd) for total, odd in zip(totals, scaled, strict=True)) - found

    low, high = -WIDEST, WIDEST
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if excess(middle) > 0 else (middle, high)
    return math.exp(0.5 * (low + high))


def interval(counts: Counts, alpha: float) -> tuple[float, float]:
    """Of the ratio of failure rates: every value that a mixture over ``AROUND`` does not reject; valid at any time."""
    shares, failures = _sufficient(counts)
    if not len(shares):
        return math.exp(-WIDEST), math.exp(WIDEST)
    fine = np.linspace(-WIDEST, WIDEST, 461)
    logs = _log_likelihood(shares, failures, np.concatenate((AROUND, fine)))
    floor = float(_log_mean_exp(logs[: len(AROUND)])) + math.log(alpha)
    inside = np.flatnonzero(logs[len(AROUND) :] > floor)
    if not len(inside):
        peak = int(np.argmax(logs[len(AROUND) :]))
        inside = np.array([peak])
    low, high = max(int(inside[0]) - 1, 0), min(int(inside[-1]) + 1, len(fine) - 1)
    return math.exp(fine[low]), math.exp(fine[high])


def _sufficient(counts: Counts) -> tuple[Floats, Floats]:
    """Shares (n,) and failures (n, 2) in the order of the shares; those where only one side had traffic say nothing."""
    kept = sorted((share, pair) for share, pair in counts.items() if 0 < share < 1 and any(pair))
    return (
        np.array([share for share, _ in kept], dtype=np.float64),
        np.array([pair for _, pair in kept], dtype=np.float64).reshape(-1, 2),
    )


def _log_likelihood(shares: Floats, failures: Floats, points: Floats) -> Floats:
    """Of all failures at each log ratio, shape (…, points), up to a constant that cancels."""
    odds = np.log(shares / (1 - shares))[:, None] + points[None, :]
    # log theta = odds - log(1 + e^odds), log(1 - theta) = -log(1 + e^odds)
    return np.asarray(failures[..., 1] @ odds - failures.sum(axis=-1) @ np.logaddexp(0.0, odds))


def _log_mean_exp(logs: Floats) -> Floats:
    peak = logs.max(axis=-1, keepdims=True)
    return np.asarray(peak[..., 0] + np.log(np.exp(logs - peak).mean(axis=-1)))
