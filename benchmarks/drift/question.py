from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np

from benchmarks.harness.machine import ROOT
from benchmarks.harness.measure import Effort, Spread, alternate, ratio
from benchmarks.harness.results import Result
from tests.unit.control.monitoring import simulation
from tidegate.monitor_plan import DriftPlan

ROWS = int(os.environ.get("BENCHMARK_DRIFT_ROWS", "1000000"))
GRID = (50, 100, 150, 200, 300, 500, 1000, 2000, 5000)
SIZES = (50, 200, 1000, 10_000, 100_000)


def run(effort: Effort) -> Result:
    result = Result("drift")
    compare(result, effort)
    rng = np.random.default_rng(1)
    false_alarms(result, rng)
    delays(result, rng, windows=40)
    return result


def compare(result: Result, effort: Effort) -> None:
    """Processor time is compared: it is the same on a machine that others use as well."""
    found = alternate(
        max(1, effort.rounds // 5), {"ours": lambda: side("ours"), "evidently": lambda: side("evidently")}
    )
    ours, theirs = found["ours"], found["evidently"]
    what = f"{ROWS / 1e6:g} M × 50"
    result.add(
        f"{what}: Evidently's time / ours", ratio(series(theirs, "cpu_seconds"), series(ours, "cpu_seconds")),
        side="at least", bound=20,
    )  # fmt: skip
    for name, rounds in (("Tidegate", ours), ("Evidently", theirs)):
        result.add(f"{what}: {name}, processor time", Spread.of(series(rounds, "cpu_seconds")), unit="s")
        result.add(f"{what}: {name}, wall-clock time", Spread.of(series(rounds, "seconds")), unit="s")
    result.add(f"{what}: Evidently, memory beside the data", Spread.of(series(theirs, "grown_mb")), unit="MB")
    result.add(
        f"{what}: Tidegate, memory beside the data", Spread.of(series(ours, "grown_mb")), unit="MB", side="at most",
        bound=100,
    )  # fmt: skip
    result.figures["sides"] = found


def side(name: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.drift.side", name, str(ROWS)],
        cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "DO_NOT_TRACK": "1"},
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def series(rounds: list[dict[str, Any]], key: str) -> list[float]:
    return [float(one[key]) for one in rounds]


def false_alarms(result: Result, rng: np.random.Generator) -> None:
    """The worst of all sizes, of each measure: alpha is 0.01, and three standard errors."""
    for method in simulation.NUMBER_METHODS:
        shares = [_numbers(rng, method, n, tail) for n in SIZES for tail in ("normal", "heavy")]
        _add(result, f"false alarms, numbers: {method}", shares)
    for method in simulation.CATEGORY_METHODS:
        shares = [
            simulation.alarms(method, "category", simulation.null_categories(rng, n, number))[0]
            for n in SIZES
            for number in (3, 100)
        ]
        _add(result, f"false alarms, categories: {method}", shares)
    for n in (50, 200):
        bare = simulation.bare_psi(simulation.null_numbers(rng, n, m=max(n, 100)))
        result.add(f"false alarms, PSI > 0.1 whatever the rows, {n}", Spread.of([bare]), unit="")
    result.add("false alarms, bins that move, 50", Spread.of([simulation.moving_bins(rng, 50)]), unit="")
    frozen = simulation.reference()
    for n in (60, 500):
        share = simulation.false_alarms(rng, frozen, n, DriftPlan(), 300)
        result.add(
            f"false alarms, a check of 20 columns, {n} rows", Spread.of([share]), unit="", side="at most",
            bound=simulation.allowed(windows=300),
        )  # fmt: skip


def _numbers(rng: np.random.Generator, method: Any, n: int, tail: str) -> float:
    sides = simulation.null_numbers(rng, n)
    values = rng.normal(size=10_000) if tail == "normal" else rng.lognormal(0, 2, 10_000)
    return simulation.alarms(method, "number", sides, simulation.column_with(values))[0]


def _add(result: Result, what: str, shares: list[float]) -> None:
    """Of ten sizes and shapes the mean is held to the promise, the worst is shown."""
    result.add(
        what, Spread(float(np.mean(shares)), min(shares), max(shares), simulation.WINDOWS), unit="", side="at most",
        bound=simulation.allowed(),
    )  # fmt: skip


def delays(result: Result, rng: np.random.Generator, windows: int) -> None:
    frozen = simulation.reference()
    methods: dict[str, DriftPlan] = {
        name: DriftPlan(method=name) for name in ("auto", "psi", "ks", "js", "wasserstein", "chi2", "linf")
    }
    table: dict[str, dict[str, int | None]] = {}
    for planted in simulation.PLANTED:
        table[planted] = {}
        for name, plan in methods.items():
            shares = ((n, simulation.found(rng, frozen, planted, n, plan, windows)) for n in GRID)
            table[planted][name] = next((n for n, share in shares if share >= 0.9), None)
        if (rows := table[planted]["auto"]) is not None:
            result.add(f"rows until found: {planted}", Spread.of([float(rows)]), unit="")
    result.figures["rows until found in nine windows of ten"] = table
