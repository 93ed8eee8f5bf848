"""R12: health never lies; a dead or stopped process is seen and replaced; what it counted stays counted."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import yaml

from tests.caller import Load, anew, sum_of_row
from tests.process import Server, serving, until
from tidegate.apps.child import work
from tidegate.apps.desired import Told
from tidegate.apps.owner import Owner
from tidegate.config import load_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def config(**options: Any) -> dict[str, Any]:
    return {"access": {"operate_key": "operator"}, "endpoints": {"sum": {"model": "fake:", "options": options}}}


def two(server: Server) -> list[psutil.Process]:
    found = server.workers()
    return found if len(found) == 2 else []


def ended(server: Server, process: psutil.Process) -> bool:
    return process not in server.workers()


def replaced(server: Server, process: psutil.Process) -> bool:
    return ended(server, process) and bool(two(server))


def ok(server: Server) -> float:
    return server.counted("tidegate_requests_total", outcome="ok")


def test_one_socket_and_both_processes_answer(tmp_path: Path) -> None:
    """kserve/kserve#2979, bentoml/BentoML#5056, #2286, Lightning-AI/LitServe#724: one scrape gives the sum, and whichever
    process answers it gives the same."""
    with serving(tmp_path, config(), workers=2) as server:
        prefixes = set()
        for number in range(200):
            answer = server.predict([number, 0, 0, 0])
            assert answer.json["predictions"] == [float(number)]
            prefixes.add(answer.headers["x-request-id"].partition("-")[0])
        assert len(prefixes) == 2, "each process makes request ids of its own"
        assert {ok(server) for _ in range(10)} == {200.0}
        samples = server.metrics()
        counted = [value for name, value in samples.items() if name.startswith("tidegate_request_seconds_count")]
        assert counted == [200.0]
        everything = [v for n, v in samples.items() if n.startswith("tidegate_request_seconds_bucket") and "+Inf" in n]
        assert everything == [200.0]


def test_a_killed_process_is_replaced_and_its_counts_stay(tmp_path: Path) -> None:
    """bentoml/BentoML#5056: nothing that a dead process counted is lost."""
    with serving(tmp_path, config(), workers=2) as server:
        for number in range(5):
            with Load(server.port, sum_of_row(0.0), clients=4, most=100) as load:
                load.join(30).assert_clean(at_least=100)
            assert ok(server) == 100 * (number + 1)
            victim = until(lambda: two(server), "two processes")[number % 2]
            os.kill(victim.pid, signal.SIGKILL)
            until(partial(replaced, server, victim), "a replacement")
            server.wait_logged("in force", times=number + 3)
            assert server.is_ready()
            assert ok(server) == 100 * (number + 1)
        assert server.log.count("signal 9") == 5


def test_requests_to_the_other_process_go_on_while_one_is_killed(tmp_path: Path) -> None:
    """Those in flight in the killed process are lost with it; each client sees at most one of them a kill, never a wrong
    or a refused answer, because the new process takes connections only once it is warm."""
    kills, clients = 10, 4
    with serving(tmp_path, config(load_ms=100), workers=2) as server:
        with Load(server.port, anew(sum_of_row(0.0)), clients=clients, pause=0.002) as load:
            for number in range(kills):
                os.kill(until(lambda: two(server), "two processes")[0].pid, signal.SIGKILL)
                server.wait_logged("in force", times=number + 3)
        assert load.tally.failed <= kills * clients
        broken = [text for text in load.tally.failures if "Closed" not in text and "Connection" not in text]
        assert not broken
        assert load.tally.answered > 100


def test_a_process_that_gives_no_sign_is_replaced(tmp_path: Path) -> None:
    with serving(tmp_path, config(), workers=2, environment={"TIDEGATE_HANG_SECONDS": "3"}) as server:
        victim = two(server)[0]
        victim.suspend()
        until(lambda: victim not in server.workers() and two(server), "a replacement", 20)
        assert "gives no sign" in server.log
        server.wait_logged("in force", times=3)
        with Load(server.port, sum_of_row(0.0), clients=4, most=100) as load:
            load.join(30).assert_clean(at_least=100)


