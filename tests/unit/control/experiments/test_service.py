"""Experiments on a real store, with instances that are rows and a clock that stands still."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from sqlalchemy import event

from tests.stores import sqlite_store
from tidegate.clock import ManualClock
from tidegate.control.experiments.experiment import Spec
from tidegate.control.experiments.service import ExperimentService
from tidegate.control.registry.base import ModelVersion
from tidegate.errors import InvalidInput, NotFound, UserError
from tidegate.observations import Beat, Exposure, Feedback
from tidegate.settings import Settings
from tidegate.storage.records import ReleaseEventRow, ReleaseRow
from tidegate.storage.store import Store
from tidegate.types import EndpointPlan, ModelRef, RoutingSnapshot, Variant

pytestmark = pytest.mark.slow


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

    def profile(self, version: ModelVersion, most_bytes: int) -> bytes:
        raise NotFound(version.name)

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

    def publish(self, plan: EndpointPlan) -> None:
        with self.store.begin() as unit:
            latest = unit.snapshots.latest()
            assert latest is not None
            endpoints = {**latest.snapshot.endpoints, plan.name: plan}
            snapshot = msgspec.structs.replace(latest.snapshot, endpoints=endpoints)
            unit.snapshots.publish(snapshot, reason="by hand", author="bob", at=self.clock.wall())

    def beat(self, instance: str, snapshot: int = 0, draining: bool = False) -> None:
        now = self.clock.wall()
        beat = Beat(
            instance=instance, host="h", port=1, pid=1, workers=1, started=now, time=now, snapshot=snapshot, models={},
            draining=draining,
        )  # fmt: skip
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
        ({"range": [60, 60.004]}, "empty"),
        ({"arms": [{"name": "a", "model": "m", "share": 0.004}]}, "0.01 percent or more"),
        ({"arms": [{"name": "a", "model": "m", "share": 99.999}]}, "less than 100"),
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
    (found,) = report.comparisons
    assert found.interval is not None
    assert found.interval[0] > 0, "the figures are shown"
    assert found.outcome == "undecided", "but nothing follows from them"
    assert "the split is broken" in found.reason
    assert "better" not in found.reason
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
    second = ExperimentService(plane.store, Paths(), Settings(), plane.clock, "two")
    second.start(a_spec(), who="ann")
    plane.service.tick()
    plane.acknowledge("a")
    second.tick()
    assert not second.get("button").warm, "the first holds the lease"
    plane.clock.advance(60)
    plane.beat("a")
    second.tick()
    assert second.get("button").warm, "the first was away for too long"
    plane.acknowledge("a")
    plane.service.tick()
    assert second.get("button").state == "pending", "and does nothing now that the second has it"


def test_the_lease_that_is_handed_back_is_taken_at_once(plane: Plane) -> None:
    second = ExperimentService(plane.store, Paths(), Settings(), plane.clock, "two")
    second.start(a_spec(), who="ann")
    plane.service.tick()
    plane.acknowledge("a")
    plane.service.leave()
    second.tick()
    assert second.get("button").warm


def test_a_lease_that_is_lost_during_a_look_writes_nothing(tmp_path: Path) -> None:
    clock = Stalling()
    store = sqlite_store(tmp_path, clock)
    plane = Plane(store, clock)
    plane.run()
    clock.advance(10)
    plane.beat("a")
    plane.service.tick()
    kept = plane.service.reports("button")
    assert kept
    clock.advance(6)
    plane.beat("a")
    clock.stall_after = 3  # asked for the lease, for what is due, for the report; and then, before anything is written:
    plane.service.tick()
    assert clock.stalled, "the look was begun"
    assert plane.service.reports("button") == kept
    plane.service.tick()
    assert len(plane.service.reports("button")) == len(kept) + 1, "with a new lease it goes on"
    store.close()


class Stalling(ManualClock):
    """After so many questions about the time, ten minutes pass at once: the process was stopped for so long."""

    stall_after = -1
    stalled = False

    def _asked(self) -> None:
        if self.stall_after == 0:
            self.stalled = True
            self.advance(600)
        self.stall_after = max(self.stall_after - 1, -1)

    def monotonic(self) -> float:
        self._asked()
        return super().monotonic()

    def wall(self) -> float:
        self._asked()
        return super().wall()


def test_reports_are_thinned_out_with_age_and_the_newest_is_there(plane: Plane) -> None:
    plane.run()
    plane.clock.advance(10_000)
    for _ in range(60):
        plane.clock.advance(6)
        plane.service.tick()
    times = [report.time for report in plane.service.reports("button")]
    assert times[-1] == plane.clock.wall()
    assert all(later - earlier >= 100 for earlier, later in itertools.pairwise(times[:-1]))
    assert 4 <= len(times) <= 6


def test_reports_are_not_made_at_every_tick(plane: Plane) -> None:
    plane.run()
    for _ in range(10):
        plane.clock.advance(0.5)
        plane.service.tick()
    assert len(plane.service.reports("button")) == 1


def test_an_end_keeps_the_last_report_and_says_who(plane: Plane) -> None:
    plane.run()
    plane.expose(range(7), "green")
    plane.service.stop("button", who="bob", reason="enough")
    assert plane.service.reports("button")[-1].units["green"] == 7
    with plane.store.read() as unit:
        latest = unit.snapshots.latest()
    assert latest is not None
    assert (latest.author, latest.reason) == ("bob", "experiment button: enough")


@pytest.mark.parametrize("running", [False, True])
def test_a_plan_that_somebody_else_published_ends_it_and_stays(plane: Plane, running: bool) -> None:
    if running:
        plane.run()
    else:
        plane.service.start(a_spec(), who="ann")
    theirs = EndpointPlan("shop", (Variant("baseline", ModelRef("newer.onnx")),))
    plane.publish(theirs)
    plane.acknowledge("a")
    plane.clock.advance(6)
    plane.beat("a")
    plane.service.tick()
    ended = plane.service.get("button")
    assert ended.state == "failed"
    assert "another plan" in ended.reason
    assert plane.plan() == theirs


def test_a_baseline_that_moved_beside_the_arms_ends_it_and_takes_the_arms_away(plane: Plane) -> None:
    before = plane.plan()
    plane.run()
    split = plane.plan()
    newer = Variant("baseline", ModelRef("newer.onnx"))
    plane.publish(msgspec.structs.replace(split, variants=(newer, *split.variants[1:])))
    plane.clock.advance(6)
    plane.service.tick()
    assert plane.service.get("button").state == "failed"
    assert plane.plan() == msgspec.structs.replace(before, variants=(newer,))


def test_instances_that_drain_or_are_gone_are_not_waited_for(plane: Plane) -> None:
    plane.service.start(a_spec(), who="ann")
    plane.beat("gone")
    plane.acknowledge("refuser", error="no such file")
    plane.clock.advance(60)
    plane.beat("draining", draining=True)
    plane.acknowledge("a")
    plane.service.tick()
    assert plane.service.get("button").warm


def test_one_that_cannot_be_looked_at_does_not_stop_the_others(plane: Plane, caplog: pytest.LogCaptureFixture) -> None:
    plane.service.start(a_spec(), who="ann")
    plane.clock.advance(1)
    plane.service.start(a_spec(name="broken", endpoint="mail"), who="ann")
    with plane.store.begin() as unit:  # it is looked at first, being the newest
        broken = unit.experiments.get("broken")
        assert broken is not None
        body = msgspec.json.decode(broken.body) | {"name": "nowhere"}
        body["spec"]["name"] = "nowhere"
        unit.experiments.save(msgspec.structs.replace(broken, body=msgspec.json.encode(body).decode()), broken.revision)
    plane.acknowledge("a")
    plane.service.tick()
    assert plane.service.get("button").warm
    assert "nowhere" in caplog.text


def test_what_was_before_is_read_while_others_write(plane: Plane) -> None:
    """History may be millions of rows, and a writer keeps every other one waiting."""
    said: list[str] = []
    event.listen(plane.store.engine, "before_cursor_execute", lambda *given: said.append(given[2]))
    plane.service.start(a_spec(metrics=[{"name": "spent", "kind": "numeric", "covariate": "before"}]), who="ann")
    (read,) = (at for at, statement in enumerate(said) if "feedback" in statement)
    assert [statement for statement in said[:read] if statement.startswith("BEGIN")][-1] == "BEGIN"


def test_a_lift_does_not_depend_on_who_came_before(plane: Plane) -> None:
    """The units whose history gave the coefficient spent ten times as much as those who take part."""
    chance = np.random.default_rng(3)
    habit = np.concatenate([chance.normal(50, 10, 2000), chance.normal(500, 10, 1000)])
    plane.feed("spent_before", {n: float(habit[n]) for n in range(3000)}, later=-100)
    plane.feed("spent", {n: float(habit[n] + chance.normal(0, 3)) for n in range(2000, 3000)}, later=-50)
    plane.run(a_spec(metrics=[{"name": "spent", "kind": "numeric", "covariate": "spent_before"}]))
    plane.expose(range(1000), "baseline")
    plane.expose(range(1000, 2000), "green")
    plane.feed("spent", {n: float(habit[n] + chance.normal(10 * (n >= 1000), 3)) for n in range(2000)})
    (found,) = plane.service.report("button").comparisons
    assert found.lift == pytest.approx(0.2, abs=0.02)
    assert found.lift_interval is not None
    assert found.lift_interval[0] < 0.2 < found.lift_interval[1]


def test_a_covariate_of_a_binary_metric_keeps_its_numbers(plane: Plane) -> None:
    chance = np.random.default_rng(4)
    visits = chance.uniform(0, 10, 6000)
    bought = chance.random(6000) < 0.05 + 0.09 * visits
    plane.feed("visits", {n: float(visits[n]) for n in range(6000)}, later=-100)
    plane.feed("bought", {n: float(bought[n]) for n in range(5000, 6000)}, later=-50)
    plane.run(a_spec(metrics=[{"name": "bought", "covariate": "visits"}]))
    plane.expose(range(2500), "baseline")
    plane.expose(range(2500, 5000), "green")
    plane.feed("bought", {n: float(bought[n]) for n in range(5000)})
    (found,) = plane.service.report("button").comparisons
    assert found.variance_removed > 0.15
    assert found.outcome == "undecided"


def test_numbers_that_never_vary_decide_nothing(plane: Plane) -> None:
    plane.run(a_spec(metrics=[{"name": "spent", "kind": "numeric"}], stop={"when_decided": True}))
    plane.expose(range(200), "baseline")
    plane.expose(range(200, 400), "green")
    plane.feed("spent", {n: 1.0 + (n >= 200) for n in range(400)})
    report = plane.service.report("button")
    (found,) = report.comparisons
    assert found.outcome == "no_data"
    assert "nothing varies" in found.reason
    assert [estimate.interval for estimate in report.estimates] == [None, None]


def test_the_split_is_held_against_the_shares_that_are_served(plane: Plane) -> None:
    """0.015 % is served as two buckets of ten thousand."""
    plane.run(a_spec(arms=[{"name": "green", "model": "green.onnx", "share": 0.015}]))
    split = plane.service.report("button").split
    assert "100.0% : 0.0%" not in split.reason
    assert "99.98% : 0.02%" in split.reason or "0.02% : 99.98%" in split.reason


def test_an_open_one_is_looked_at_however_many_have_ended_since(plane: Plane) -> None:
    plane.service.start(a_spec(), who="ann")
    with plane.store.begin() as unit:
        ended = unit.experiments.get("button")
        assert ended is not None
        for number in range(1001):
            unit.experiments.add(
                msgspec.structs.replace(ended, name=f"e{number}", state="stopped", created=ended.created + 1)
            )
    plane.acknowledge("a")
    plane.service.tick()
    assert plane.service.get("button").warm
    with pytest.raises(UserError, match="runs on shop"):
        plane.service.start(a_spec(name="other"), who="ann")
