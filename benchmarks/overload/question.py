from __future__ import annotations

from benchmarks.harness.measure import Effort, Spread
from benchmarks.harness.openloop import Offered, offer, percentile
from benchmarks.harness.results import Result
from benchmarks.harness.subjects import PREDICT, tidegate
from benchmarks.harness.wrk import wrk

BATCH = 32
BASE_MS, ROW_MS = 20.0, 1.0
CAPACITY = 1000 * BATCH / (BASE_MS + BATCH * ROW_MS)
SLO_MS = 250.0
REFUSED = (429, 503, 504)
SLOW = {
    "model": "fake:", "runtime": "fake", "options": {"base_ms": BASE_MS, "rows_ms": ROW_MS},
    "batching": {"max_rows": BATCH}, "slo": {"p99_ms": SLO_MS},
}  # fmt: skip


def run(effort: Effort) -> Result:
    result = Result("overload")
    seconds = max(4.0, 2 * effort.seconds)
    rounds = max(1, effort.rounds // 2)
    with tidegate({"slow": SLOW}) as ours:
        wrk(ours.port, PREDICT, connections=64, seconds=effort.warm_up)
        closed = wrk(ours.port, PREDICT, connections=64, seconds=seconds).rate
        steady = offer(ours.port, PREDICT, rate=0.95 * CAPACITY, seconds=seconds).goodput(SLO_MS)
        peak = max(closed, steady)
        result.add("overload: peak goodput", Spread.of([peak]), unit="req/s", note=f"model's own limit {CAPACITY:.0f}")
        for times in (2, 4, 6):
            found = [offer(ours.port, PREDICT, rate=times * CAPACITY, seconds=seconds) for _ in range(rounds)]
            result.figures[f"{times} x"] = [_summary(one) for one in found]
            _judge(result, times, found, peak)
    return result


def _judge(result: Result, times: int, found: list[Offered], peak: float) -> None:
    goodput = Spread.of([one.goodput(SLO_MS) / peak for one in found])
    result.add(f"overload {times} ×: goodput / peak", goodput, side="at least", bound=0.9)
    accepted = Spread.of([percentile(one.latencies(200), 0.99) for one in found])
    result.add(f"overload {times} ×: p99 of accepted", accepted, unit="ms", side="at most", bound=SLO_MS)
    refused = Spread.of([percentile(one.latencies(429, 503), 0.99) for one in found])
    result.add(f"overload {times} ×: p99 of refusals", refused, unit="ms", side="at most", bound=5)
    other = Spread.of([len(one.answers) - one.count(200, *REFUSED) for one in found])
    result.add(f"overload {times} ×: neither answered nor refused", other, unit="", side="at most", bound=0)


def _summary(one: Offered) -> dict[str, object]:
    statuses = sorted({answer.status for answer in one.answers})
    return {
        "statuses": {str(status): one.count(status) for status in statuses},
        "goodput": one.goodput(SLO_MS),
        "latency_ms": {
            str(status): {str(share): percentile(one.latencies(status), share) for share in (0.5, 0.99, 0.999)}
            for status in statuses
        },
    }