def test_no_process_outlives_its_supervisor(tmp_path: Path) -> None:
    """``kill -9`` of the supervisor: its processes notice, end, and free the port for whoever is started next."""
    with serving(tmp_path, config(), workers=2) as server:
        orphans = two(server)
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(5)
        try:
            until(lambda: not any(orphan.is_running() for orphan in orphans), "their end", 15)
        finally:
            for orphan in orphans:
                with contextlib.suppress(psutil.NoSuchProcess):
                    orphan.kill()
        with pytest.raises(OSError):
            server.call("GET", "/healthz")


def test_a_process_that_is_born_after_its_supervisor_was_killed_ends(tmp_path: Path) -> None:
    """Killed at this very moment: the newborn is adopted before it can ask who its parent is."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(20)
    (tmp_path / "tidegate.yaml").write_text(yaml.safe_dump(config()))
    owner = Owner(loaded := load_settings(tmp_path / "tidegate.yaml", environment={}), lambda: loaded)
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    with socket.socket() as listening, pipe, theirs:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        given = (owner.desired, listening, theirs, 0, str(tmp_path), 0, True, Told(), gone.pid)
        process = context.Process(target=work, args=given)
        process.start()
        try:
            process.join(30)
            assert process.exitcode == 0
        finally:
            process.kill()


@pytest.mark.parametrize("workers", [1, 2])
def test_load_and_unload_reach_every_process(tmp_path: Path, workers: int) -> None:
    operator = {"X-API-Key": "operator"}
    settings = config()
    settings["endpoints"]["other"] = {"model": "fake:", "options": {"bias": 5}}
    with serving(tmp_path, settings, workers=workers) as server:
        for _ in range(3):
            assert server.call("POST", "/v2/repository/models/other/unload", {}, operator).status == 200
            statuses = {server.predict([1, 2, 3, 4], path="/predict/other").status for _ in range(20)}
            assert statuses == {404}
            assert server.predict([1, 2, 3, 4]).status == 200
            assert server.call("POST", "/v2/repository/models/other/load", {}, operator).status == 200
            answers = {
                tuple(server.predict([1, 2, 3, 4], path="/predict/other").json["predictions"]) for _ in range(20)
            }
            assert answers == {(15.0,)}
        missing = server.call("POST", "/v2/repository/models/nothing/load", {}, operator)
        assert missing.status == 404
        assert server.call("POST", "/v2/repository/models/other/unload", {}).status in (401, 403)


def test_an_unloaded_endpoint_stays_unloaded_in_a_process_that_is_replaced(tmp_path: Path) -> None:
    settings = config()
    settings["endpoints"]["other"] = {"model": "fake:"}
    with serving(tmp_path, settings, workers=2) as server:
        operator = {"X-API-Key": "operator"}
        assert server.call("POST", "/v2/repository/models/other/unload", {}, operator).status == 200
        os.kill(two(server)[0].pid, signal.SIGKILL)
        until(lambda: server.log.count("signal 9") == 1 and two(server), "a replacement")
        server.wait_logged("in force", times=5)
        assert {server.predict([1, 2, 3, 4], path="/predict/other").status for _ in range(40)} == {404}


def test_a_reload_while_a_process_starts_reaches_it_too(tmp_path: Path) -> None:
    """The process that is being replaced when the change comes must not go on with what it was born with."""
    with serving(tmp_path, config(load_ms=300), workers=2) as server:
        for bias in range(1, 6):
            victim = until(lambda: two(server), "two processes")[0]
            server.configure(config(load_ms=300, bias=bias))
            os.kill(victim.pid, signal.SIGKILL)
            until(partial(ended, server, victim), "its end")
            server.signal_reload()
            until(lambda: two(server), "a replacement")
            until(partial(_all_answer, server, float(bias)), "both give the new answer")
            server.wait_logged("signal 9", times=bias)


def _all_answer(server: Server, value: float) -> bool:
    return {server.predict([0, 0, 0, 0]).json["predictions"][0] for _ in range(30)} == {value}
