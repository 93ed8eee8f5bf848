"""Many runs at once in which nothing is wrong, and the assertion that every test has to keep."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
RUNS = 2000
ALPHA = 0.05


def allowed(alpha: float = ALPHA, runs: int = RUNS) -> float:
    """Share of runs that may alarm: three standard errors above alpha."""
    return alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)


def alarms(logs: Floats, alpha: float = ALPHA) -> float:
    """Share of the runs in which log E (runs, looks) reaches its threshold at any look."""
    return float((logs >= -math.log(alpha)).any(axis=1).mean())


def holds(share: float, alpha: float = ALPHA, runs: int = RUNS) -> bool:
    return share <= allowed(alpha, runs)
