from __future__ import annotations

from benchmarks.harness import models
from benchmarks.harness.closed import compare, rates
from benchmarks.harness.measure import Effort, ratio
from benchmarks.harness.results import Result
from benchmarks.harness.server import free_port
from benchmarks.harness.subjects import PREDICT, tidegate


def run(effort: Effort) -> Result:
    result = Result("tracing_off")
    endpoints = {"iris": {"model": str(models.make().forest)}}
    nobody = f"http://127.0.0.1:{free_port()}"
    with (
        tidegate(endpoints) as off,
        tidegate(endpoints, {"tracing": {"endpoint": nobody, "sample_rate": 0.0}}) as unsampled,
        tidegate(endpoints, {"tracing": {"endpoint": nobody, "sample_rate": 0.01}}) as sampled,
    ):
        cases = {"off": (off, PREDICT), "unsampled": (unsampled, PREDICT), "1 in 100": (sampled, PREDICT)}
        found = compare(effort, cases, connections=32, result=result, label="tracing")
    for name, aim in (("unsampled", {"side": "at least", "bound": 0.97}), ("1 in 100", {})):
        result.add(f"tracing {name} / off", ratio(rates(found[name]), rates(found["off"])), **aim)
    return result
