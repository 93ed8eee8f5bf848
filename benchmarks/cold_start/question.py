from __future__ import annotations

from benchmarks.harness import models
from benchmarks.harness.measure import Effort, Spread, alternate, ratio
from benchmarks.harness.results import Result
from benchmarks.harness.subjects import floor, tidegate_file


def run(effort: Effort) -> Result:
    result = Result("cold_start")
    path = models.make().forest

    def of_floor() -> float:
        with floor(path) as server:
            return server.seconds_to_first_answer

    def of_tidegate() -> float:
        with tidegate_file(path) as server:
            return server.seconds_to_first_answer

    of_floor()
    of_tidegate()
    found = alternate(effort.rounds, {"floor": of_floor, "tidegate": of_tidegate})
    result.figures.update(found)
    result.add("cold start: ours / floor", ratio(found["tidegate"], found["floor"]), side="at most", bound=1.5)
    for name, values in found.items():
        result.add(f"cold start: {name}", Spread.of(values), unit="s")
    return result
