from __future__ import annotations

import json
import signal
import time

from benchmarks.harness.machine import CORES, SERVER_CORE
from benchmarks.harness.measure import Effort, Spread
from benchmarks.harness.openloop import Offering
from benchmarks.harness.results import Result
from benchmarks.harness.subjects import PREDICT, configuration, tidegate, write

RATE = 1000.0
EVERY = 2.0
"""Seconds between swaps."""


def model(version: int) -> dict[str, object]:
    return {"model": "fake:", "runtime": "fake", "version": f"v{version}", "options": {"bias": version, "inline": True}}


def run(effort: Effort) -> Result:
    result = Result("hot_swap")
    swaps = max(4, effort.rounds)
    workers = {"server": {"workers": 2}} if len(CORES) > 1 else {}
    # The load is light: sharing the second core with its generator does not matter here.
    cores = (SERVER_CORE, CORES[-1]) if workers else (SERVER_CORE,)
    asked: list[float] = []
    with tidegate({"iris": model(1)}, workers, cores=cores) as ours:
        load = Offering(ours.port, PREDICT, rate=RATE, seconds=EVERY * (swaps + 1), capture=r'"version": ?"(v[0-9]+)"')
        for version in range(2, swaps + 2):
            time.sleep(max(0.0, load.began + EVERY * (version - 1) - time.perf_counter()))
            write(ours.folder, configuration(ours.port, {"iris": model(version)}, workers))
            asked.append(time.perf_counter() - load.began)
            ours.signal(signal.SIGHUP)
        answers = load.result().answers
    failed = sum(answer.status != 200 for answer in answers)
    # When each answer was sent, as far as the client can tell: the last moment that its version was in use.
    last = dict.fromkeys(range(1, swaps + 2), 0.0)
    for answer in answers:
        if answer.captured:
            version = int(answer.captured[1:])
            last[version] = max(last[version], answer.due)
    late = [last[version] - when for version, when in enumerate(asked, start=1)]
    reached = sum(last[version] > 0 for version in range(2, swaps + 2))
    result.figures.update(
        {"asked": asked, "last answer": {str(k): v for k, v in last.items()}, "requests": len(answers),
         "statuses": json.dumps({s: sum(a.status == s for a in answers) for s in {a.status for a in answers}})}
    )  # fmt: skip
    result.add(f"failed requests during {swaps} swaps", Spread.of([failed]), unit="", side="at most", bound=0,
               note=f"of {len(answers)}")  # fmt: skip
    result.add("swaps that took effect", Spread.of([reached]), unit="", side="at least", bound=swaps)
    result.add("old version's last request after the swap was asked for", Spread.of(late), unit="s",
               side="at most", bound=1)  # fmt: skip
    return result
