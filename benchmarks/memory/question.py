from __future__ import annotations

from benchmarks.harness import models
from benchmarks.harness.measure import Effort, Spread, ratio
from benchmarks.harness.results import Result
from benchmarks.harness.server import Server
from benchmarks.harness.subjects import PREDICT, floor, tidegate_file
from benchmarks.harness.wrk import wrk


def run(effort: Effort) -> Result:
    result = Result("memory")
    path = models.make().forest
    found: dict[str, list[dict[str, float]]] = {"floor": [], "tidegate": []}

    def measure(server: Server) -> dict[str, float]:
        wrk(server.port, PREDICT, connections=32, seconds=2)
        return server.memory_mb()

    for _ in range(min(3, effort.rounds)):
        with floor(path) as server:
            found["floor"].append(measure(server))
        with tidegate_file(path) as server:
            found["tidegate"].append(measure(server))
    result.figures.update(found)
    sizes = {name: [size["total"] for size in values] for name, values in found.items()}
    result.add("memory: ours / floor", ratio(sizes["tidegate"], sizes["floor"]), side="at most", bound=1.4)
    for name, values in found.items():
        result.add(f"memory: {name}", Spread.of(sizes[name]), unit="MB")
        result.add(f"memory, resident sets: {name}", Spread.of([size["rss"] for size in values]), unit="MB")
        result.add(f"processes: {name}", Spread.of([size["processes"] for size in values]), unit="")
    return result
