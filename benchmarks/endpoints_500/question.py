from __future__ import annotations

from benchmarks.harness import models
from benchmarks.harness.closed import compare, rates
from benchmarks.harness.measure import Effort, Spread, ratio
from benchmarks.harness.request import Request
from benchmarks.harness.results import Result
from benchmarks.harness.subjects import tidegate

MANY = 500
QUICK = {"model": "fake:", "runtime": "fake", "options": {"inline": True, "columns": 4}}
REQUEST = Request("/predict/endpoint-250", models.document())


def run(effort: Effort) -> Result:
    result = Result("endpoints_500")
    many = {f"endpoint-{number}": QUICK for number in range(MANY)}
    with tidegate({"endpoint-250": QUICK}, probe=REQUEST) as one, tidegate(many, probe=REQUEST) as all_of_them:
        sizes = {"1": one.memory_mb()["total"], str(MANY): all_of_them.memory_mb()["total"]}
        cases = {"1 endpoint": (one, REQUEST), f"{MANY} endpoints": (all_of_them, REQUEST)}
        found = compare(effort, cases, connections=32, result=result, label="endpoints")
        result.figures["seconds to the first answer"] = all_of_them.seconds_to_first_answer
    share = ratio(rates(found[f"{MANY} endpoints"]), rates(found["1 endpoint"]))
    result.add(f"{MANY} endpoints / 1 endpoint, requests a second", share, side="at least", bound=0.95)
    each = 1024 * (sizes[str(MANY)] - sizes["1"]) / (MANY - 1)
    result.add("memory of an endpoint besides its model", Spread.of([each]), unit="kB", side="at most", bound=50)
    result.add(f"cold start with {MANY} endpoints", Spread.of([all_of_them.seconds_to_first_answer]), unit="s")
    return result
