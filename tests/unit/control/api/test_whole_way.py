"""The API on the real release service: from a registry's call to the alias that follows the release."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.unit.control.api.client import Client
from tests.unit.control.api.webhook import SECRET, alias_moved, older, signed
from tests.unit.control.releases.plane import Plane
from tidegate.control.access.gate import Access
from tidegate.control.api.app import make_app
from tidegate.control.api.services import Services
from tidegate.control.experiments.service import ExperimentService
from tidegate.control.figures import Figures
from tidegate.control.jobs.batches import Batches
from tidegate.control.jobs.queue import Queue
from tidegate.control.jobs.schedule import Schedules
from tidegate.control.monitoring.service import MonitorService
from tidegate.control.training.retrain import RetrainService
from tidegate.keys import KeyFacts
from tidegate.settings import Registry

URL = "/api/v1/webhooks/mlflow"


class Port:
    """A control port, the instances behind it, and an operator's key."""

    def __init__(self, folder: Path) -> None:
        self.plane = plane = Plane(folder, registry=Registry(webhook_secret=SECRET, on_challenger="release"))
        access = Access(plane.store, plane.settings.control, plane.clock, folder)
        registry, settings, clock = plane.registry, plane.settings, plane.clock
        jobs = Queue(plane.store, settings.jobs, clock)
        services = Services(
            store=plane.store,
            registry=registry,
            releases=plane.service,
            experiments=ExperimentService(plane.store, registry, settings, clock, "one"),
            figures=Figures(plane.store, settings, clock, fresh=0.0),
            jobs=jobs,
            batches=Batches(plane.store, jobs, settings.jobs, clock, folder / "jobs"),
            schedules=Schedules(plane.store, jobs, clock, "test", 10.0),
            monitoring=MonitorService(plane.store, registry, settings, clock, "one"),
            retraining=RetrainService(plane.store, registry, settings, jobs, plane.service, clock, "one"),
            access=access,
            settings=settings,
            clock=clock,
            stopping=threading.Event(),
        )
        self.client = Client(make_app(services, with_console=False))
        key = access.keys.create(KeyFacts(name="ada", roles=("operate",)), who="test").key
        self.headers = {"X-API-Key": key}

    def call(self, method: str, path: str, **given: Any) -> Any:
        answer = self.client.request(method, f"/api/v1/releases{path}", headers=self.headers, **given)
        assert answer.is_success, answer.text
        return answer.json()

    def close(self) -> None:
        self.client.close()
        self.plane.close()


@pytest.fixture
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Port]:
    made = Port(tmp_path_factory.mktemp("plane"))
    yield made
    made.close()


@pytest.mark.parametrize("form", ["native", "older", "challenger"])
def test_a_signed_webhook_begins_a_release_that_promotes_itself(port: Port, form: str) -> None:
    """MLflow's webhooks reach no server by themselves; in both their forms one begins a release here, and so does the
    challenger's alias, where that is wanted."""
    plane, now = port.plane, port.plane.clock.wall()
    if form == "challenger":
        body = alias_moved(alias="challenger")
        headers = signed(body, now)
    else:
        plane.registry.aliases["iris", "champion"] = "4"
    if form == "native":
        body = alias_moved()
        headers = signed(body, now)
    elif form == "older":
        said = {"event": "MODEL_VERSION_TRANSITIONED_STAGE", "model_name": "iris", "version": "4"}
        body = msgspec.json.encode({**said, "to_stage": "Production", "event_timestamp": int(now * 1000)})
        headers = older(body)
    answer = port.client.post(URL, content=body, headers=headers)
    assert answer.status_code == 202, answer.text
    [begun] = answer.json()["releases"]
    assert port.client.post(URL, content=body, headers=headers).status_code == 409, "a replay"
    release = port.call("GET", f"/{begun}")
    assert (release["requested_by"], release["candidate"]["version"]) == ("webhook", "4")
    plane.until(begun, "promoted")
    plane.seconds(2)
    plane.check()
    assert port.call("GET", f"/{begun}/replay")["agrees"] is True
    assert {line["kind"] for line in port.call("GET", f"/{begun}/history")["items"]} >= {"started", "promoted"}


def test_a_person_starts_holds_and_ends_a_release(port: Port) -> None:
    """argoproj/argo-rollouts#404, #2087: the answer says why; #574: a rollback is one publication, also after the promotion."""
    begun = port.call("POST", "", json={"endpoint": "iris", "model": "models:/iris/2", "reason": "retrained"})["id"]
    port.plane.seconds(3)
    assert port.call("POST", f"/{begun}/pause", json={"reason": "lunch"})["state"] == "paused"
    assert port.call("POST", f"/{begun}/resume", json={"reason": "back"})["state"] == "ramping"
    port.plane.until(begun, "promoted")
    verdicts = port.call("GET", f"/{begun}")["verdicts"]
    assert all(verdict["reason"] and verdict["counts"] for verdict in verdicts)
    with port.plane.store.read() as unit:
        newest = unit.snapshots.latest()
    assert newest is not None
    after = port.call("POST", f"/{begun}/rollback", json={"reason": "customers call"})
    assert (after["state"], after["reason"]) == ("rolled_back", "customers call")
    assert after["snapshot"] == newest.number + 1
    shown = port.client.get("/api/v1/endpoints/iris", headers=port.headers).json()
    assert shown["plan"][0]["version"] == "1"
