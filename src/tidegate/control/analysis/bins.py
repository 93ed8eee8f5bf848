"""Latencies as counts in fixed logarithmic bins (``tidegate.metrics.bin_of``), which merge without loss.

Counts at the edges of the bins are exact. Between them, tests take the count that speaks against what they would show,
so that bins can make a test later, never wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from tidegate.metrics import BINS, BINS_PER_DECADE, LOWEST

Counts = Mapping[int, int]
"""Bin -> observations."""

UPPER = np.append(LOWEST * 10.0 ** (np.arange(BINS - 1) / BINS_PER_DECADE), np.inf)
"""Upper edges in seconds, (BINS,); the last bin has none."""


class Shift(msgspec.Struct, frozen=True):
    """Where the edges of the candidate's bins lie in the baseline's, once the baseline has been made slower by
    ``f(x) = max((1 + slack) x, x + acceptable)``.

    Both index ``cumulative``: at any x in the candidate's bin i, the number of shifted baseline values up to x is
    between ``cumulative[floor[i]]`` and ``cumulative[ceiling[i]]``.
    """

    floor: NDArray[np.intp]
    ceiling: NDArray[np.intp]


@lru_cache(maxsize=256)
def shift_of(slack: float, acceptable: float) -> Shift:
    """``acceptable`` in seconds."""
    moved = np.maximum((1 + slack) * UPPER, UPPER + acceptable)
    lower = np.concatenate(([0.0], UPPER[:-1]))
    # A relative hair of room, so that edges which are equal but for rounding count as equal.
    floor = np.searchsorted(moved, lower * (1 + 1e-12), side="right")
    ceiling = np.searchsorted(moved, UPPER * (1 - 1e-12), side="left") + 1
    return Shift(floor.astype(np.intp), np.minimum(ceiling, BINS).astype(np.intp))


def cumulative(counts: Counts) -> NDArray[np.int64]:
    """Observations in the bins before i, (BINS + 1,): 0 first, all last."""
    dense = np.zeros(BINS + 1, dtype=np.int64)
    if counts:
        dense[np.fromiter(counts.keys(), np.intp, len(counts)) + 1] = np.fromiter(
            counts.values(), np.int64, len(counts)
        )
    return np.cumsum(dense, out=dense)
