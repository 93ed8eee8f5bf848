"""One side of the comparison, in a process of its own: ``python -m benchmarks.drift.side ours|evidently ROWS``."""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

NUMBERS, CATEGORIES = 40, 10
REFERENCE_ROWS = 100_000


def table(rows: int, seed: int, shift: float = 0.0) -> dict[str, Any]:
    """``shift`` moves every tenth column."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {}
    for place in range(NUMBERS):
        kind, moved = place % 4, shift if place % 10 == 0 else 0.0
        if kind == 0:
            values = rng.normal(moved, 1, rows)
        elif kind == 1:
            values = rng.lognormal(moved, 1, rows)
        elif kind == 2:
            values = rng.poisson(3, rows).astype(np.float64)
        else:
            values = rng.random(rows)
            values[rng.random(rows) < 0.02] = np.nan
        columns[f"n{place}"] = values
    names = np.array([f"value {place}" for place in range(30)], dtype=object)
    for place in range(CATEGORIES):
        columns[f"c{place}"] = names[rng.zipf(1.6, rows).clip(1, 30) - 1]
    return columns


def ours(reference: dict[str, Any], current: dict[str, Any]) -> int:
    from tidegate.control.monitoring import drift, profiles
    from tidegate.monitor_plan import DriftPlan

    frozen = profiles.make_profile(reference, sample=0)
    results = drift.check_drift(frozen, profiles.fold(frozen, None, current), DriftPlan(method="psi"))
    return sum(one.drifted for one in results)


def evidently(reference: Any, current: Any) -> int:
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(
        numerical_columns=[name for name in reference.columns if name.startswith("n")],
        categorical_columns=[name for name in reference.columns if name.startswith("c")],
    )
    report = Report([DataDriftPreset(method="psi")])
    done = report.run(
        Dataset.from_pandas(current, data_definition=definition),
        Dataset.from_pandas(reference, data_definition=definition),
    )
    counted = done.dict()["metrics"][0]["value"]
    return int(counted["count"])


def warm(side: str) -> None:
    """Imports are not what is measured."""
    small = table(500, 3), table(500, 4)
    run(side, *small)


def run(side: str, reference: dict[str, Any], current: dict[str, Any]) -> dict[str, float]:
    if side == "evidently":
        import pandas

        before, now = pandas.DataFrame(reference), pandas.DataFrame(current)
        work: Any = lambda: evidently(before, now)  # noqa: E731
    else:
        work = lambda: ours(reference, current)  # noqa: E731
    peak = _Peak()
    start, used = time.perf_counter(), time.process_time()
    drifted = work()
    seconds, cpu = time.perf_counter() - start, time.process_time() - used
    return {"drifted": drifted, "seconds": seconds, "cpu_seconds": cpu, "grown_mb": peak.stop()}


class _Peak:
    """Growth of the resident set, looked at every few milliseconds."""

    def __init__(self) -> None:
        self._first = self._most = _resident()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stopped.wait(0.005):
            self._most = max(self._most, _resident())

    def stop(self) -> float:
        """In MB."""
        self._stopped.set()
        self._thread.join()
        return (max(self._most, _resident()) - self._first) / 2**20


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    name, rows = sys.argv[1], int(sys.argv[2])
    warm(name)
    print(json.dumps(run(name, table(REFERENCE_ROWS, 1), table(rows, 2, shift=0.6))))
