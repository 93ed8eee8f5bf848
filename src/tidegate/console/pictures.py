"""What charts show, twice: as data for the script, and as rows of a table for whoever has none. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tidegate.console import text
from tidegate.console.traces import Line, Trace
from tidegate.control.experiments.experiment import Report
from tidegate.control.figures import VariantFigures, distribution
from tidegate.control.monitoring.histogram import Bar
from tidegate.metrics import BINS_PER_DECADE

TABLE_ROWS = 40
MOST_KINDS = 12
"""Kinds of output with a bar of their own."""
PER_DECADE = 16


class Picture(NamedTuple):
    """``payload`` is JSON for the script; ``head`` and ``rows`` are the table."""

    payload: dict[str, Any]
    head: list[str]
    rows: list[list[str]]


def latency(variants: Sequence[VariantFigures]) -> Picture | None:
    """Latency distributions side by side, on a logarithmic axis; shares of each variant's own requests."""
    seen = [variant for variant in variants if variant.latency]
    if not seen:
        return None
    bars: dict[int, dict[str, float]] = {}
    edges: dict[int, tuple[float, float]] = {}
    width = BINS_PER_DECADE // PER_DECADE
    for variant in seen:
        lowest = max(0, min(variant.latency) - 1) // width
        for at, (low, high, share) in enumerate(distribution(variant.latency, PER_DECADE), lowest):
            bars.setdefault(at, {})[variant.variant] = share
            edges[at] = (low, high)
    order = sorted(bars)
    payload = {
        "edges": [[edges[at][0] * 1e3, edges[at][1] * 1e3] for at in order],
        "series": [
            {
                "name": f"{variant.variant} {text.version(variant.version)}",
                "role": variant.variant,
                "values": [round(bars[at].get(variant.variant, 0.0) * 100, 3) for at in order],
                "p50": variant.p50 * 1e3,
                "p99": variant.p99 * 1e3,
            }
            for variant in seen
        ],
    }
    head = ["Latency", *(variant.variant for variant in seen)]
    rows = [
        [
            f"{text.seconds(edges[at][0])} to {text.seconds(edges[at][1])}",
            *(text.percent(bars[at].get(variant.variant, 0.0)) for variant in seen),
        ]
        for at in order
    ]
    return Picture(payload, head, rows)


def outputs(sides: Mapping[str, Mapping[str, int]]) -> Picture | None:
    """What each variant answered: shares of its rows, of the commonest labels or bins, in an order that stays."""
    seen = {name: counts for name, counts in sides.items() if counts}
    if not seen:
        return None
    totals: dict[str, float] = {}
    for counts in seen.values():
        whole = sum(counts.values())
        for kind, count in counts.items():
            totals[kind] = totals.get(kind, 0.0) + count / whole
    commonest = sorted(totals, key=lambda kind: -totals[kind])[:MOST_KINDS]
    kinds = sorted(commonest, key=float) if all(map(_is_number, commonest)) else sorted(commonest)
    shares = {name: [counts.get(kind, 0) / sum(counts.values()) for kind in kinds] for name, counts in seen.items()}
    payload = {
        "kinds": kinds,
        "series": [
            {"name": name, "role": name, "values": [round(share * 100, 3) for share in own]}
            for name, own in shares.items()
        ],
    }
    rows = [[kind, *(text.percent(shares[name][at]) for name in shares)] for at, kind in enumerate(kinds)]
    return Picture(payload, ["Output", *shares], rows)


def evidence(line: Line, trace: Trace) -> Picture:
    """One guardrail: log10 of the e-values against and for the candidate, with the line that decides."""
    payload = {
        "threshold": round(line.threshold, 4),
        "points": [
            [round(p.time * 1000), None, None]
            if p.outcome == "no_data"
            else [round(p.time * 1000), round(p.against, 4), round(p.support, 4)]
            for p in line.points
        ],
        "shares": [[round(time * 1000), share / 100] for time, share in trace.shares],
    }
    rows = [
        [
            text.absolute(p.time)[13:],
            *([text.DASH] * 2 if p.outcome == "no_data" else [e_value(p.against), e_value(p.support)]),
            text.number(p.estimate),
            text.words(p.outcome),
        ]
        for p in _thinned(line.points)
    ]
    return Picture(payload, ["Time", "Against", "For", "Estimate", "Outcome"], rows)


def shape(bars: Sequence[Bar]) -> Picture | None:
    """How a feature is spread in the reference and in a window, as shares of the rows of each."""
    if not bars:
        return None
    payload = {
        "kinds": [bar.label for bar in bars],
        "series": [
            {"name": "reference", "role": "baseline", "values": [round(bar.then * 100, 3) for bar in bars]},
            {"name": "this window", "role": "candidate", "values": [round(bar.now * 100, 3) for bar in bars]},
        ],
    }
    rows = [[bar.label, text.percent(bar.then), text.percent(bar.now), text.signed(bar.now - bar.then)] for bar in bars]
    return Picture(payload, ["Value", "Reference", "This window", "Difference"], rows)


def e_value(log10: float) -> str:
    """An e-value from its logarithm, as people write it."""
    if -2 < log10 < 4:
        return text.number(float(f"{10**log10:.3g}"))
    return f"10^{log10:.1f}"


def intervals(reports: Sequence[Report], metric: str) -> Picture | None:
    """One metric of an experiment: the difference of each arm from the control arm, with its interval, over time."""
    arms: dict[str, list[list[float | None]]] = {}
    rows = []
    for report in _thinned(reports, 300):
        for comparison in report.comparisons:
            if comparison.metric != metric or comparison.difference is None or comparison.interval is None:
                continue
            low, high = comparison.interval
            arms.setdefault(comparison.arm, []).append([round(report.time * 1000), comparison.difference, low, high])
            rows.append(
                [
                    text.absolute(report.time)[:-4],
                    comparison.arm,
                    text.number(comparison.difference),
                    f"{text.number(low)} to {text.number(high)}",
                ]
            )
    if not arms:
        return None
    payload = {"arms": [{"name": name, "points": points} for name, points in arms.items()]}
    return Picture(payload, ["Time", "Arm", "Difference", "Interval"], rows[-TABLE_ROWS:][::-1])


def _thinned(points: Sequence[Any], most: int = TABLE_ROWS) -> list[Any]:
    """Evenly, the newest included."""
    if len(points) <= most:
        return list(points)
    step = (len(points) - 1) / (most - 1)
    return [points[round(index * step)] for index in range(most)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
