"""A real ``tidegate control`` process: schemathesis reads its document, and the command line works against it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.process import free_port, until
from tidegate.testing.models import write_classifier_onnx

pytestmark = pytest.mark.slow

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
NOT_FUZZED = {("DELETE", "/api/v1/session"), ("GET", "/api/v1/releases/{release_id}/events")}
"""An answer without a body, and one without an end."""


class Controlled:
    """A running control plane. ``key`` is the first administrator's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_file = folder / "log"
        write_classifier_onnx(folder / "iris.onnx")
        config: dict[str, Any] = {
            "endpoints": {"iris": {"model": "iris.onnx", "version": "1", "monitor": {"every": "1s", "window": "5s"}}},
            "store": {"url": f"sqlite:///{folder}/run/store.db"},
            "control": {"port": self.port, "requests_per_minute": 1_000_000},
            "registry": {"webhook_secret": "shared"},
        }
        (folder / "tidegate.yaml").write_text(yaml.safe_dump(config))
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tidegate", "control"], cwd=folder, stdout=log, stderr=log, env=self.environment
            )

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    @property
    def key(self) -> str:
        return (self.folder / "run" / "admin.key").read_text().strip()

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = self.environment | {"TIDEGATE_CONTROL": self.url}
        return subprocess.run(
            [sys.executable, "-m", "tidegate", *arguments], cwd=self.folder, env=environment, capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def controlled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controlled]:
    made = Controlled(tmp_path_factory.mktemp("controlled"))
    try:
        until(made.ready, "ready", 60)
        yield made
        made.process.send_signal(signal.SIGTERM)
        assert made.process.wait(30) == 0, made.log
        assert "Traceback" not in made.log, made.log
    finally:
        made.process.kill()


def test_the_first_key_is_printed_once_and_kept_in_a_file(controlled: Controlled) -> None:
    assert controlled.log.count(controlled.key) == 1
    lines = [line for line in controlled.log.splitlines() if controlled.key in line]
    assert lines == [f"  {controlled.key}"]  # on standard output, in no log line


def test_the_command_line_manages_keys_and_reads_the_log(controlled: Controlled) -> None:
    made = controlled.run("keys", "create", "ci", "--role", "operate", "--endpoint", "iris", "--expires", "90d")
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    assert re.fullmatch(r"tg_[0-9a-f]{12}_\S{43}", key)
    assert httpx.get(f"{controlled.url}/api/v1/releases", headers={"X-API-Key": key}).status_code == 200
    listed = controlled.run("keys", "list").stdout
    key_id = key.split("_")[1]
    assert key_id in listed
    rotated = controlled.run("keys", "rotate", key, "--grace", "1h")
    assert rotated.returncode == 0, rotated.stderr
    for old in (key, rotated.stdout.strip()):
        assert httpx.get(f"{controlled.url}/api/v1/releases", headers={"X-API-Key": old}).status_code == 200
    revoked = controlled.run("keys", "revoke", key_id, "--reason", "lost")
    assert "revoked" in revoked.stdout
    assert httpx.get(f"{controlled.url}/api/v1/releases", headers={"X-API-Key": key}).status_code == 401
    log = controlled.run("audit", "list", "--target", f"key:{key_id}").stdout
    assert "key.revoke" in log
    assert "(lost)" in log
    assert "from 127.0.0.1" in log
    verified = controlled.run("audit", "verify")
    assert verified.returncode == 0, verified.stderr
    head = verified.stdout.strip().rpartition("head: ")[2]
    assert controlled.run("audit", "verify", "--head", head).returncode == 0
    wrong = controlled.run("audit", "verify", "--head", f"{head.partition(':')[0]}:{'0' * 64}")
    assert wrong.returncode == 1
    assert "NOT whole" in wrong.stderr
    refused = controlled.run("keys", "list", "--key", rotated.stdout.strip())
    assert refused.returncode == 2
    assert "admin" in refused.stderr


@pytest.mark.parametrize("mode", GenerationMode)
def test_the_control_plane_keeps_its_own_document(controlled: Controlled, mode: GenerationMode) -> None:
    """No 5xx, whatever comes; and every status, media type and body that the document names."""
    headers = {"X-API-Key": controlled.key}
    schema: Any = schemathesis.openapi.from_url(f"{controlled.url}/openapi.json", headers=headers)
    tried = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if (operation.method.upper(), operation.path) not in NOT_FUZZED:
            try_operation(operation, mode, controlled.url, headers)
            tried += 1
    assert tried > 35


def try_operation(operation: Any, mode: GenerationMode, url: str, headers: dict[str, str]) -> None:
    try:
        cases = operation.as_strategy(generation_mode=mode, headers=headers)
    except Unsatisfiable:
        return

    @settings(max_examples=8, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(cases)
    def send(case: Any) -> None:
        case.call_and_validate(base_url=url, checks=CHECKS, timeout=30)

    with contextlib.suppress(Unsatisfiable):  # an operation without parameters has no wrong ones
        send()


def test_connections_that_say_nothing_do_not_shut_others_out(controlled: Controlled) -> None:
    with contextlib.ExitStack() as silent:
        for _ in range(700):
            silent.enter_context(socket.create_connection(("127.0.0.1", controlled.port), 10))
        until(lambda: httpx.get(f"{controlled.url}/healthz", timeout=5).status_code == 200, "an answer", 15)
