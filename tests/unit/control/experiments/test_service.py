"""Experiments on a real store, with instances that are rows and a clock that stands still."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.stores import sqlite_store
from tidegate.clock import ManualClock
from tidegate.control.experiments.experiment import Spec
from tidegate.control.experiments.service import ExperimentService
from tidegate.control.registry.base import ModelVersion
from tidegate.errors import InvalidInput, LeaseLost, NotFound, UserError
from tidegate.observations import Beat, Exposure, Feedback
from tidegate.settings import Settings
from tidegate.storage.records import ReleaseEventRow, ReleaseRow
from tidegate.storage.store import Store
from tidegate.types import EndpointPlan, ModelRef, RoutingSnapshot, Variant


class Paths:
    """A registry that knows paths alone."""

    def ref(self, uri: str) -> ModelRef:
        return ModelRef(uri, digest="sha256:" + "0" * 64)

    def versions(self, name: str) -> list[ModelVersion]:
        raise NotFound(name)

    def get(self, name: str, version: str) -> ModelVersion:
        raise NotFound(name)

    def register(self, name: str, source: Path | str, **_: Any) -> ModelVersion:
        raise NotFound(name)

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        raise NotFound(name)


class Plane:
    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store, self.clock = store, clock
        self.service = ExperimentService(store, Paths(), Settings(), clock, "one")
        plans = {
            name: EndpointPlan(name, (Variant("baseline", ModelRef(f"{name}.onnx")),), salt="old")
            for name in ("shop", "mail")
        }
        with store.begin() as unit:
            unit.snapshots.publish(RoutingSnapshot(0, plans, "shop"), reason="first", author="test", at=clock.wall())

    def acknowledge(self, *instances: str, error: str = "") -> None:
        with self.store.read() as unit:
            latest = unit.snapshots.latest()
        assert latest is not None
        for instance in instances:
            self.beat(instance, 0 if error else latest.number)
            with self.store.begin() as unit:
                unit.instances.acknowledge(latest.number, instance, self.clock.wall(), error)

    def beat(self, instance: str, snapshot: int = 0) -> None:
        now = self.clock.wall()
        beat = Beat(
            instance=instance, host="h", port=1, pid=1, workers=1, started=now, time=now, snapshot=snapshot, models={}
        )
        with self.store.begin() as unit:
            unit.instances.beat(beat)

    def plan(self, endpoint: str = "shop") -> EndpointPlan:
        with self.store.read() as unit:
            latest = unit.snapshots.latest()
        assert latest is not None
        return latest.snapshot.endpoints[endpoint]

    def run(self, spec: Spec | None = None) -> None:
        """From the start to traffic."""
        self.service.start(spec or a_spec(), who="ann")
        for _ in range(2):
            self.acknowledge("a")
            self.service.tick()
        assert self.service.get((spec or a_spec()).name).state == "running"

    def expose(self, units: range, arm: str, experiment: str = "button") -> None:
        now = self.clock.wall()
        with self.store.begin() as unit:
            unit.exposures.add(
                [Exposure(experiment=experiment, endpoint="shop", unit=f"u{n}", variant=arm, time=now) for n in units]
            )

    def feed(self, metric: str, values: dict[int, float], later: float = 1.0) -> None:
        now = self.clock.wall() + later
        with self.store.begin() as unit:
            unit.feedback.add(
                [
                    Feedback(metric=metric, unit=f"u{n}", value=float(value), time=now, received=now)
                    for n, value in values.items()
                ]
            )


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    clock = ManualClock()
    store = sqlite_store(tmp_path, clock)
    yield Plane(store, clock)
    store.close()


def a_spec(**given: Any) -> Spec:
    standard = {
        "name": "button",
        "endpoint": "shop",
        "arms": [{"name": "green", "model": "green.onnx", "share": 50}],
        "metrics": [{"name": "bought"}],
    }
    return msgspec.convert(standard | given, Spec)


def test_traffic_is_split_only_once_every_instance_has_loaded_the_arms(plane: Plane) -> None:
    plane.beat("a")
    plane.beat("b")
    plane.service.start(a_spec(), who="ann")
    assert [(variant.name, variant.share) for variant in plane.plan().variants] == [("baseline", 0), ("green", 0)]
    plane.acknowledge("a")
    plane.service.tick()
    assert "waits for b" in plane.service.get("button").waiting
    assert plane.plan().experiment is None
    plane.acknowledge("b")
    plane.service.tick()
    plan = plane.plan()
    assert [(variant.name, variant.share) for variant in plan.variants] == [("baseline", 0), ("green", 5000)]
    assert plan.experiment is not None
    assert (plan.experiment.experiment, plan.salt) == ("button", "experiment:button")
    assert plane.service.get("button").state == "pending"
    plane.acknowledge("a", "b")
    plane.service.tick()
    running = plane.service.get("button")
    assert (running.state, running.started, running.waiting) == ("running", plane.clock.wall(), "")


def test_an_arm_that_cannot_be_loaded_ends_it(plane: Plane) -> None:
    plane.service.start(a_spec(), who="ann")
    plane.acknowledge("a", error="green.onnx: no such file")
    plane.service.tick()
    failed = plane.service.get("button")
    assert failed.state == "failed"
    assert "no such file" in failed.reason
    assert [variant.name for variant in plane.plan().variants] == ["baseline"]


def test_the_end_is_one_publication_and_the_old_plan(plane: Plane) -> None:
    before = plane.plan()
    plane.run()
    with plane.store.read() as unit:
        number = unit.snapshots.latest()
    stopped = plane.service.stop("button", who="bob", reason="enough")
    assert (stopped.state, stopped.reason) == ("stopped", "enough")
    assert plane.plan() == before
    assert number is not None
    assert stopped.snapshot == number.number + 1
    assert plane.service.stop("button", who="bob", reason="again") == stopped
    with plane.store.read() as unit:
        actions = [(row.who, row.action) for row in unit.audit.list()]
    assert actions == [("bob", "experiment.stop"), ("tidegate", "experiment.run"), ("ann", "experiment.start")]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"arms": [{"name": "baseline", "model": "m", "share": 5}]}, "control arm"),
        (
            {"arms": [{"name": "a", "model": "m", "share": 60}, {"name": "b", "model": "m", "share": 40}]},
            "less than 100",
        ),
        ({"metrics": [{"name": "m"}, {"name": "m"}]}, "same name"),
        ({"range": [60, 60]}, "empty"),
    ],
)
def test_what_cannot_be_is_refused(plane: Plane, given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        plane.service.start(a_spec(**given), who="ann")
    with pytest.raises(NotFound):
        plane.service.get("button")


def test_an_unknown_endpoint_is_told(plane: Plane) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        plane.service.start(a_spec(endpoint="nowhere"), who="ann")


def test_an_endpoint_has_one_experiment_or_release_at_a_time(plane: Plane) -> None:
    plane.run()
    with pytest.raises(UserError, match="runs on shop"):
        plane.service.start(a_spec(name="other"), who="ann")
    with pytest.raises(UserError, match="exists already"):
        plane.service.start(a_spec(), who="ann")
    with plane.store.begin() as unit:
        row = ReleaseRow(
            id="r1", endpoint="mail", state="ramping", open=True, created=1, changed=1, revision=0, body="{}"
        )
        unit.releases.add(row, ReleaseEventRow(release="r1", revision=0, time=1, kind="start", body="{}"))
    with pytest.raises(UserError, match="release r1 is open"):
        plane.service.start(a_spec(name="other", endpoint="mail"), who="ann")


def test_ranges_of_one_layer_do_not_overlap(plane: Plane) -> None:
    plane.run(a_spec(layer="checkout", range=[0, 50]))
    with pytest.raises(UserError, match="has 0 to 50 percent already"):
        plane.service.start(a_spec(name="other", endpoint="mail", layer="checkout", range=[49, 100]), who="ann")
    plane.service.start(a_spec(name="other", endpoint="mail", layer="checkout", range=[50, 100]), who="ann")


def test_a_late_lift_is_found_and_ends_it(plane: Plane) -> None:
    plane.run(a_spec(stop={"when_decided": True}))
    plane.expose(range(3000), "baseline")
    plane.expose(range(3000, 6000), "green")
    chance = np.random.default_rng(1)
    plane.feed("bought", {n: float(chance.random() < (0.10 if n < 3000 else 0.16)) for n in range(6000)})
    report = plane.service.report("button")
    (found,) = report.comparisons
    assert (found.outcome, report.split.outcome) == ("better", "pass")
    assert found.interval is not None
    assert found.interval[0] < 0.06 < found.interval[1]
    assert found.lift is not None
    assert 0.3 < found.lift < 1.0
    plane.clock.advance(6)
    plane.service.tick()
    ended = plane.service.get("button")
    assert (ended.state, ended.author) == ("stopped", "ann")
    assert "green is better" in ended.reason
    assert plane.service.reports("button")[-1].comparisons == report.comparisons


def test_units_that_never_say_anything_count_as_not_converted(plane: Plane) -> None:
    plane.run()
    plane.expose(range(1000), "baseline")
    plane.expose(range(1000, 2000), "green")
    plane.feed("bought", dict.fromkeys(range(0, 2000, 10), 1.0))
    for estimate in plane.service.report("button").estimates:
        assert (estimate.units, estimate.outcomes) == (1000, 100)
        assert estimate.mean == pytest.approx(0.1)


def test_a_broken_split_is_told_and_decides_nothing(plane: Plane) -> None:
    plane.run(a_spec(stop={"when_decided": True}))
    plane.expose(range(3000), "baseline")
    plane.expose(range(3000, 4500), "green")
    plane.feed("bought", {n: float(n >= 3000) if n % 2 else 0.0 for n in range(4500)} | dict.fromkeys(range(60), 1.0))
    report = plane.service.report("button")
    assert report.split.outcome == "fail"
    assert report.comparisons[0].outcome == "better"
    plane.clock.advance(6)
    plane.service.tick()
    assert plane.service.get("button").state == "running"


def test_a_covariate_from_before_takes_out_variance(plane: Plane) -> None:
    chance = np.random.default_rng(2)
    habit = chance.normal(50, 10, 6000)
    plane.feed("spent_before", {n: float(habit[n]) for n in range(6000)}, later=-100)
    plane.feed("spent", {n: float(habit[n] + chance.normal(0, 3)) for n in range(5000, 6000)}, later=-50)
    plane.run(a_spec(metrics=[{"name": "spent", "kind": "numeric", "covariate": "spent_before"}]))
    plane.expose(range(2000), "baseline")
    plane.expose(range(2000, 4000), "green")
    plane.feed("spent", {n: float(habit[n] + chance.normal(0.8 * (n >= 2000), 3)) for n in range(4000)})
    (found,) = plane.service.report("button").comparisons
    assert found.variance_removed > 0.8
    assert found.outcome == "better"
    assert found.difference == pytest.approx(0.8, abs=0.4)


def test_rules_end_it_on_time_and_on_units(plane: Plane) -> None:
    plane.run(a_spec(stop={"max_seconds": 60, "max_units": 5}))
    plane.expose(range(5), "baseline")
    plane.clock.advance(10)
    plane.service.tick()
    assert plane.service.get("button").reason == "5 units took part"


def test_without_outcomes_nothing_is_concluded(plane: Plane) -> None:
    plane.run()
    report = plane.service.report("button")
    assert [one.outcome for one in report.comparisons] == ["no_data"]
    assert report.split.outcome == "no_data"


def test_of_two_control_planes_one_acts(plane: Plane) -> None:
    plane.service.tick()
    second = ExperimentService(plane.store, Paths(), Settings(), plane.clock, "two")
    second.start(a_spec(), who="ann")
    plane.acknowledge("a")
    second.tick()
    assert not second.get("button").warm, "the first holds the lease"
    plane.clock.advance(60)
    with plane.store.begin() as unit:
        old = unit.leases.acquire("other", "one", plane.clock.wall(), 1)
    assert old is not None
    second.tick()
    plane.acknowledge("a")
    second.tick()
    assert second.get("button").warm
    with plane.store.begin() as unit, pytest.raises(LeaseLost):
        unit.leases.check(msgspec.structs.replace(old, token=old.token - 1), plane.clock.wall())
