"""R12: health never lies: a model that breaks, a start that fails, the first request, and processes that come up late."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.process import Server, serving, until
from tidegate.testing.models import write_affine_onnx, write_python_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SWITCHED = """
import pathlib
import numpy as np

class Model:
    signature = {{
        "inputs": {{"x": {{"datatype": "FP64", "shape": [-1, 4]}}}},
        "outputs": {{"predictions": {{"datatype": "FP64"}}}},
    }}

    def predict(self, inputs):
        if pathlib.Path({path!r}).exists():
            raise RuntimeError("the disk with the weights is gone: /secret/path")
        return {{"predictions": inputs["x"].sum(axis=1)}}
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_that_starts_failing_turns_readiness_off_and_on_again(tmp_path: Path, workers: int) -> None:
    """Lightning-AI/LitServe#663, #660, #347: ready means that every endpoint answers."""
    broken = tmp_path / "broken"
    model = write_python_model(tmp_path / "model", SWITCHED.format(path=str(broken)))
    config = {"trust": {"pickles": [str(model)]}, "endpoints": {"sum": {"model": str(model)}}}
    with serving(tmp_path, config, workers=workers) as server:
        assert server.predict([1, 2, 3, 4]).status == 200
        broken.touch()

        def tells() -> bool:
            failed = server.predict([1, 2, 3, 4])
            assert failed.status == 500
            assert b"secret" not in failed.body
            return all(server.call("GET", "/readyz").status == 503 for _ in range(6 * workers))

        until(tells, "every process says that it is not ready")
        answer = server.call("GET", "/readyz")
        assert "sum" in answer.json["reasons"][0]
        assert server.call("GET", "/healthz").status == 200
        broken.unlink()
        until(lambda: all(server.is_ready() for _ in range(6 * workers)), "ready again")
        assert server.predict([1, 2, 3, 4]).status == 200


FAILURES: dict[str, tuple[dict[str, Any], str]] = {
    "no such file": ({"model": "nowhere.onnx"}, "nowhere.onnx"),
    "fails to load": ({"model": "fake:", "options": {"fail_load": True}}, "failed to load, as told"),
    "fails its warm-up": ({"model": "fake:", "options": {"fail": True, "at_load": True}}, "fails on its example row"),
    "ends its process": ({"model": "fake:", "isolate": "process", "options": {"crash": True, "at_load": True}}, "exit code 3"),
}  # fmt: skip


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("failure", FAILURES)
def test_a_start_that_fails_ends_with_one_clear_line(tmp_path: Path, failure: str, workers: int) -> None:
    """Lightning-AI/LitServe#663, PR #532: the start-up failure is the exit code and the last word, not a hang."""
    endpoint, words = FAILURES[failure]
    with serving(tmp_path, {"endpoints": {"sum": endpoint}}, workers=workers, ready=False) as server:
        assert server.wait_end(30) == 2
        errors = [line for line in server.log.splitlines() if line.startswith("error:")]
        assert len(errors) == 1, server.log
        assert words in errors[0]
        assert "Traceback" not in server.log


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    with serving(tmp_path, {"endpoints": {"sum": {"model": "fake:"}}}) as server:
        second = subprocess.run(
            [sys.executable, "-m", "tidegate", "serve", "--config", str(server.config_file), "--port", str(server.port)],
            env=server.environment, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert second.returncode == 2
        assert f"port {server.port} is in use" in second.stderr
        assert server.is_ready()


@pytest.mark.parametrize("workers", [1, 2])
def test_ready_only_after_the_warm_up_and_alive_before(tmp_path: Path, workers: int) -> None:
    """kserve/kserve#2882, #2529: nobody's request pays for loading; until then the refusal says so."""
    config = {"endpoints": {"sum": {"model": "fake:", "options": {"load_ms": 1500}}}}
    with serving(tmp_path, config, workers=workers, ready=False) as server:
        until(lambda: _status(server, "/healthz") == 200, "alive", 20)
        ready = server.call("GET", "/readyz")
        early = server.predict([1, 2, 3, 4])
        assert ready.status == 503
        assert ready.json["reasons"]
        assert early.status == 503
        assert "retry-after" in early.headers
        server.wait_ready()
        assert {server.predict([1, 2, 3, 4]).status for _ in range(20 * workers)} == {200}


def _status(server: Server, path: str) -> int:
    try:
        return server.call("GET", path).status
    except OSError:
        return 0


def test_ready_means_every_process_is(tmp_path: Path) -> None:
    """Of two processes one loads much longer: nobody is told ready, and refused by the other."""
    slow_second = """
    import fcntl, time
    import numpy as np

    class Model:
        signature = {"inputs": {"x": {"datatype": "FP64", "shape": [-1, 4]}}, "outputs": {"predictions": "FP64"}}

        def load(self, path):
            self.held = open(path / "lock", "w")
            try:
                fcntl.flock(self.held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                time.sleep(2)

        def predict(self, inputs):
            return {"predictions": inputs["x"].sum(axis=1)}
    """
    model = write_python_model(tmp_path / "model", slow_second, {"lock": ""})
    digest_free = {"trust": {"pickles": [str(model)]}, "endpoints": {"sum": {"model": str(model)}}}
    with serving(tmp_path, digest_free, workers=2) as server:
        assert {server.predict([1, 2, 3, 4]).status for _ in range(60)} == {200}


def test_the_first_request_is_as_fast_as_the_hundredth(tmp_path: Path) -> None:
    """kserve/kserve#2882, #2529: warmed up with real predictions before ready."""
    model = write_affine_onnx(tmp_path / "model.onnx", columns=4)
    with serving(tmp_path, {"endpoints": {"affine": {"model": str(model)}}}) as server, server.caller() as caller:
        runs = []
        for _ in range(100):
            answer = caller.call("POST", "/predict", {"features": [[1.0, 2.0, 3.0, 4.0]]})
            assert answer.status == 200, answer.body
            runs.append(answer.json["timing_ms"]["total"])
        assert runs[0] < 30 * statistics.median(runs) + 20, runs[:3]
