"""Retrainings from the trigger to the release on real parts, and processes that are killed on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.integration.training.place import Place
from tests.unit.control.training.tables import churn
from tidegate.clock import ManualClock
from tidegate.control.jobs.queue import Queue
from tidegate.control.registry.base import open_registry
from tidegate.control.releases.service import ReleaseService
from tidegate.control.training.retrain import RetrainService
from tidegate.control.training.retraining import Retraining
from tidegate.errors import NotFound
from tidegate.monitor_plan import MonitorPlan
from tidegate.observations import Feedback, PredictionEvent
from tidegate.storage.store import Store
from tidegate.types import EndpointPlan, RoutingSnapshot, Variant

pytestmark = pytest.mark.slow


class Plane:
    """The control plane's parts over one place, and its jobs run as a worker runs them."""

    def __init__(self, place: Place, store: Store, now: float = 2_000_000_000.0, holder: str = "one") -> None:
        settings = place.loaded.settings
        self.place, self.store, self.clock = place, store, ManualClock(now)
        self.registry = open_registry(settings.registry, settings.trust, base=place.folder)
        self.queue = Queue(store, settings.jobs, self.clock)
        self.releases = ReleaseService(store, self.registry, settings, self.clock, holder)
        self.service = RetrainService(
            store, self.registry, settings, self.queue, self.releases, self.clock, holder
        )  # fmt: skip

    def publish(self) -> None:
        """Serves the champion."""
        plan = EndpointPlan("churn", (Variant("baseline", self.registry.ref("models:/churn@champion")),))
        with self.store.begin() as unit:
            unit.snapshots.publish(RoutingSnapshot(0, {"churn": plan}), reason="first", author="test", at=1.0)

    def production(self, rows: int, begin: float = 1000.0, received: float = 1.5e9) -> None:
        """Predictions of a world that has changed, and what turned out to be true: who pays little goes now."""
        frame = churn(rows, seed=77)
        truth = (frame["charges"] < 55).astype(int)
        names = ("age", "charges", "plan")
        events, labels = [], []
        for place, (row, label) in enumerate(zip(frame.to_dict("records"), truth, strict=True)):
            inputs = msgspec.json.encode({name: [row[name]] for name in names})
            events.append(
                PredictionEvent(
                    request_id=f"q{place}", process="p", endpoint="churn", variant="baseline", version="1", snapshot=1,
                    time=begin + place, unit=f"u{place}", inputs=inputs, outputs=b'{"predictions":[0]}',
                )
            )  # fmt: skip
            labels.append(
                Feedback(
                    metric=MonitorPlan().performance.metric, request_id=f"q{place}", label=str(label), received=received
                )
            )
        with self.store.begin() as unit:
            unit.events.add(events)
            unit.feedback.add(labels[: rows - 50])

    def tick(self) -> Retraining:
        self.clock.advance(6)
        self.service.tick()
        [found] = self.service.list()
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.describe(families={"decision_tree": {"max_depth": 4}})
    return made


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    made = place.store()
    yield made
    made.close()


def test_a_changed_world_is_learnt_from_and_released(place: Place, store: Store) -> None:
    place.train()
    plane = Plane(place, store)
    plane.publish()
    plane.production(650)
    begun = plane.service.start("churn", who="ada", reason="prices have changed")
    job = place.run_job(store)
    assert (job.state, job.error) == ("done", "")
    found = plane.tick()
    assert found.state == "accepted", found.events
    outcome = found.outcome
    assert outcome is not None
    assert outcome.gate.champion is not None
    assert outcome.gate.challenger > outcome.gate.champion + 0.3, "on what is asked now"
    assert outcome.gate.champion_version == "1"
    rows = outcome.rows
    assert (rows.production, rows.without_label) == (600, 50)
    assert rows.production_test == rows.test == 120
    found = plane.tick()
    assert (found.state, found.job) == ("releasing", begun.job)
    release = plane.releases.get(found.release)
    assert (release.candidate.name, release.candidate.version) == ("churn", "2")
    assert release.requested_by == "training"
    assert plane.registry.get("churn", "challenger").version == "2"
    assert plane.registry.get("churn", "champion").version == "1"
    plane.releases.rollback(release.id, who="ada", reason="for the test")
    assert plane.tick().state == "rolled_back"


