"""Jobs on real worker processes that are killed at every turn. Checked afterwards: whatever was acknowledged has ended, and
every row of every file has exactly one result or one entry among the errors."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
import yaml

from tests.process import free_port
from tests.process import until as until_then
from tests.services import halt, launch
from tidegate.clock import SystemClock
from tidegate.control.jobs.job import Job
from tidegate.control.jobs.queue import Queue
from tidegate.errors import StoreAway
from tidegate.settings import Jobs
from tidegate.storage.store import Store, open_store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PIECE = 65_536
"""Rows of a piece of Parquet."""
SETTINGS = {"lease_seconds": 1.5, "poll_seconds": 0.05, "backoff_seconds": 0.05}


def until(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> None:
    until_then(condition, what, seconds)


class World:
    """A store, a configuration, and workers that come and go."""

    def __init__(self, folder: Path, url: str = "", slow_ms: float = 0.0) -> None:
        self.folder = folder
        url = url or f"sqlite:///{folder / 'store.db'}"
        config = {
            "endpoints": {"sum": {"model": "fake:", "options": {"columns": ["a", "b"], "base_ms": slow_ms}}},
            "store": {"url": url, "folder": str(folder)},
            "jobs": SETTINGS,
        }
        (folder / "tidegate.yaml").write_text(yaml.safe_dump(config))
        self.store: Store = open_store(url, migrate=True)
        self.queue = Queue(self.store, Jobs(**SETTINGS), SystemClock())  # type: ignore[arg-type]
        self.log = (folder / "worker.log").open("ab")
        self.workers: list[subprocess.Popen[bytes]] = []

    def worker(self, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tidegate", "worker", "--config", str(self.folder / "tidegate.yaml"), *options]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
        process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env=environment)
        self.workers.append(process)
        return process

    def submit(self, source: Path, output: str = "csv", attempts: int = 50) -> str:
        form = source.suffix.removeprefix(".")
        payload = {"endpoint": "sum", "source": str(source), "format": form, "output": output}
        return self.queue.submit("batch", payload, who="ada", endpoint="sum", attempts=attempts).id

    def job(self, id: str) -> Job:  # noqa: A002
        return self.queue.get(id)

    def child(self, worker: subprocess.Popen[bytes]) -> psutil.Process | None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(worker.pid).children():
                if "tidegate.apps.task" in process.cmdline():
                    return process
        return None

    def pieces(self, id: str) -> int:  # noqa: A002
        return len(list((self.folder / "jobs" / id / "pieces").glob("*.note")))

    def has_pieces(self, id: str, number: int) -> bool:  # noqa: A002
        return self.pieces(id) >= number

    def either(self, id: str, reached: Callable[[], bool]) -> bool:  # noqa: A002
        return reached() or not self.job(id).open

    def at_work(self, worker: subprocess.Popen[bytes], id: str, pieces: int) -> bool:  # noqa: A002
        return self.child(worker) is not None and self.pieces(id) >= pieces

    def some_run(self, jobs: list[str], wanted: int) -> bool:
        return sum(self.job(job).state != "queued" for job in jobs) >= wanted

    def done(self, id: str, seconds: float = 60.0) -> Job:  # noqa: A002
        def ended() -> bool:
            return not self.job(id).open

        until(ended, f"job {id} ends:\n{(self.folder / 'worker.log').read_text()[-3000:]}", seconds)
        return self.job(id)

    def rows(self, id: str) -> tuple[dict[int, float], set[int]]:  # noqa: A002
        """Answer by row, and the rows without one; none of them twice, none in both, in order."""
        folder = self.folder / "jobs" / id
        lines = (folder / "results.csv").read_text().splitlines()[1:]
        answers = [(int(line.split(",")[0]), float(line.split(",")[1])) for line in lines]
        errors = [json.loads(line)["row"] for line in (folder / "errors.jsonl").read_text().splitlines()]
        assert [row for row, _ in answers] == sorted({row for row, _ in answers})
        assert errors == sorted(set(errors))
        assert not set(errors) & {row for row, _ in answers}
        return dict(answers), set(errors)

    def close(self) -> None:
        for process in self.workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
            process.kill()
            process.wait()
        self.log.close()
        self.store.close()


def gone(process: psutil.Process) -> bool:
    return not process.is_running()


@contextlib.contextmanager
def world(folder: Path, **more: Any) -> Iterator[World]:
    made = World(folder, **more)
    try:
        yield made
    finally:
        made.close()


def table(path: Path, rows: int, missing: int = 7) -> Path:
    """Rows 1 to ``rows`` with a = row, b = 1; every ``missing``-th thousandth row lacks its a."""
    numbers = [None if row % (missing * 1000) == 0 else float(row) for row in range(1, rows + 1)]
    pq.write_table(pa.table({"a": pa.array(numbers, pa.float64()), "b": [1.0] * rows}), path, row_group_size=PIECE)
    return path


def check(made: World, id: str, rows: int) -> None:  # noqa: A002
    answers, errors = made.rows(id)
    assert answers.keys() | errors == set(range(1, rows + 1))
    assert errors == set(range(7000, rows + 1, 7000))
    assert all(answer == row + 1 for row, answer in answers.items())


def test_a_worker_killed_at_every_step_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """BentoML tasks, Ray Serve async: an async queue only for development; here jobs are durable by default."""
    rows = 4 * PIECE + 1234
    with world(tmp_path, slow_ms=60.0) as made:
        job = made.submit(table(tmp_path / "in.parquet", rows))
        steps: list[tuple[str, Callable[[], bool]]] = [
            ("claimed", lambda: made.job(job).state == "running"),
            ("model pinned", lambda: "model" in made.job(job).steps),
            *((f"piece {number}", partial(made.has_pieces, job, number)) for number in (1, 3, 5)),
            ("joined", lambda: "joined" in made.job(job).steps),
        ]
        for name, reached in steps:
            worker = made.worker()
            until(partial(made.either, job, reached), name)
            child = made.child(worker)
            worker.kill()
            worker.wait()
            if child is not None:
                until(partial(gone, child), "the child ends with its worker")
        made.worker()
        found = made.done(job)
        assert (found.state, found.error) == ("done", "")
        assert found.result["rows"] == rows
        assert len(found.attempts) >= 3
        check(made, job, rows)


def test_a_child_killed_again_and_again_ends_the_job_all_the_same(tmp_path: Path) -> None:
    rows, killed = 3 * PIECE, 0
    with world(tmp_path, slow_ms=60.0) as made:
        job, worker = made.submit(table(tmp_path / "in.parquet", rows)), made.worker()
        for pieces in (0, 1, 2):
            until(partial(made.at_work, worker, job, pieces), "a child at work")
            child = made.child(worker)
            if child is not None and made.job(job).open:
                child.kill()
                killed += 1
                until(partial(gone, child), "the child is gone")
        found = made.done(job)
        assert (found.state, found.tries) == ("done", killed + 1)
        assert all("SIGKILL" in one.error for one in found.attempts[:-1])
        check(made, job, rows)


def test_what_was_acknowledged_survives_workers_killed_at_random(tmp_path: Path) -> None:
    chance = random.Random(7)
    with world(tmp_path) as made:
        jobs: list[str] = []
        for number in range(6):
            (tmp_path / f"{number}.csv").write_text("a,b\n" + "".join(f"{row},1\n" for row in range(1, 101)) + "x,1\n")
            jobs.append(made.submit(tmp_path / f"{number}.csv"))
        for _ in range(3):
            worker = made.worker("--jobs", "2")
            wanted = chance.randint(1, 2)
            until(partial(made.some_run, jobs, wanted), "some run")
            worker.kill()
            worker.wait()
        made.worker("--jobs", "2")
        made.worker("--jobs", "2")
        for job in jobs:
            assert made.done(job).state == "done"
            answers, errors = made.rows(job)
            assert answers == {row: row + 1 for row in range(1, 101)}
            assert errors == {101}


def test_a_worker_that_is_told_to_end_hands_its_job_back(tmp_path: Path) -> None:
    rows = 3 * PIECE
    with world(tmp_path, slow_ms=300.0) as made:
        job, worker = made.submit(table(tmp_path / "in.parquet", rows)), made.worker()
        until(lambda: made.pieces(job) >= 1, "the first piece")
        worker.send_signal(signal.SIGTERM)
        until(lambda: "ending" in (tmp_path / "worker.log").read_text(), "the worker takes nothing more")
        worker.send_signal(signal.SIGTERM)  # it need not wait for the job
        assert worker.wait(20) == 0
        found = made.job(job)
        assert (found.state, found.tries, found.attempts) == ("queued", 0, ())
        made.worker()
        assert made.done(job).tries == 1
        check(made, job, rows)


def test_a_store_that_restarts_is_waited_for(tmp_path: Path) -> None:
    rows = 3 * PIECE
    (tmp_path / "database").mkdir()
    port = free_port()
    server = launch("postgresql", tmp_path / "database", port)
    try:
        with world(tmp_path, url=server.url, slow_ms=150.0) as made:
            job = made.submit(table(tmp_path / "in.parquet", rows))
            made.worker()
            until(lambda: made.pieces(job) >= 1, "the first piece")
            halt("postgresql", server.pid)
            until(lambda: made.pieces(job) >= 3, "the pieces are written without the store")
            server = launch("postgresql", tmp_path / "database", port)

            def ended() -> bool:
                with contextlib.suppress(StoreAway):
                    return not made.job(job).open
                return False

            until(ended, f"the job ends:\n{(tmp_path / 'worker.log').read_text()[-3000:]}", 60)
            assert made.job(job).state == "done"
            check(made, job, rows)
    finally:
        halt("postgresql", server.pid)


def test_the_worker_itself_loads_nothing_heavy() -> None:
    script = "import sys, tidegate.apps.worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    heavy = {"pandas", "sklearn", "pyarrow", "mlflow", "fastapi", "uvicorn", "onnxruntime", "scipy"}
    assert sorted(loaded & heavy) == []
