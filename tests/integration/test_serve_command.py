"""`tidegate serve` as a person runs it: what it loads, and what it says when something is wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.pages import free_port, ready, with_pause
from tidegate.testing.models import iris_logistic, write_classifier_onnx, write_joblib

HEAVY = {
    "fastapi", "grpc", "httpx", "joblib", "mlflow", "opentelemetry", "pandas", "PIL", "prometheus_client", "pyarrow",
    "pydantic", "rich", "scipy", "skl2onnx", "sklearn", "starlette", "structlog", "torch", "yaml",
}  # fmt: skip


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}


@pytest.mark.slow
def test_serving_an_onnx_file_loads_nothing_heavy(tmp_path: Path) -> None:
    model = write_classifier_onnx(tmp_path / "model.onnx")
    port = free_port()
    command = [sys.executable, "-X", "importtime", "-m", "tidegate", "serve", str(model), "--port", str(port)]
    with (tmp_path / "errors").open("wb") as errors:
        server = subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=errors, stderr=errors)
    try:
        while not ready(port):
            assert server.poll() is None, (tmp_path / "errors").read_text()
            with_pause(server)
        call = f"curl -s http://127.0.0.1:{port}"
        described = json.loads(subprocess.check_output(["bash", "-c", f"{call}/models/model"]))
        body = json.dumps(described["example"])
        predict = f"{call}/predict -H 'Content-Type: application/json' -d '{body}'"
        assert "predictions" in json.loads(subprocess.check_output(["bash", "-c", predict]))
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(40)
    assert code == 0
    lines = (tmp_path / "errors").read_text().splitlines()
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in lines if line.startswith("import time:")}
    assert {"uvicorn", "numpy", "onnxruntime"} <= imported
    assert sorted(imported & HEAVY) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "arguments", "expected"),
    [
        ({}, [], "nothing to serve: name a model"),
        ({}, ["none.onnx"], "no such file or folder"),
        ({"wrong.onnx": "text"}, ["wrong.onnx"], "wrong.onnx"),
        ({"tidegate.yaml": "endpoints: {a: {modle: x}}"}, [], "tidegate.yaml:1: endpoints.a.modle: unknown key"),
        ({"tidegate.yaml": "endpoints: {a: {model: m.joblib}}"}, [], "trust.pickles"),
        ({}, ["m.joblib", "m.joblib"], "--name"),
        ({}, ["m.joblib", "--port", "busy"], "in use"),
    ],
    ids=["nothing", "missing", "no model", "typo", "untrusted", "twice", "busy"],
)
def test_a_mistake_is_told_in_words_with_exit_code_2(
    tmp_path: Path, files: dict[str, str], arguments: list[str], expected: str
) -> None:
    write_joblib(iris_logistic(), tmp_path / "m.joblib")
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = str(busy.getsockname()[1])
        given = [port if argument == "busy" else argument for argument in arguments]
        command = [sys.executable, "-m", "tidegate", "serve", *given]
        result = subprocess.run(
            command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False
        )
    errors = result.stderr + result.stdout
    assert result.returncode == 2, errors
    assert expected in errors
    assert "Traceback" not in errors
    assert len(result.stderr.splitlines()) == 1
