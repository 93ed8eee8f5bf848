"""Sample-ratio check: did every arm get the share that it should have?

The two-sided multinomial test on assignments, with a concentrated prior because what breaks a split is often small.
An alarm says nothing about the candidate: the split itself is broken, and every comparison with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tidegate.control.analysis.multinomial import log_e

CONCENTRATION = 10_000.0
ALPHA = 0.001


def mismatch(counts: Sequence[int], shares: Sequence[float], concentration: float = CONCENTRATION) -> float:
    """log E against "arm i gets ``shares[i]``" for independent assignments; arms with share 0 must have none."""
    if any(count and not share for count, share in zip(counts, shares, strict=True)):
        return math.inf
    kept = [(count, share) for count, share in zip(counts, shares, strict=True) if share]
    if len(kept) < 2:
        return 0.0
    return float(log_e([count for count, _ in kept], [share for _, share in kept], concentration))


def mismatch_over_steps(counts: Mapping[float, tuple[int, int]]) -> float:
    """As ``mismatch``, over steps: candidate's share -> assignments to baseline and candidate while it was in force.

    Each share has a test of its own; the product of e-values of different requests is an e-value.
    """
    return math.fsum(
        mismatch(pair, (1 - share, share)) for share, pair in sorted(counts.items()) if 0 < share < 1 and any(pair)
    )
