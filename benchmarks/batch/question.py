from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.harness.machine import CORES
from benchmarks.harness.measure import Effort, Spread, alternate, ratio
from benchmarks.harness.results import Result
from tidegate.testing.models import IRIS_COLUMNS, iris, write_classifier_onnx

ROWS = 4_000_000


def run(effort: Effort) -> Result:
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow import csv, parquet

    result = Result("batch")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = write_classifier_onnx(folder / "iris.onnx")
        rows = np.random.default_rng(0).normal(iris()[0].mean(0), 0.5, size=(ROWS, 4)).round(3)
        table = pa.table(dict(zip(IRIS_COLUMNS, rows.T, strict=True)))
        csv.write_csv(table, folder / "in.csv")
        parquet.write_table(table, folder / "in.parquet")
        for form in ("csv", "parquet"):
            cases = {what: partial(rate, what, folder / f"in.{form}", model) for what in ("bare", "job")}
            found = alternate(effort.rounds, cases)
            result.figures.update({f"{form} {what}": values for what, values in found.items()})
            words = f"{form.upper() if form == 'csv' else 'Parquet'}, 4 million rows: job / bare loop"
            result.add(words, ratio(found["job"], found["bare"]), side="at least", bound=0.8)
            for what, values in found.items():
                result.add(f"batch, {form}: {what}", Spread.of(values), unit="rows/s")
    return result


def rate(what: str, source: Path, model: Path) -> float:
    cores = ",".join(map(str, CORES))  # a child would take the one core that this process keeps to for all there are
    command = [sys.executable, "-m", "benchmarks.batch.subject", what, str(source), str(model), cores]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{what}: {done.stderr[-2000:]}")
    return ROWS / float(done.stdout)