def test_the_same_table_gives_no_new_release(place: Place, store: Store) -> None:
    """Nothing has changed, so nothing is let through: the bytes are those of the champion."""
    place.describe(gate={"margin": 0.05})  # 80 rows without a difference show no less
    place.train()
    plane = Plane(place, store)
    plane.publish()
    plane.service.start("churn", mode="features", who="ada")
    place.run_job(store)
    plane.tick()
    found = plane.tick()
    assert found.state == "ended"
    assert "serves already" in found.events[-1].text


def test_a_broken_table_fails_with_its_reason(place: Place, store: Store) -> None:
    plane = Plane(place, store)
    plane.service.start("churn", mode="features", who="ada")
    (place.folder / "churn.csv").write_text("age,charges\n1,2\n")
    assert place.run_job(store).state == "failed"
    found = plane.tick()
    assert found.state == "failed"
    assert found.events[-1].text.startswith("data: column 'churned' is missing")


def test_a_job_of_one_that_has_ended_registers_nothing(place: Place, store: Store) -> None:
    """Such as one that was cancelled, whose job somebody tries again."""
    plane = Plane(place, store)
    begun = plane.service.start("churn", mode="features", who="ada")
    plane.service.cancel(begun.id, who="ada")
    plane.queue.retry(begun.job, who="ada")
    job = place.run_job(store)
    assert (job.state, job.error) == (
        "failed", f"retraining {begun.id} is ended already; start another one: tidegate retrain churn",
    )  # fmt: skip
    with pytest.raises(NotFound):
        plane.registry.versions("churn")


@pytest.mark.parametrize("change", ["cancelled", "lost"])
def test_told_to_end_while_it_trains_it_registers_nothing(place: Place, store: Store, change: str) -> None:
    """However late it hears of it: the store is asked right before the version."""
    plane = Plane(place, store)
    begun = plane.service.start("churn", mode="features", who="ada")

    def when(done: int) -> None:
        if done < 8:
            return
        if change == "cancelled":
            plane.queue.cancel(begun.job, who="ada")
        else:
            with store.begin() as unit:
                assert unit.jobs.claim(["retrain"], "another", 9e9, 30.0) is not None

    job = place.run_job(store, when=when)
    assert job.state == ("cancelled" if change == "cancelled" else "running")
    with pytest.raises(NotFound):
        plane.registry.versions("churn")


@pytest.mark.parametrize("point", ["registered", "stepped"])
def test_killed_after_it_registered_there_is_one_version(place: Place, store: Store, point: str) -> None:
    plane = Plane(place, store)
    plane.service.start("churn", mode="features", who="ada")
    child = [sys.executable, "-m", "tests.integration.training.child", str(place.folder), point]
    killed = subprocess.run(child, capture_output=True, check=False, env=dict(os.environ))
    assert killed.returncode == -9, killed.stderr.decode()
    assert len(plane.registry.versions("churn")) == 1
    done = subprocess.run([*child[:-1], ""], capture_output=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr.decode()
    [version] = plane.registry.versions("churn")
    found = plane.tick()
    assert found.state == "accepted"
    assert found.outcome is not None
    assert (found.outcome.version, version.aliases) == ("1", ("challenger", "champion"))
    assert found.outcome.gate.reason == json.loads(version.metadata["gate"])["reason"]
    assert found.outcome.rows.read == 400


def test_no_row_of_the_hold_out_was_trained_on(place: Place, store: Store) -> None:
    """A decision tree that has learnt each row by heart is perfect on what it has seen, and by chance elsewhere."""
    frame = churn(300)
    frame["churned"] = np.random.default_rng(4).integers(0, 2, 300)
    place.write(frame)
    place.describe(families={"decision_tree": None}, gate={"floor": 0.0})
    plane = Plane(place, store)
    plane.service.start("churn", who="ada")
    place.run_job(store)
    outcome: Any = plane.tick().outcome
    assert 0.25 < outcome.metrics["accuracy"].value < 0.75
