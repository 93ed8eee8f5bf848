from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.harness import bare
from benchmarks.harness.measure import Effort, Spread, alternate, ratio
from benchmarks.harness.results import Result
from benchmarks.harness.subjects import PREDICT, tidegate
from benchmarks.harness.wrk import wrk

BASE_MS, ROW_MS = 20.0, 1.0
SLOW = {"model": "fake:", "runtime": "fake", "options": {"base_ms": BASE_MS, "rows_ms": ROW_MS}}


def run(effort: Effort) -> Result:
    result = Result("batching")
    with tidegate({"slow": SLOW}) as ours:
        wrk(ours.port, PREDICT, connections=32, seconds=effort.warm_up)
        cases: dict[str, Callable[[], float]] = {
            "bare": partial(bare.rate, "slow", f"{BASE_MS},{ROW_MS}", batch=32, seconds=effort.seconds),
            "tidegate": lambda: wrk(ours.port, PREDICT, connections=32, seconds=effort.seconds).rate,
        }
        found = alternate(effort.rounds, cases)
        alone = [wrk(ours.port, PREDICT, connections=1, seconds=effort.seconds) for _ in range(effort.rounds)]
    result.figures.update(found, alone=alone)
    share = ratio(found["tidegate"], found["bare"])
    result.add("slow model, 32 connections: ours / bare loop at batch 32", share, side="at least", bound=0.95)
    waited = Spread.of([load.p50_ms - BASE_MS - ROW_MS for load in alone])
    result.add("slow model, 1 connection: p50 beyond the model's 21 ms", waited, unit="ms", side="at most", bound=1.0)
    for name, values in found.items():
        result.add(f"slow model: {name}", Spread.of(values), unit="rows/s")
    return result
