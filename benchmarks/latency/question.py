from __future__ import annotations

from benchmarks.harness import models
from benchmarks.harness.closed import compare
from benchmarks.harness.measure import Effort, Spread, difference, ratio
from benchmarks.harness.results import Result
from benchmarks.harness.subjects import PREDICT, floor, tidegate


def run(effort: Effort) -> Result:
    result = Result("latency")
    path = models.make().forest
    with floor(path) as base, tidegate({"iris": {"model": str(path)}}) as ours:
        cases = {"floor": (base, PREDICT), "tidegate": (ours, PREDICT)}
        found = compare(effort, cases, connections=1, result=result, label="RF, 1 connection")
    medians = {name: [1000 * load.p50_ms for load in loads] for name, loads in found.items()}
    tails = {name: [1000 * load.p99_ms for load in loads] for name, loads in found.items()}
    added = difference(medians["tidegate"], medians["floor"])
    result.add("1 connection: p50 added to the floor's", added, unit="µs", side="at most", bound=40)
    tail = ratio(tails["tidegate"], tails["floor"])
    result.add("1 connection: p99, ours / floor", tail, side="at most", bound=2)
    for name in found:
        result.add(f"1 connection: p50, {name}", Spread.of(medians[name]), unit="µs")
        result.add(f"1 connection: p99, {name}", Spread.of(tails[name]), unit="µs")
    return result
