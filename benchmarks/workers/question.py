from __future__ import annotations

from benchmarks.harness import models
from benchmarks.harness.closed import compare, rates
from benchmarks.harness.machine import CORES, SERVER_CORE
from benchmarks.harness.measure import Effort, Spread, ratio
from benchmarks.harness.results import Result
from benchmarks.harness.subjects import PREDICT, tidegate


def run(effort: Effort) -> Result:
    result = Result("workers")
    if len(CORES) < 2:
        return result
    forest = {"model": str(models.make().forest_sklearn), "options": {"compile": False}, "batching": {"max_rows": 1}}
    both = (SERVER_CORE, CORES[-1])
    with (
        tidegate({"iris": forest}) as one,
        tidegate({"iris": forest}, {"server": {"workers": 2}}, cores=both) as two,
    ):
        cases = {"1 worker": (one, PREDICT), "2 workers": (two, PREDICT)}
        found = compare(effort, cases, connections=16, result=result, label="workers")
    gain = ratio(rates(found["2 workers"]), rates(found["1 worker"]))
    result.add("2 workers on 2 cores / 1 worker on 1", gain, side="at least", bound=1.8)
    for name, loads in found.items():
        result.add(f"workers: {name}", Spread.of(rates(loads)), unit="req/s")
    return result
