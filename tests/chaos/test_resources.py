"""R11: no space, no place to write, a clock that jumps, no file descriptors: a clear error, no corruption, recovery."""

from __future__ import annotations

import contextlib
import os
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.caller import Load, sum_of_row
from tests.process import serving, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def config(bias: float = 0.0, **more: Any) -> dict[str, Any]:
    return {"endpoints": {"sum": {"model": "fake:", "options": {"bias": bias}, **more}}}


def limited(option: str, value: int) -> tuple[str, ...]:
    """Runs what follows under a limit of the shell."""
    return ("sh", "-c", f'ulimit {option} {value}; exec "$@"', "sh")


def test_out_of_file_descriptors_and_back(tmp_path: Path) -> None:
    """Those who are connected are answered, the log stays short, and everything works again when some have left."""
    with serving(tmp_path, config(), prefix=limited("-n", 96)) as server, server.caller() as known:
        assert known.call("POST", "/predict", {"features": [[1, 2, 3, 4]]}).status == 200
        with contextlib.ExitStack() as idle:
            for _ in range(150):
                idle.enter_context(socket.create_connection(("127.0.0.1", server.port), 5))
            until(lambda: server.workers()[0].num_fds() >= 94, "no descriptor is left")
            for _ in range(50):
                answer = known.call("POST", "/predict", {"features": [[1, 2, 3, 4]]})
                assert answer.json["predictions"] == [10.0]
            server.configure(config(bias=5.0))
            server.signal_reload()
            server.wait_logged("reload failed")
            assert "Too many open files" in server.log
            assert known.call("POST", "/predict", {"features": [[1, 2, 3, 4]]}).json["predictions"] == [10.0]
        until(lambda: server.is_ready(), "ready again")
        assert len(server.log) < 200_000, "the log is not flooded"
        done = server.reload()
        assert done.returncode == 0, done.stderr
        assert server.predict([1, 2, 3, 4]).json["predictions"] == [15.0]
        with Load(server.port, sum_of_row(5.0), clients=4, most=200) as load:
            load.join(30).assert_clean(at_least=200)


@pytest.mark.parametrize("workers", [1, 2])
def test_no_place_for_the_state_file(tmp_path: Path, workers: int) -> None:
    """A temporary folder that cannot be written (here: a file is in the way): it serves, says what does not work, and
    ``tidegate reload`` names the file."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / f"tidegate-{os.getuid()}").write_text("in the way")
    with serving(tmp_path, config(), workers=workers) as server:
        assert server.predict([1, 2, 3, 4]).status == 200
        server.wait_logged("tidegate reload will not find this server")
        done = server.reload()
        assert done.returncode == 2
        assert "no server of yours has written" in done.stderr
        assert server.stop() == 0


def test_a_disk_without_space_for_metrics(tmp_path: Path) -> None:
    """Files of at most 200 kB: the shared metrics find no room; predictions go on and the log says so, once a process."""
    with serving(tmp_path, config(), workers=2, prefix=limited("-f", 200)) as server:
        with Load(server.port, sum_of_row(0.0), clients=4, most=400) as load:
            load.join(30).assert_clean(at_least=400)
        assert server.log.count("cannot keep metrics in") == 2
        assert server.call("GET", "/metrics").status == 200
        assert server.is_ready()
        assert server.stop() == 0


JUMPING = """
import pathlib, time

_time, _time_ns = time.time, time.time_ns
_file = pathlib.Path({file!r})


def _offset():
    try:
        return float(_file.read_text() or 0)
    except (OSError, ValueError):
        return 0.0


time.time = lambda: _time() + _offset()
time.time_ns = lambda: _time_ns() + int(_offset() * 1e9)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_wall_clock_that_jumps_by_an_hour(tmp_path: Path, workers: int) -> None:
    """Deadlines, caches and the watch over processes do not look at the wall clock. (The server's Python sees a wall
    clock that a file shifts; the kernel's own cannot be changed from a test.)"""
    offset, hook = tmp_path / "offset", tmp_path / "hook"
    hook.mkdir()
    offset.write_text("0")
    (hook / "sitecustomize.py").write_text(JUMPING.format(file=str(offset)))
    path = os.pathsep.join(filter(None, [str(hook), os.environ.get("PYTHONPATH", "")]))
    environment = {"PYTHONPATH": path, "TIDEGATE_HANG_SECONDS": "5"}
    settings = config(cache={"ttl_seconds": 30})
    settings["endpoints"]["sum"]["options"]["base_ms"] = 40  # so that requests are on their way at each jump
    with serving(tmp_path, settings, workers=workers, environment=environment) as server:
        processes = [process.pid for process in server.workers()]
        with Load(server.port, sum_of_row(0.0), clients=3, pause=0.002) as load:
            for jump in ("3600", "-3600", "0"):
                offset.write_text(jump)
                before = load.tally.answered
                until(partial(_answered_more, load, before + 60), "answers go on")
        load.tally.assert_clean(at_least=180)
        assert server.predict([9, 9, 9, 9], x_timeout_ms="2000").status == 200
        assert [process.pid for process in server.workers()] == processes
        assert server.reload().returncode == 0
        assert server.stop() == 0


def _answered_more(load: Load, than: int) -> bool:
    return load.tally.answered > than
