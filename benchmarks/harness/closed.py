"""Several subjects under the same closed-loop load, in alternating rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from benchmarks.harness.measure import Effort, Spread, alternate
from benchmarks.harness.request import Request
from benchmarks.harness.results import Result
from benchmarks.harness.server import Server
from benchmarks.harness.wrk import Load, wrk

Case = tuple[Server, Request]


def compare(
    effort: Effort, cases: Mapping[str, Case], *, connections: int, result: Result, label: str
) -> dict[str, list[Load]]:
    """Warms each case up, then measures in rounds; every round's loads go into the result's figures."""
    runs: dict[str, Callable[[], Load]] = {}
    for name, (server, request) in cases.items():
        wrk(server.port, request, connections=connections, seconds=effort.warm_up)
        runs[name] = partial(wrk, server.port, request, connections=connections, seconds=effort.seconds)
    found = alternate(effort.rounds, runs)
    for name, loads in found.items():
        result.figures[f"{label}, {name}"] = loads
        failed = sum(load.failures for load in loads)
        if failed:
            result.add(f"{label}, {name}: failed requests", Spread.of([failed]), unit="", side="at most", bound=0)
    return found


def rates(loads: list[Load]) -> list[float]:
    return [load.rate for load in loads]
