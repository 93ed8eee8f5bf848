"""The evidence of a release over time, as lines for a chart: read once, then only what is new."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from tidegate.console.shelf import Shelf
from tidegate.types import Verdict

if TYPE_CHECKING:
    from tidegate.storage.store import Store

MOST_POINTS = 600
"""Per line; when there are twice as many, every other one is left out."""
MOST_RELEASES = 32
PAGE = 1000
LN10 = math.log(10)
MOST_LOG10 = 30.0
"""Evidence beyond 10^30 is drawn there."""


class Tick(msgspec.Struct):
    """What the console reads of a row of evidence; the rest of its body is for replaying."""

    verdicts: tuple[Verdict, ...] = ()
    share: int = 0
    step: int = -1
    requests: int | None = None


class Point(NamedTuple):
    """One look: log10 of the e-values against and for the candidate. ``estimate`` as in the verdict."""

    time: float
    against: float
    support: float
    estimate: float | None
    outcome: str


class Line(msgspec.Struct):
    """One guardrail over time; ``threshold`` is log10(1/alpha), 0 where the guardrail claims no statistics."""

    guardrail: str
    test: str
    threshold: float
    points: list[Point]


class Trace(msgspec.Struct):
    """All guardrails of a release, and when its share changed: (time, basis points)."""

    lines: dict[str, Line]
    shares: list[tuple[float, int]]
    tick: int = -1
    looks: int = 0
    requests: int | None = None
    """Of the candidate in the current step, as the newest look counted them."""


class Traces:
    """Kept in memory for the releases looked at last; safe between threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: Shelf[Trace] = Shelf(lambda: Trace({}, []), MOST_RELEASES)

    def of(self, release: str) -> Trace:
        """Raises StoreAway."""
        with self._kept.hold(release) as trace:
            while True:
                with self._store.read() as unit:
                    rows = unit.releases.evidence(release, after=trace.tick, limit=PAGE)
                for row in rows:
                    extend(trace, row.tick, row.time, msgspec.json.decode(row.body, type=Tick))
                if len(rows) < PAGE:
                    break
            return Trace(
                {name: msgspec.structs.replace(line, points=list(line.points)) for name, line in trace.lines.items()},
                list(trace.shares),
                trace.tick,
                trace.looks,
                trace.requests,
            )


def extend(trace: Trace, number: int, time: float, tick: Tick) -> None:
    """Adds one look; the newest point always stays."""
    for name, verdict in named(tick.verdicts).items():
        line = trace.lines.get(name)
        if line is None:
            line = trace.lines[name] = Line(verdict.guardrail, verdict.test, 0.0, [])
        line.threshold = verdict.threshold / LN10
        line.points.append(
            Point(time, _log10(verdict.evidence), _log10(verdict.support), verdict.estimate, verdict.outcome)
        )
        if len(line.points) >= 2 * MOST_POINTS:
            line.points = [*line.points[:-1:2], line.points[-1]]
    if not trace.shares or trace.shares[-1][1] != tick.share:
        trace.shares.append((time, tick.share))
    trace.tick = number
    trace.looks += 1
    trace.requests = tick.requests


def named(verdicts: tuple[Verdict, ...]) -> Mapping[str, Verdict]:
    """Verdicts by guardrail; a second one of the same guardrail gets a number."""
    found: dict[str, Verdict] = {}
    for verdict in verdicts:
        name, again = verdict.guardrail, 1
        while name in found:
            again += 1
            name = f"{verdict.guardrail} {again}"
        found[name] = verdict
    return found


def _log10(natural: float) -> float:
    return (
        max(-MOST_LOG10, min(MOST_LOG10, natural / LN10))
        if math.isfinite(natural)
        else math.copysign(MOST_LOG10, natural)
    )
