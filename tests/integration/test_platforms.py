"""What other systems have less of: no fork, no uvloop. The same server has to come out of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from tests.caller import Load, sum_of_row
from tests.process import Server, serving, until
from tidegate.testing.models import write_affine_onnx

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def without_uvloop(folder: Path) -> dict[str, str]:
    """A folder on the path, whose uvloop cannot be imported, as where there is none."""
    hiding = folder / "hiding"
    hiding.mkdir()
    (hiding / "uvloop.py").write_text("raise ImportError('there is no uvloop here')\n")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(hiding), os.environ.get("PYTHONPATH", "")]))}


def exercise(server: Server, folder: Path, workers: int) -> None:
    """Answers, figures, a reload, a change by the operator, a replacement, an end."""
    with Load(server.port, sum_of_row(0.0), clients=4, most=400) as load:
        load.join(60).assert_clean(at_least=400)
    assert server.counted("tidegate_requests_total", outcome="ok", endpoint="sum") == 400
    affine = server.call("POST", "/predict/affine", {"features": [[1.0, 2.0]]})
    assert b"[3.0,5.0]" in affine.body
    server.configure(config(folder, bias=3.0))
    done = server.reload()
    assert done.returncode == 0, done.stderr
    assert {server.predict([1, 2, 3, 4]).json["predictions"][0] for _ in range(20)} == {13.0}
    operator = {"X-API-Key": "operator"}
    assert server.call("POST", "/v2/repository/models/affine/unload", {}, operator).status == 200
    assert {server.call("POST", "/predict/affine", {"features": [[1, 2]]}).status for _ in range(20)} == {404}
    if workers > 1:
        server.workers()[0].kill()
        server.wait_logged("starting another")
        until(lambda: len(server.workers()) == workers, "a replacement")
        until(lambda: server.is_ready(), "ready")
        assert {server.predict([1, 2, 3, 4]).status for _ in range(20)} == {200}
    assert server.stop() == 0


def config(folder: Path, bias: float = 0.0) -> dict[str, object]:
    write_affine_onnx(folder / "model.onnx", columns=2, scale=2, shift=1)
    return {
        "access": {"operate_key": "operator"},
        "endpoints": {
            "sum": {"model": "fake:", "options": {"bias": bias}},
            "affine": {"model": "model.onnx"},
        },
    }


def loaded_libraries(server: Server) -> str:
    return " ".join(mapped.path for process in server.workers() for mapped in psutil.Process(process.pid).memory_maps())


@pytest.mark.parametrize("environment", [{}, {"TIDEGATE_START_METHOD": "spawn"}], ids=["fork", "spawn"])
def test_two_processes(tmp_path: Path, environment: Mapping[str, str]) -> None:
    """mlflow/mlflow#1669, bentoml/BentoML#333: spawn is what Windows and macOS have."""
    with serving(tmp_path, config(tmp_path), workers=2, environment=environment) as server:
        commands = [" ".join(process.cmdline()) for process in server.workers()]
        assert all(("spawn_main" in command) == bool(environment) for command in commands), commands
        exercise(server, tmp_path, 2)


@pytest.mark.parametrize("workers", [1, 2])
def test_without_uvloop(tmp_path: Path, workers: int) -> None:
    """mlflow/mlflow#1669, bentoml/BentoML#333: there is no uvloop on Windows."""
    with serving(tmp_path, config(tmp_path), workers=workers, environment=without_uvloop(tmp_path)) as server:
        assert "/uvloop/" not in loaded_libraries(server)
        exercise(server, tmp_path, workers)


def test_uvloop_where_there_is_one(tmp_path: Path) -> None:
    with serving(tmp_path, config(tmp_path)) as server:
        assert "/uvloop/" in loaded_libraries(server)


def test_a_start_method_that_does_not_exist_is_said(tmp_path: Path) -> None:
    environment = {"TIDEGATE_START_METHOD": "teleport"}
    with serving(tmp_path, config(tmp_path), workers=2, environment=environment, ready=False) as server:
        assert server.wait_end(20) == 2
        assert "TIDEGATE_START_METHOD: 'teleport' is not possible here" in server.log
