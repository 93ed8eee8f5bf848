"""The operators in a real Airflow, against a real control plane, with a real worker."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.airflow import Airflow
from tests.process import free_port, until
from tidegate.testing.models import write_classifier_onnx

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

DAGS = Path(__file__).parent / "dags"
ROWS = 200


class System:
    """Both planes in one folder; workers come when a test starts one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = free_port(), free_port()
        write_classifier_onnx(folder / "iris.onnx")
        config = {
            "endpoints": {"iris": {"model": "./iris.onnx", "monitor": {"window": "1h", "reference": "calm"}}},
            "server": {"port": self.ports[0]},
            "control": {"port": self.ports[1]},
            "store": {"url": f"sqlite:///{folder / 'store.db'}", "event_sample": 1.0},
            "jobs": {"workers": 0},
        }
        self.config = folder / "tidegate.yaml"
        self.config.write_text(yaml.safe_dump(config))
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("TIDEGATE_", "OTEL_"))
        }

    @contextmanager
    def running(self, *command: str) -> Iterator[None]:
        with (self.folder / f"{command[0]}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tidegate", *command, "--config", str(self.config)],
                cwd=self.folder, env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)

    @property
    def control(self) -> str:
        return f"http://127.0.0.1:{self.ports[1]}"

    @property
    def key(self) -> str:
        return (self.folder / "run" / "admin.key").read_text().strip()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"X-API-Key": self.key}
        answer = httpx.request(method, f"{self.control}/api/v1{path}", json=body, headers=headers, timeout=30)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def ready(self) -> bool:
        try:
            ports = (httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5) for port in self.ports)
            return all(answer.status_code == 200 for answer in ports)
        except httpx.TransportError:
            return False

    def predict(self) -> None:
        rows = [[0.1 * (row % 7), 0.2, 0.3, 0.1 * (row % 5)] for row in range(ROWS)]
        with httpx.Client(base_url=f"http://127.0.0.1:{self.ports[0]}") as client:
            for row in rows:
                assert client.post("/predict", json={"features": [row]}).status_code == 200


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    found = System(tmp_path_factory.mktemp("system"))
    with found.running("up"):
        until(found.ready, "both planes answer", 60)
        found.predict()
        yield found


@pytest.fixture(scope="module")
def airflow(system: System, tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    connection = f"http://:{system.key}@127.0.0.1:{system.ports[1]}"
    return Airflow(tmp_path_factory.mktemp("airflow"), DAGS, {"AIRFLOW_CONN_TIDEGATE": connection})


def test_no_dag_fails_to_import(airflow: Airflow) -> None:
    assert airflow.import_errors() == []


@pytest.fixture(scope="module")
def faults(airflow: Airflow) -> str:
    """The log of tasks that fail while no worker runs."""
    return airflow.test("faults", good=False)


def test_a_task_that_takes_too_long_cancels_its_job_and_its_next_try_starts_no_second(
    system: System, faults: str
) -> None:
    assert "AirflowTaskTimeout" in faults
    assert faults.count("told to stop") == 2
    [job] = system.call("GET", "/jobs?kind=report")["items"]
    assert job["state"] == "cancelled"
    actions = [one["action"] for one in system.call("GET", "/audit-events?limit=50")["items"]]
    counted = {action: actions.count(f"job.{action}") for action in ("submit", "retry", "cancel")}
    assert counted == {"submit": 1, "retry": 1, "cancel": 2}


def test_what_no_other_try_can_mend_fails_at_once(system: System, faults: str) -> None:
    assert "POST /api/v1/reports: there is no endpoint 'nobody'" in faults
    assert faults.count("starting task_id=late") == 2
    assert faults.count("starting task_id=wrong") == 1


def test_a_whole_workflow(system: System, airflow: Airflow) -> None:
    with system.running("worker"):
        log = airflow.test("look")
    assert "state=success" in log
    found = re.search(r"REPORTED (doc-\w+) (\d+)", log)
    assert found is not None, log[-6000:]
    assert int(found[2]) == ROWS
    summary = system.call("GET", f"/reports/{found[1]}")
    assert (summary["kind"], summary["baseline"], summary["drifted"]) == ("summary", "calm", [])
    assert "Branch into rest" in log
    assert system.key not in log
