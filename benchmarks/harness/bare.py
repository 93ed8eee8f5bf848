"""A model called in a plain loop, without a server: what batching can reach at most.

``python -m benchmarks.harness.bare KIND ARGUMENT BATCH SECONDS`` prints rows a second.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.harness import models
from benchmarks.harness.machine import ROOT, SERVER_CORE


def rate(kind: str, argument: str, *, batch: int = 32, seconds: float = 2.0) -> float:
    """Rows a second on the server's core, in a process of its own. ``kind``: sklearn (a path) or slow ("20,1")."""
    done = subprocess.run(
        ["taskset", "-c", str(SERVER_CORE), sys.executable, "-m", "benchmarks.harness.bare",
         kind, argument, str(batch), str(seconds)],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    return float(done.stdout)


def _sklearn(path: str) -> Callable[[Any], Any]:
    import joblib

    # Scores in one pass, as the server needs them; the classes follow from them.
    predict: Callable[[Any], Any] = joblib.load(path).predict_proba
    return predict


def _slow(argument: str) -> Callable[[Any], Any]:
    base, row = (float(part) / 1000 for part in argument.split(","))
    return lambda rows: time.sleep(base + row * len(rows))


def _main(kind: str, argument: str, batch: int, seconds: float) -> None:
    import numpy

    predict = {"sklearn": _sklearn, "slow": _slow}[kind](argument)
    rows = numpy.asarray(models.features(batch))
    for _ in range(5):
        predict(rows)
    calls = 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        predict(rows)
        calls += 1
    print(calls * batch / (time.perf_counter() - began))


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
