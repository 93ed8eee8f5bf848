from __future__ import annotations

from benchmarks.harness import models
from benchmarks.harness.closed import compare, rates
from benchmarks.harness.measure import Effort, Spread, ratio
from benchmarks.harness.results import Result
from benchmarks.harness.subjects import PREDICT, floor, tidegate

AIMS = {32: 0.9, 128: 1.0}


def run(effort: Effort) -> Result:
    result = Result("throughput")
    made = models.make()
    for title, path in (("RF", made.forest), ("LR", made.regression)):
        with floor(path) as base, tidegate({"iris": {"model": str(path)}}) as ours:
            for connections in (32, 128) if title == "RF" else (32,):
                label = f"{title}, {connections} connections"
                cases = {"floor": (base, PREDICT), "tidegate": (ours, PREDICT)}
                found = compare(effort, cases, connections=connections, result=result, label=label)
                aim = {"side": "at least", "bound": AIMS[connections]} if title == "RF" else {}
                result.add(f"{label}: ours / floor", ratio(rates(found["tidegate"]), rates(found["floor"])), **aim)
                for name, loads in found.items():
                    result.add(f"{label}: {name}", Spread.of(rates(loads)), unit="req/s")
    with floor() as fixed:
        found = compare(effort, {"fixed": (fixed, PREDICT)}, connections=32, result=result, label="fixed answer")
        result.add("fixed answer, 32 connections", Spread.of(rates(found["fixed"])), unit="req/s")
    return result
