"""Turns the text of ``/metrics`` into the figures of the demo's table. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

_SAMPLE = re.compile(r"([a-z_:][a-z0-9_:]*)(?:\{(.*)\})? (\S+)", re.IGNORECASE)
_LABEL = re.compile(r'([a-z_][a-z0-9_]*)="((?:[^"\\]|\\.)*)"', re.IGNORECASE)

GOOD_OUTCOMES = ("ok", "agree", "differ")
CALLER_ERRORS = ("invalid", "gone")


class Figures(msgspec.Struct, frozen=True):
    """Of one variant, since the server started. Milliseconds are NaN before the first request."""

    endpoint: str
    variant: str
    requests: int
    errors: int
    """Failures that are not the caller's."""
    p50_ms: float
    p99_ms: float


def figures(text: str) -> list[Figures]:
    requests: dict[tuple[str, str], int] = {}
    errors: dict[tuple[str, str], int] = {}
    buckets: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for name, labels, value in samples(text):
        key = (labels.get("endpoint", ""), labels.get("variant", ""))
        if name == "tidegate_requests_total":
            requests[key] = requests.get(key, 0) + int(value)
            if labels.get("outcome") not in GOOD_OUTCOMES + CALLER_ERRORS:
                errors[key] = errors.get(key, 0) + int(value)
        elif name == "tidegate_request_seconds_bucket":
            buckets.setdefault(key, []).append((float(labels.get("le", "inf")), value))
    return [
        Figures(*key, count, errors.get(key, 0), *(1000 * quantile(buckets.get(key, ()), q) for q in (0.5, 0.99)))
        for key, count in sorted(requests.items())
        if key[1]
    ]


def samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Name, labels and value of every sample line; lines of another form are passed over."""
    for line in text.splitlines():
        match = None if line.startswith("#") else _SAMPLE.match(line)
        if match is not None:
            yield match[1], dict(_LABEL.findall(match[2] or "")), float(match[3])


def quantile(buckets: Sequence[tuple[float, float]], q: float) -> float:
    """From cumulative (upper bound, count) pairs, linear within a bucket; NaN when nothing was counted."""
    ordered = sorted(buckets)
    if not ordered or ordered[-1][1] <= 0:
        return float("nan")
    wanted = q * ordered[-1][1]
    low, below = 0.0, 0.0
    for high, count in ordered:
        if count >= wanted and count > below:
            if high == float("inf"):
                return low
            return low + (high - low) * (wanted - below) / (count - below)
        low, below = high, count
    return low
