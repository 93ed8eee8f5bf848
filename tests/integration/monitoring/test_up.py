"""``tidegate up`` with a monitor: real requests, a shifted feature, the alert, the webhook, and all well again; and a control
plane that is killed while it counts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest
import yaml

from tests.process import free_port, until
from tests.unit.control.monitoring.receivers import Receiver
from tidegate.control.monitoring import profiles
from tidegate.storage.store import open_store
from tidegate.testing.models import write_classifier_onnx

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

WINDOW = 2.0
RULE = "drift:baseline:features[0]"


class System:
    def __init__(self, folder: Path, webhook: str) -> None:
        self.folder = folder
        self.random = np.random.default_rng(1)
        self.port, self.control = free_port(), free_port()
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
        self.environment["TIDEGATE_CONTROL"] = f"http://127.0.0.1:{self.control}"
        config: dict[str, Any] = {
            "endpoints": {
                "iris": {
                    "model": "models:/iris@champion",
                    "event_sample": 1.0,
                    "monitor": {"window": f"{WINDOW:g}s", "every": "1s", "min_rows": 40, "cooldown": "0.1s"},
                }
            },
            "server": {"port": self.port},
            "control": {"port": self.control, "requests_per_minute": 100_000, "lease_seconds": 1.0},
            "alerts": {"webhook": webhook, "webhook_secret": "shared"},
        }
        (folder / "tidegate.yaml").write_text(yaml.safe_dump(config))
        write_classifier_onnx(folder / "iris.onnx")
        table = {"features": np.random.default_rng(0).normal(5, 1, (3000, 4))}
        (folder / "profile.json").write_bytes(profiles.encode(profiles.make_profile(table)))
        made = self.run("model", "register", "iris", "iris.onnx", "--alias", "champion", "--profile", "profile.json")
        assert made.returncode == 0, made.stderr
        with (folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tidegate", "up"], cwd=folder, stdout=log, stderr=log, env=self.environment
            )
        self.client = httpx.Client(timeout=20)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tidegate", *arguments], cwd=self.folder, env=self.environment,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log[-4000:]
        try:
            return all(
                self.client.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
                for port in (self.port, self.control)
            )
        except httpx.TransportError:
            return False

    def get(self, path: str) -> Any:
        """None while the control plane is not there."""
        key = (self.folder / "run" / "admin.key").read_text().strip()
        try:
            answer = self.client.get(f"http://127.0.0.1:{self.control}/api/v1{path}", headers={"X-API-Key": key})
        except httpx.TransportError:
            return None
        return answer.json() if answer.status_code == 200 else None

    def predict(self, rows: int, shift: float = 0.0) -> int:
        for row in self.random.normal(5, 1, (rows, 4)):
            row[0] += shift
            answer = self.client.post(f"http://127.0.0.1:{self.port}/predict", json={"features": [row.tolist()]})
            assert answer.status_code == 200, answer.text
        return rows

    def alert(self) -> Any:
        found = self.get("/alerts?endpoint=iris") or {"items": []}
        return next((one for one in found["items"] if one["rule"] == RULE), None)

    def controls(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            children = psutil.Process(self.process.pid).children(recursive=True)
            return [child for child in children if "control" in child.cmdline()]
        return []


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[System]:
    made = System(tmp_path_factory.mktemp("up"), receiver.url)
    try:
        until(made.ready, "both planes are ready", 90)
        until(lambda: (made.get("/monitors/iris") or {}).get("looked"), "a first look")
        yield made
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            tree = psutil.Process(made.process.pid).children(recursive=True)
            made.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                made.process.wait(30)
            for process in tree:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        made.process.kill()
        made.process.wait(10)
        made.client.close()


def test_from_a_shifted_feature_to_the_webhook_and_back(system: System, receiver: Receiver) -> None:
    def firing() -> Any:
        system.predict(30, shift=3.0)
        found = system.alert()
        return found if found and found["state"] == "firing" else None

    def resolved() -> Any:
        system.predict(30)
        found = system.alert()
        return found if found["state"] == "resolved" else None

    system.predict(100)
    alert = until(firing, "the alert fires", 40)
    assert "features[0] of iris" in alert["text"]
    report = system.get(f"/drift-reports/{alert['report']}")
    assert report["drifted"]
    assert {one["column"]: one["drifted"] for one in report["columns"]}["features[1]"] is False
    bodies = until(lambda: [msgspec.json.decode(one.body) for one in receiver.requests], "the webhook arrives", 20)
    assert bodies[0]["endpoint"] == "iris"
    assert any(one["rule"] == RULE and one["state"] == "firing" for one in bodies[0]["alerts"])
    assert "x-tidegate-signature" in receiver.requests[0].headers
    until(resolved, "the alert is resolved", 40)
    until(
        lambda: any(b'"resolved"' in one.body for one in receiver.requests), "the webhook says that it is resolved", 20
    )
    shown = system.run("monitor", "show", "iris")
    assert shown.returncode == 0, shown.stderr
    assert "features[0]" in shown.stdout
    assert RULE.rpartition(":")[2] in system.run("alert", "list").stdout
    metrics = system.client.get(f"http://127.0.0.1:{system.control}/metrics").text
    assert 'tidegate_feature_drift{endpoint="iris",feature="features[0]",method="' in metrics
    assert 'tidegate_model_accuracy_estimated{endpoint="iris",variant="baseline"}' in metrics
    assert 'tidegate_alerts_firing{endpoint="iris"}' in metrics


def test_a_control_plane_that_is_killed_counts_each_prediction_once(system: System) -> None:
    for _ in range(3):
        system.predict(150)
        for control in until(system.controls, "the control plane runs", 30):
            control.kill()
    system.predict(100)
    until(system.ready, "the control plane is back", 60)
    store = open_store(f"sqlite:///{system.folder / 'run' / 'tidegate.db'}")
    try:

        def all_counted() -> bool:
            with store.read() as unit:
                made = unit.events.made("iris", 0.0, 1e12)
                counted = sum(row.rows for row in unit.monitors.profiles("iris", 0.0, 1e12))
            assert counted <= sum(made.values())
            return counted == sum(made.values()) > 500

        until(all_counted, "all predictions are counted", 60)
        until(lambda: (system.get("/monitors/iris") or {}).get("lag_seconds") == 0.0, "nothing waits", 30)
        assert all_counted()
    finally:
        store.close()


def test_when_it_is_killed_its_parts_end_too(system: System) -> None:
    """The last one here: nothing serves afterwards."""
    parts = psutil.Process(system.process.pid).children(recursive=True)
    assert len(parts) >= 3
    system.process.kill()
    until(lambda: not any(part.is_running() for part in parts), "no part is left", 60)
