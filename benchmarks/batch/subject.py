"""One way through one file, in a process of its own: ``python -m benchmarks.batch.subject bare|job FILE MODEL CORES``.
Prints seconds."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from tidegate.clock import SystemClock
from tidegate.config import Loaded
from tidegate.settings import EndpointSettings, Settings, Store
from tidegate.types import ModelRef

ROWS_AT_ONCE = 16_384


def bare(source: Path, model: Path, folder: Path) -> None:
    import numpy as np
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow import csv, parquet

    from tidegate.serving.runtimes.load import load_model, settle
    from tidegate.settings import Trust

    runtime = load_model(ModelRef(str(model)), Trust(), threads=os.cpu_count() or 1).runtime
    table = csv.read_csv(source) if source.suffix == ".csv" else parquet.read_table(source)
    spec = runtime.signature.inputs[0]
    matrix = np.column_stack([column.to_numpy() for column in table.columns]).astype(np.float32)
    parts = []
    for begin in range(0, len(matrix), ROWS_AT_ONCE):
        answers = settle(runtime.predict({spec.name: matrix[begin : begin + ROWS_AT_ONCE]}))
        parts.append(answers)
    columns = {"row": np.arange(1, len(matrix) + 1)}
    for name in parts[0]:
        whole = np.concatenate([part[name] for part in parts])
        each = {name: whole} if whole.ndim == 1 else {f"{name}_{i}": whole[:, i] for i in range(whole.shape[1])}
        columns |= each
    results = pa.table(columns | {"model_version": ["1"] * len(matrix)})
    if source.suffix == ".csv":
        csv.write_csv(results, folder / "results.csv")
    else:
        parquet.write_table(results, folder / "results.parquet")


def job(source: Path, model: Path, folder: Path) -> None:
    from tidegate.apps.task import make_task
    from tidegate.control.jobs.claims import Claims
    from tidegate.control.jobs.perform import perform
    from tidegate.control.jobs.queue import Queue
    from tidegate.storage.store import open_store

    url = url_of(folder)
    settings = Settings(
        endpoints={"iris": EndpointSettings(model=str(model))}, store=Store(url=url, folder=str(folder))
    )
    form = source.suffix.removeprefix(".")
    store = open_store(url)
    queue = Queue(store, settings.jobs, SystemClock())
    payload = {"endpoint": "iris", "source": str(source), "format": form, "output": form}
    queued = queue.submit("batch", payload, who="benchmark")
    claims = Claims(store, settings.jobs, SystemClock(), "benchmark")
    claim = claims.take(("batch",))
    assert claim is not None
    task = make_task(Loaded(settings, {}, folder), claim, claims, store)
    perform(task, claim, claims, "tidegate.control.jobs.batch:run")
    done = queue.get(queued.id)
    assert done.state == "done", done.error
    assert not done.result["failed"]


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'store.db'}"


def main() -> None:
    what, source, model = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    os.sched_setaffinity(0, set(map(int, sys.argv[4].split(","))))
    import pyarrow.csv  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]  # noqa: F401 - what is imported is not measured

    import tidegate.apps.scoring
    import tidegate.control.jobs.batch  # noqa: F401
    from tidegate.storage.store import open_store

    with tempfile.TemporaryDirectory(dir=source.parent) as name:
        open_store(url_of(Path(name)), migrate=True).close()
        began = time.perf_counter()
        {"bare": bare, "job": job}[what](source, model, Path(name))
        print(time.perf_counter() - began)


if __name__ == "__main__":
    main()
