from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.harness import bare, models
from benchmarks.harness.measure import Effort, Spread, alternate, ratio
from benchmarks.harness.results import Result
from benchmarks.harness.subjects import PREDICT, tidegate
from benchmarks.harness.wrk import wrk


def run(effort: Effort) -> Result:
    result = Result("uncompiled")
    path = models.make().forest_sklearn
    with tidegate({"iris": {"model": str(path), "options": {"compile": False}}}) as ours:
        wrk(ours.port, PREDICT, connections=32, seconds=effort.warm_up)
        cases: dict[str, Callable[[], float]] = {
            "bare": partial(bare.rate, "sklearn", str(path), batch=32, seconds=effort.seconds),
            "tidegate": lambda: wrk(ours.port, PREDICT, connections=32, seconds=effort.seconds).rate,
        }
        found = alternate(effort.rounds, cases)
    result.figures.update(found)
    share = ratio(found["tidegate"], found["bare"])
    result.add("uncompiled RF, 32 connections: ours / bare model at batch 32", share, side="at least", bound=0.9)
    for name, values in found.items():
        result.add(f"uncompiled RF: {name}", Spread.of(values), unit="rows/s")
    return result
