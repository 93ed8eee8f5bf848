"""A real ``tidegate serve`` process with small ONNX models, for real third-party clients."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate.testing.models import write_classifier_onnx, write_table_onnx, write_two_inputs_onnx

OPERATE_KEY = "an-operators-key"
CONFIGURATION = f"""
endpoints:
  iris:
    model: iris.onnx
    version: "1"
    max_rows: 5000
    variants:
      candidate: {{model: iris.onnx, version: "2"}}
  table: {{model: table.onnx}}
  two: {{model: two.onnx}}
access: {{operate_key: {OPERATE_KEY}}}
"""


class Served:
    """Addresses, as ``host:port``, and the log, of a process that is ready."""

    def __init__(self, http: str, grpc: str, log: Path) -> None:
        self.http = http
        self.grpc = grpc
        self.log = log


def wait_for_addresses(process: subprocess.Popen[bytes], log: Path, seconds: float = 60.0) -> tuple[str, str]:
    """From the line that ``tidegate serve`` writes when it is ready."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = re.search(r"on http://\S+:(\d+), gRPC on (\d+)", log.read_text())
        if found:
            return f"127.0.0.1:{found[1]}", f"127.0.0.1:{found[2]}"
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        break
    raise AssertionError(f"tidegate serve did not become ready:\n{log.read_text()}")


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    write_classifier_onnx(folder / "iris.onnx")
    write_table_onnx(folder / "table.onnx")
    write_two_inputs_onnx(folder / "two.onnx")
    (folder / "tidegate.yaml").write_text(CONFIGURATION)
    log = folder / "log"
    command = [
        sys.executable,
        "-m",
        "tidegate",
        "serve",
        "--port",
        "0",
        "--grpc-port",
        "0",
        "--config",
        "tidegate.yaml",
    ]
    with log.open("wb") as stream, subprocess.Popen(command, cwd=folder, stdout=stream, stderr=stream) as process:
        try:
            http, grpc = wait_for_addresses(process, log)
            yield Served(http, grpc, log)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    assert process.returncode == 0, log.read_text()
    assert "Traceback" not in log.read_text()
