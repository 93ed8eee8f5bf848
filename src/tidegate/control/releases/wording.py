"""Figures for people, as the reasons of verdicts have them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tidegate.control.releases.counted import Pair


def number(value: float) -> str:
    """Whole, thousands apart: ``10 896``."""
    return f"{value:,.0f}".replace(",", " ")


def percent(value: float) -> str:
    """Three figures that count: ``0.25 %``."""
    return f"{100 * value:.3g} %"


def duration(seconds: float) -> str:
    """``184 ms``, ``2.4 s``; the last bin has no end."""
    if math.isinf(seconds):
        return "above 100 s"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def times(ratio: float) -> str:
    return f"{ratio:.2g} times as often" if ratio < 10 else f"{number(ratio)} times as often"


def failures(requests: Pair, failed: Pair, ratio: float | None, what: str = "requests") -> str:
    """``12 of 1 204 requests of the candidate failed, 3 of 10 896 of the baseline: 8.1 times as often``."""
    text = f"{number(failed[1])} of {number(requests[1])} {what} of the candidate failed"
    text += f", {number(failed[0])} of {number(requests[0])} of the baseline"
    return f"{text}: {times(ratio)}" if ratio and failed[1] else text


def most_moved(baseline: Mapping[str, int], candidate: Mapping[str, int]) -> tuple[str, tuple[float, float]]:
    """The kind whose share differs most, and its shares in both."""
    rows = sum(baseline.values()), sum(candidate.values())
    shares = {
        kind: (baseline.get(kind, 0) / rows[0], candidate.get(kind, 0) / rows[1])
        for kind in sorted({*baseline, *candidate})
    }
    kind = max(shares, key=lambda name: abs(shares[name][1] - shares[name][0]))
    return kind, shares[kind]
