"""R5: SIGTERM turns readiness off, takes connections for the grace period, drains, ends with 0; a second one forces."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from tests.caller import Answer, Load, anew, sum_of_row
from tests.process import Server, serving, until
from tidegate.storage.store import open_store
from tidegate.testing.models import write_python_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RESTARTS = 100


def config(drain: float = 0.0, shutdown: float = 10.0, **options: Any) -> dict[str, Any]:
    return {
        "server": {"drain_seconds": drain, "shutdown_seconds": shutdown},
        "endpoints": {"sum": {"model": "fake:", "options": options}},
    }


def in_background(
    server: Server, answers: list[Answer | OSError], row: list[float], path: str = "/predict"
) -> threading.Thread:
    def ask() -> None:
        try:
            answers.append(server.predict(row, path))
        except OSError as error:
            answers.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("workers", [1, 2])
def test_readiness_goes_off_while_requests_are_still_answered(tmp_path: Path, workers: int) -> None:
    with serving(tmp_path, config(drain=2.0, base_ms=1), workers=workers) as server:
        with Load(server.port, sum_of_row(0.0), clients=3, pause=0.005) as load:
            until(lambda: load.tally.answered > 20, "some load")
            server.signal(signal.SIGTERM)
            until(lambda: server.call("GET", "/readyz").status == 503, "not ready", 1.5)
            assert server.call("GET", "/readyz").json["reasons"] == ["draining"]
            assert server.call("GET", "/healthz").status == 200
            fresh = server.predict([1, 2, 3, 4])
            assert fresh.status == 200
            assert fresh.headers["connection"] == "close"
            before = load.tally.answered
            until(lambda: load.tally.answered > before + 20, "answers in the grace period", 1.5)
            load.tally.assert_clean()
        assert server.wait_end(10) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_in_flight_is_answered_before_the_end(tmp_path: Path, workers: int) -> None:
    with serving(tmp_path, config(base_ms=1500), workers=workers) as server:
        answers: list[Answer | OSError] = []
        threads = [in_background(server, answers, [float(number), 0, 0, 0]) for number in range(6)]
        until(lambda: server.counted("tidegate_queue_rows") >= 1, "some wait", 5)
        server.signal(signal.SIGTERM)
        for thread in threads:
            thread.join(15)
        assert server.wait_end(15) == 0
        assert [type(answer) for answer in answers] == [Answer] * 6, answers
        got = sorted(answer.json["predictions"][0] for answer in answers if isinstance(answer, Answer))
        assert got == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_signal_ends_it_at_once(tmp_path: Path, workers: int) -> None:
    with serving(tmp_path, config(drain=60.0), workers=workers) as server:
        processes = server.workers()
        server.signal(signal.SIGTERM)
        server.wait_logged("draining", times=workers)
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait_end(10) == 1
        assert time.monotonic() - started < 5
        assert not [process for process in processes if process.is_running() and process.pid != server.process.pid]


def _lives(server: Server) -> bool:
    try:
        return server.call("GET", "/healthz").status == 200
    except OSError:
        return False


@pytest.mark.parametrize("workers", [1, 2])
def test_a_load_that_takes_long_does_not_keep_the_server(tmp_path: Path, workers: int) -> None:
    folder = write_python_model(tmp_path / "slow", "import time\ntime.sleep(60)\n")
    settings = {"endpoints": {"slow": {"model": str(folder)}}, "trust": {"pickles": [str(folder)]}}
    with serving(tmp_path, settings, workers=workers, ready=False) as server:
        until(lambda: _lives(server), "it lives")
        assert server.call("GET", "/readyz").status == 503
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait_end(20) == 0
        assert time.monotonic() - started < 10


@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_that_hangs_does_not_keep_the_server(tmp_path: Path, workers: int) -> None:
    with serving(tmp_path, config(shutdown=1.0, hang=True), workers=workers) as server:
        answers: list[Answer | OSError] = []
        in_background(server, answers, [1, 2, 3, 4])
        until(lambda: _in_flight(server), "a request hangs", 5)
        server.signal(signal.SIGTERM)
        code = server.wait_end(20)
        assert code in (0, 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_that_hangs_and_a_store_that_does_too_end_in_order(tmp_path: Path, workers: int) -> None:
    """Each takes all of the time that it may: then nobody needs to be killed."""
    stuck = {"model": "fake:", "options": {"hang": True}}
    url = f"sqlite:///{tmp_path}/tidegate.db"
    open_store(url, migrate=True).close()
    settings = config(shutdown=1.0) | {"store": {"url": url}}
    settings["endpoints"]["stuck"] = stuck
    with serving(tmp_path, settings, workers=workers) as server:
        answers: list[Answer | OSError] = []
        writer = sqlite3.connect(tmp_path / "tidegate.db", timeout=30, isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")
        try:
            for _ in range(8):
                assert server.predict([1, 2, 3, 4], "/predict/sum").status == 200
                in_background(server, answers, [1, 2, 3, 4], "/predict/stuck")
            until(lambda: _in_flight(server), "requests hang", 5)
            server.signal(signal.SIGTERM)
            assert server.wait_end(40) == 0
        finally:
            writer.close()


def _in_flight(server: Server) -> bool:
    own = [psutil.Process(server.process.pid), *server.workers()]
    return any(connection.status == "ESTABLISHED" for process in own for connection in process.net_connections("tcp"))


@pytest.mark.parametrize(("drain", "restarts"), [(0.1, RESTARTS), (0.0, 10)])
def test_rolling_restarts_under_load_fail_no_request(tmp_path: Path, drain: float, restarts: int) -> None:
    """One of two processes is told to end, again and again; clients keep their connections, and may try a request again
    only where ``tests.caller.Caller`` says that this is right."""
    with serving(tmp_path, config(drain, base_ms=1), workers=2) as server:
        with Load(server.port, anew(sum_of_row(0.0), every=2, pause=0.02), clients=6, pause=0.003) as load:
            for number in range(restarts):
                victim = until(lambda: _two(server), "two processes")[number % 2]
                os.kill(victim.pid, signal.SIGTERM)
                until(partial(_ended, server, victim), "its end")
                server.wait_logged("in force", times=number + 3)
                assert load.tally.failed == 0, load.tally.failures
        load.tally.assert_clean(at_least=restarts)
        until(lambda: _two(server), "two processes")
        assert server.is_ready()
        assert server.counted("tidegate_requests_total", outcome="ok") >= load.tally.answered
    print(f"{load.tally.answered} answered, {load.tally.retried} sent again on a fresh connection")


def _ended(server: Server, process: psutil.Process) -> bool:
    return process not in server.workers()


def _two(server: Server) -> list[psutil.Process]:
    found = server.workers()
    return sorted(found, key=lambda process: process.create_time()) if len(found) == 2 else []
