"""The monitor from predictions to alerts, on a real store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from tests.unit.control.monitoring.world import HOUR, START, TABLE, Hurried, World
from tidegate.clock import ManualClock
from tidegate.control.monitoring import profiles
from tidegate.control.monitoring.state import MonitorState, write_state
from tidegate.errors import LeaseLost, LostRace
from tidegate.monitor_plan import DriftPlan, MonitorPlan, PerformancePlan, QualityBound, QualityPlan
from tidegate.observations import Feedback
from tidegate.settings import EndpointSettings
from tidegate.storage.records import MonitorRow, ProfileRow
from tidegate.storage.store import Store, Unit
from tidegate.types import ModelRef, Variant

DRIFT = "drift:baseline:age"


def test_what_looks_as_in_training_raises_nothing(world: World) -> None:
    world.send(400)
    world.next_window()
    (report,) = world.reports()
    assert (report.rows, report.complete, report.drifted) == (400, True, False)
    assert report.baseline == "churn@1"
    assert {one.column for one in report.columns} == {"age", "plan"}
    assert not world.alerts()
    assert not world.jobs()


def test_a_shifted_feature_fires_tells_and_is_resolved(world: World) -> None:
    world.send(400, shift=15)
    world.look()
    (running,) = world.reports()
    assert (running.complete, running.drifted) == (False, True)
    alert = world.alerts("firing")[DRIFT]
    assert alert.report == running.id
    assert "age of churn" in alert.text
    assert "400 rows" in alert.text
    assert alert.command == f"tidegate monitor show churn --column age --start {alert.window:.0f}"
    (job,) = world.jobs()
    assert job.payload["channel"] == "webhook"
    assert job.payload["notification"]["alerts"][0]["state"] == "firing"
    world.next_window()
    (checked,) = world.reports()
    assert checked.id == running.id
    assert checked.complete
    world.send(400)
    world.next_window()
    assert set(world.alerts("resolved")) == {DRIFT}
    assert [job.payload["notification"]["alerts"][0]["state"] for job in world.jobs()] == ["firing", "resolved"]


def test_a_running_window_with_few_rows_says_nothing_and_a_whole_one_says_so(world: World) -> None:
    """argoproj/argo-rollouts#1466, #1905: too little data is neither good nor bad."""
    world.send(40, shift=50)
    world.look()
    assert not world.reports()
    world.next_window()
    (report,) = world.reports()
    assert "50 are needed" in report.note
    assert not report.drifted
    assert not world.alerts()


def test_rows_are_counted_once_however_often_one_looks(world: World) -> None:
    for round_ in range(5):
        world.send(300, seed=round_)
        world.look()
        world.look()
    assert world.rows() == {("baseline", "1", START): 1500}
    assert world.state.read == 1500


@pytest.mark.slow
def test_more_than_a_batch_is_read_in_one_look(world: World) -> None:
    world.send(2300)
    world.look()
    assert world.rows() == {("baseline", "1", START): 2300}


@pytest.mark.slow
def test_late_predictions_go_into_their_own_window_whose_report_is_done_again(world: World) -> None:
    world.send(300)
    world.next_window()
    (before,) = world.reports()
    assert not before.drifted
    world.send(600, shift=20, at=START + 100)
    world.send(100)
    world.look()
    after = world.reports()[0]
    assert (after.id, after.rows, after.complete, after.drifted) == (before.id, 900, True, True)
    assert world.rows()["baseline", "1", START] == 900
    assert world.rows()["baseline", "1", START + HOUR] == 100


def test_forced_requests_are_left_out(world: World) -> None:
    world.send(200, forced=True, shift=50)
    world.send(100)
    world.look()
    assert world.rows() == {("baseline", "1", START): 100}
    assert world.state.forced == 200


def test_a_shadow_is_a_variant_of_its_own(world: World) -> None:
    second = world.register()
    world.publish("1", Variant("candidate", ModelRef("models:/churn", "churn", second), shadow=True))
    world.send(100)
    world.send(100, variant="candidate", version=second, shift=30)
    world.next_window()
    assert [(report.variant, report.version, report.drifted) for report in world.reports()] == [
        ("baseline", "1", False),
        ("candidate", "2", True),
    ]
    assert "drift:candidate:age" in world.alerts("firing")
    assert not any("baseline" in rule for rule in world.alerts())
    assert world.state.counted == {repr(START): 100}


def test_a_new_version_has_a_baseline_of_its_own(world: World) -> None:
    """What the new version was trained on is what it is compared with, without anybody doing anything."""
    world.send(200)
    world.look()
    shifted = {"age": TABLE["age"] + 15, "plan": TABLE["plan"]}
    second = world.register(shifted)
    world.publish(second)
    world.send(200, version=second, shift=15)
    world.next_window()
    found = {(report.version, report.baseline): report.drifted for report in world.reports()}
    assert found == {("1", "churn@1"): False, ("2", "churn@2"): False}
    assert [one.baseline for one in world.service.get("churn").variants] == ["churn@2"]


def test_without_a_reference_the_monitor_says_so(world: World) -> None:
    world.publish(world.register(None))
    world.send(200, version="2", shift=50)
    world.look()
    monitor = world.service.get("churn")
    assert "registered without a reference profile" in monitor.note
    assert "tidegate baseline create" in monitor.note
    assert monitor.without == 200
    assert not world.reports()


def test_what_is_not_registered_is_told_what_to_do(world: World) -> None:
    world.publish("")
    world.send(100, version="1f0c")
    world.look()
    assert "does not serve a registered version" in world.service.get("churn").note


def test_a_poisoned_prediction_is_counted_and_passed_over(world: World) -> None:
    good = world.event({"age": [40.0], "plan": ["a"]}, {"predictions": [1]})
    world.add(
        world.event(b"\xff{", b""),
        good,
        world.event(b"[1, 2]", b"{}"),
        world.event({"age": [[[{"x": 1}]]]}, {"predictions": [1]}),
        world.event({"age": [1e308], "plan": [None]}, {"predictions": ["x" * 10_000]}),
        world.event({"age": [1.0]}, {"predictions": [1]}, at=float(10**13)),
    )
    world.send(60)
    world.look()
    assert world.state.unreadable == 3
    assert world.rows()["baseline", "1", START] == 63
    assert world.service.get("churn").lag_seconds == 0.0
    assert not world.service.get("churn").note


@pytest.mark.slow
def test_silence_is_an_alert_where_rows_are_expected(store: Store, clock: ManualClock, tmp_path: Path) -> None:
    """Volume: the window is over and nothing came."""
    world = World(store, clock, tmp_path, MonitorPlan(quality=QualityPlan(min_rows=100)))
    world.publish(world.register())
    world.send(150)
    world.next_window()
    assert not world.alerts()  # the window in which it began to look is whole by now, but was not when it began
    world.next_window()
    alert = world.alerts("firing")["quality:baseline:volume"]
    assert "0 rows came to churn" in alert.text
    assert alert.command == "tidegate monitor show churn", (
        "of a window without rows nothing is kept that could be shown"
    )
    assert [report.note for report in world.reports()] == ["", "no rows"]
    world.send(120)
    world.next_window()
    assert set(world.alerts("resolved")) == {"quality:baseline:volume"}


def test_without_a_minimum_silence_is_fine(world: World) -> None:
    for _ in range(3):
        world.next_window()
    assert not world.reports()
    assert not world.alerts()


@pytest.mark.slow
def test_broken_rows_fire_and_are_resolved_though_the_check_then_finds_nothing(world: World) -> None:
    world.send(400, missing=0.4)
    world.next_window()
    rule = "quality:baseline:missing:age"
    assert rule in world.alerts("firing")
    world.send(400)
    world.next_window()
    assert rule in world.alerts("resolved")


@pytest.mark.slow
def test_the_number_of_rows_does_not_decide_whether_there_is_drift(world: World) -> None:
    """evidentlyai/evidently#50, #509: the same data, many rows or few, is no drift."""
    for rows, seed in ((60, 5), (200, 6), (1000, 7), (5000, 8)):
        world.send(rows, seed=seed)
        world.next_window()
    assert [report.rows for report in world.reports()] == [60, 200, 1000, 5000]
    assert not any(report.drifted for report in world.reports())


@pytest.mark.slow
def test_bins_stay_where_the_baseline_put_them(world: World) -> None:
    """evidentlyai/evidently#1408: windows are compared with the baseline, not with the window before: a slow slide adds
    up."""
    for shift in (0, 3, 6, 9, 12):
        world.send(600, shift=shift, seed=int(shift) + 1)
        world.next_window()
    found = [next(one for one in report.columns if one.column == "age").statistic for report in world.reports()]
    assert found == sorted(found)
    assert world.alerts("firing")[DRIFT].value > 0.5


@pytest.mark.slow
def test_labels_become_quality_and_break_bounds(store: Store, clock: ManualClock, tmp_path: Path) -> None:
    bounds = {"accuracy": QualityBound(min=0.9)}
    world = World(store, clock, tmp_path, MonitorPlan(performance=PerformancePlan(bounds=bounds)))
    world.publish(world.register())
    ids = world.send(400, right=0.6)
    world.next_window()
    assert not world.alerts()
    world.label(ids)
    world.look()
    (by_prediction,) = [one for one in world.service.performance("churn", 0, 1e12) if one.basis == "prediction"]
    assert (by_prediction.start, by_prediction.labels) == (START, 400)
    assert by_prediction.metrics["accuracy"].value == pytest.approx(0.6, abs=0.08)
    (by_arrival,) = [one for one in world.service.performance("churn", 0, 1e12) if one.basis == "arrival"]
    assert by_arrival.start == START + HOUR
    alert = world.alerts("firing")["performance:baseline:accuracy"]
    assert "400 labels" in alert.text


@pytest.mark.slow
def test_later_labels_measure_their_window_anew(world: World) -> None:
    ids = world.send(400, right=0.9)
    world.next_window()
    world.label(ids[:150])
    world.look()
    world.next_window()
    world.label(ids[150:])
    world.look()
    found = [one for one in world.service.performance("churn", 0, 1e12) if one.basis == "prediction"]
    assert [one.labels for one in found] == [400]


@pytest.mark.slow
def test_the_reference_of_quality_is_what_the_training_measured(
    store: Store, clock: ManualClock, tmp_path: Path
) -> None:
    world = World(store, clock, tmp_path)
    world.publish(world.register(metrics='{"accuracy": {"value": 0.95, "low": 0.9, "high": 1.0}}'))
    world.label(world.send(400, right=0.7))
    world.next_window()
    alert = world.alerts("firing")["performance:baseline:accuracy"]
    assert alert.threshold == pytest.approx(0.9)


@pytest.mark.slow
def test_estimates_are_never_mixed_up_with_what_was_measured(world: World) -> None:
    world.send(400)
    world.next_window()
    world.look()
    (found,) = world.service.performance("churn", 0, 1e12)
    assert (found.basis, found.labels) == ("estimated", 0)
    monitor = world.service.get("churn")
    assert monitor.variants[0].performance is None
    assert monitor.variants[0].estimated == found
    assert not world.alerts()


@pytest.mark.slow
def test_one_of_several_control_planes_looks(world: World) -> None:
    second = world.another("two")
    world.service.tick()
    world.send(100)
    world.clock.advance(40)
    world.service.tick()
    second.tick()
    assert world.state.read == 100
    world.service.leave()
    world.send(50)
    second.tick()
    assert world.state.read == 150


@pytest.mark.slow
def test_a_person_may_look_at_any_control_plane(world: World) -> None:
    world.look()
    world.send(100, shift=10)
    monitor = world.another("two").run("churn")
    assert monitor.variants[0].drifted == ("age",)
    assert monitor.firing == 1
    world.look()
    assert world.state.read == 100


def test_an_idle_endpoint_writes_nothing(world: World) -> None:
    world.send(100)
    world.look()
    world.look()
    before = world.state.revision
    world.look(10)
    world.look(10)
    assert world.state.revision == before
    world.look(70)  # that somebody looks is written down once a minute
    assert world.state.revision == before + 1


@pytest.mark.slow
def test_one_that_cannot_be_looked_at_does_not_stop_the_others(
    store: Store, clock: ManualClock, tmp_path: Path
) -> None:
    world = World(store, clock, tmp_path)
    endpoints = {"absent": world.settings.endpoints["churn"], **world.settings.endpoints}
    world.settings = msgspec.structs.replace(world.settings, endpoints=endpoints)
    world.service = world.another("one")
    world.publish(world.register())
    digest = profiles.digest(profiles.make_profile(TABLE))
    with store.begin() as unit:
        unit.monitors.put_profile(ProfileRow("absent", "baseline", "1", digest, START, HOUR, 1, "broken"))
    world.add(world.event({"age": [40.0], "plan": ["a"]}, {"predictions": [1]}, endpoint="absent"))
    world.send(100)
    world.look()
    assert world.state.read == 100
    assert "no profile" in world.service.get("absent").note


@pytest.mark.slow
def test_a_registry_that_is_away_loses_nothing(world: World) -> None:
    world.registry.away = True
    world.send(100)
    world.look()
    assert "registry" in world.service.get("churn").note
    assert world.service.get("churn").lag_seconds > 0
    world.registry.away = False
    world.look()
    assert world.rows() == {("baseline", "1", START): 100}
    assert not world.service.get("churn").note


@pytest.mark.slow
def test_a_named_baseline_and_a_file_are_references_too(store: Store, clock: ManualClock, tmp_path: Path) -> None:
    (tmp_path / "reference.csv").write_text(
        "age,plan\n" + "\n".join(f"{age:.3f},{plan}" for age, plan in zip(*TABLE.values(), strict=True))
    )
    for reference in ("november", "reference.csv"):
        world = World(store, clock, tmp_path, MonitorPlan(reference=reference))
        world.publish("")
        if reference == "november":
            world.look()
            assert "there is no baseline november" in world.service.get("churn").note
            world.service.baselines.of_profile("november", profiles.make_profile(TABLE), endpoint="churn", who="ada")
        world.send(200, version="1f0c", shift=20)
        world.look()
        assert world.service.get("churn").variants[0].baseline == reference
        assert DRIFT in world.alerts("firing")
        world.next_window()


@pytest.mark.slow
def test_a_changed_file_is_read_anew(store: Store, clock: ManualClock, tmp_path: Path) -> None:
    file = tmp_path / "reference.csv"
    world = World(store, clock, tmp_path, MonitorPlan(reference="reference.csv"))
    world.publish("")
    digests = []
    for shift in (0, 100):
        file.write_text("age,plan\n" + "\n".join(f"{age + shift:.3f},a" for age in TABLE["age"]))
        world.look()
        digests.append(world.service.get("churn").variants[0].digest)
    assert digests[0] != digests[1]


@pytest.mark.slow
def test_an_alert_about_what_is_not_served_any_more_is_resolved(world: World) -> None:
    second = world.register()
    candidate = Variant("candidate", ModelRef("models:/churn", "churn", second), 1000)
    world.publish("1", candidate)
    world.send(200, variant="candidate", version=second, shift=30)
    world.look()
    assert "drift:candidate:age" in world.alerts("firing")
    world.publish("1")
    world.look()
    alert = world.alerts("resolved")["drift:candidate:age"]
    assert "not served any more" in alert.text


@pytest.mark.slow
def test_a_silence_notifies_nobody_until_it_is_over(world: World) -> None:
    world.send(100, shift=30)
    world.look()
    alert = world.alerts("firing")[DRIFT]
    silenced = world.service.silence(alert.id, 600, who="ada", reason="known")
    assert silenced.silenced_until == world.clock.wall() + 600
    assert silenced.silenced_by == "ada"
    world.look(5000)
    told = [job.payload["notification"]["alerts"][0]["event"] for job in world.jobs()]
    assert told == ["fired", "silence_over"]
    changes = [change.event for _, _, _, change in world.service.alert_changes(alert.id)]
    assert changes == ["fired", "silence", "silence_over"]


@pytest.mark.slow
def test_a_share_of_columns_may_drift(store: Store, clock: ManualClock, tmp_path: Path) -> None:
    world = World(store, clock, tmp_path, MonitorPlan(drift=DriftPlan(share=0.6)))
    world.publish(world.register())
    world.send(300, shift=10)
    world.next_window()
    (report,) = world.reports()
    assert [one.drifted for one in report.columns] == [True, False]
    assert not report.drifted
    assert not world.alerts()


class Killed(BaseException):
    """The process ends here."""


class Mortal(Store):
    """Dies at the n-th instant around a write: when all is written and nothing committed, or right after."""

    def __init__(self, store: Store, at: int) -> None:
        super().__init__(store.engine, store.clock)
        self._left = at

    @contextlib.contextmanager
    def begin(self, durable: bool = True) -> Iterator[Unit]:
        with super().begin(durable) as unit:
            yield unit
            self._point()
        self._point()

    def _point(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise Killed


@pytest.mark.slow
def test_killed_anywhere_nothing_is_lost_or_counted_twice(world: World) -> None:
    """Predictions, alerts and notifications: each once, wherever the control plane was killed before."""
    points = 0
    for point in range(1, 100):
        world.send(120, shift=20.0 if point % 2 else 0.0, seed=point)
        world.clock.advance(HOUR)
        dying = world.another(f"dying {point}", Mortal(world.store, point % 12 + 1))
        try:
            dying.tick()
            dying.leave()
        except Killed:
            points += 1
            world.clock.advance(60)  # its lease runs out
            heir = world.another(f"heir {point}")
            heir.tick()
            heir.leave()
        if point > 24:
            break
    assert points >= 12
    assert world.state.read == sum(world.rows().values()) == 120 * point
    told = [one for job in world.jobs() for one in job.payload["notification"]["alerts"] if one["rule"] == DRIFT]
    with world.store.read() as unit:
        events = unit.alerts.events(world.alerts()[DRIFT].id)
    assert [row.revision for row in events] == sorted({row.revision for row in events})
    assert len(told) == sum('"notified":true' in row.body for row in events)
    assert [one["state"] for one in told[:3]] == ["firing", "resolved", "firing"]


@pytest.mark.slow
def test_two_looks_at_the_same_moment_count_once(world: World) -> None:
    world.send(400)
    world.look()
    world.send(400)
    services = [world.another(f"{number}") for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda service: service.run("churn"), services))
    assert world.rows() == {("baseline", "1", START): 800}
    assert world.state.read == 800


@pytest.mark.slow
def test_what_one_look_has_no_time_for_is_read_by_the_next_at_once(store: Store, tmp_path: Path) -> None:
    world = World(store, Hurried(START + 60), tmp_path)
    world.publish(world.register())
    world.send(5000, each=2)
    world.service.tick()
    assert world.state.read == 4000
    world.service.tick()
    assert world.state.read == 5000


def test_who_slept_through_its_lease_writes_nothing(world: World) -> None:
    with world.store.begin() as unit:
        stale = unit.leases.acquire("monitors", "sleeper", world.clock.wall(), 5.0)
    world.look()  # another has it now
    world.send(100)
    with pytest.raises(LeaseLost):
        world.service._look("churn", world.service.plan("churn"), lambda: stale)
    assert world.state.read == 0
    world.look()
    assert world.state.read == 100


def test_what_another_version_was_like_is_no_news(world: World) -> None:
    world.send(100)
    world.look()
    second = world.register()
    world.publish(second)
    world.send(400, shift=20, at=START + 70)  # late ones of version 1
    world.look()
    assert [(report.version, report.drifted) for report in world.reports()] == [("1", True)]
    assert not world.alerts()


@pytest.mark.slow
def test_what_was_not_read_yet_is_no_silence(store: Store, tmp_path: Path) -> None:
    """Hours that wait to be read after a time in which nobody looked are neither empty nor over."""
    world = World(store, Hurried(START + 60), tmp_path, MonitorPlan(quality=QualityPlan(min_rows=2000)))
    world.publish(world.register())
    world.service.tick()
    for hour in range(3):
        world.send(2600, each=2, at=START + hour * HOUR + 100, seed=hour)
    world.clock.advance(START + 3 * HOUR + 60 - world.clock.wall())
    looks = 0
    while world.state.read < 3 * 2600:
        world.service.tick()
        assert not world.alerts()
        looks += 1
    assert looks > 1
    world.service.tick()
    assert [(one.rows, one.complete) for one in world.reports()] == [(2600, True)] * 3


def test_a_running_window_is_checked_when_its_rows_have_doubled(world: World) -> None:
    seen = []
    for place, rows in enumerate((60, 30, 29, 1, 100, 20)):
        world.send(rows, seed=place)
        world.look()
        (report,) = world.reports()
        seen.append(report.rows)
    assert seen == [60, 60, 60, 120, 120, 240]
    world.next_window()
    (report,) = world.reports()
    assert (report.rows, report.complete) == (240, True)


@pytest.mark.slow
def test_another_length_of_windows_begins_anew(store: Store, clock: ManualClock, tmp_path: Path) -> None:
    quality = QualityPlan(min_rows=150)
    world = World(store, clock, tmp_path, MonitorPlan(quality=quality))
    world.publish(world.register())
    world.send(140, at=START + 10)
    world.look()
    longer = World(store, clock, tmp_path, MonitorPlan(window="2h", quality=quality))
    longer.registry, longer.number, longer._ids = world.registry, world.number, world._ids
    longer.service = longer.another("one")
    longer.send(60)
    longer.look()
    assert longer.state.window == 2 * HOUR
    first = START // (2 * HOUR) * 2 * HOUR
    longer.look(first + 2 * HOUR + 10 - clock.wall())
    longer.look()
    assert not longer.alerts()  # 200 rows came, of which 60 were counted in this window
    longer.look(2 * HOUR)
    longer.look()
    assert "quality:baseline:volume" in longer.alerts("firing")


@pytest.mark.slow
def test_predictions_of_long_ago_say_nothing_of_volume(store: Store, clock: ManualClock, tmp_path: Path) -> None:
    world = World(store, clock, tmp_path, MonitorPlan(quality=QualityPlan(min_rows=100)))
    world.publish(world.register())
    world.send(150)
    world.look()
    world.send(3, at=START - 30 * HOUR)
    world.look()
    world.next_window()
    assert not world.alerts()


def test_when_nothing_can_be_read_it_is_an_alert(world: World) -> None:
    world.add(*(world.event(b"\xff{", b"") for _ in range(80)))
    world.look()
    assert "80 of 80 rows could not be read" in world.service.get("churn").note
    world.next_window()
    (report,) = world.reports()
    assert "80 more cannot be read" in report.note
    assert "quality:baseline:wrong_type" in world.alerts("firing")
    world.send(300)
    world.next_window()
    assert "quality:baseline:wrong_type" in world.alerts("resolved")


def test_a_monitor_at_which_nobody_looks_says_so(world: World) -> None:
    world.look()
    assert not world.service.get("churn").note
    world.clock.advance(HOUR)
    assert "nobody has looked for 60 minutes" in world.service.get("churn").note


def test_an_alert_ends_with_what_it_is_about(world: World) -> None:
    """A version without a reference has no windows that could be right."""
    world.send(400, shift=15)
    world.look()
    assert DRIFT in world.alerts("firing")
    world.publish(world.register(None))
    world.look()
    assert "registered without a reference profile" in world.alerts("resolved")[DRIFT].text


@pytest.mark.slow
def test_alerts_of_endpoints_and_bounds_that_are_gone_are_resolved(
    store: Store, clock: ManualClock, tmp_path: Path
) -> None:
    bounds = {"accuracy": QualityBound(min=0.9)}
    plan = MonitorPlan(performance=PerformancePlan(bounds=bounds), quality=QualityPlan(min_rows=1000))
    world = World(store, clock, tmp_path, plan)
    world.publish(world.register())
    world.label(world.send(400, right=0.6, shift=15))
    world.next_window()
    world.look()
    fired = {"performance:baseline:accuracy", "quality:baseline:volume", DRIFT}
    assert fired <= set(world.alerts("firing"))
    changed = MonitorPlan(
        performance=PerformancePlan(bounds={"f1": QualityBound(min=0.1)}), drift=DriftPlan(method="off")
    )
    for settings, still in (
        (
            {"churn": EndpointSettings(model="models:/churn@champion", monitor=changed)},
            set(world.alerts("firing")) - fired,
        ),
        ({"churn": EndpointSettings(model="models:/churn@champion")}, set()),
    ):
        world.service.leave()
        world.settings = msgspec.structs.replace(world.settings, endpoints=settings)
        world.service = world.another("later")
        world.service.tick()
        assert set(world.alerts("firing")) == still


@pytest.mark.slow
def test_labels_are_read_once_and_none_is_missed(world: World) -> None:
    ids = world.send(400)
    world.next_window()
    world.label(ids[:200])
    world.look()
    first = world.state.labels
    assert first < world.clock.wall()
    with world.store.begin() as unit:  # under way for a minute
        late = world.clock.wall() - 60
        unit.feedback.add([Feedback(metric="accuracy", request_id=ids[300], label="1", time=late, received=late)])
    world.look()
    found = [one for one in world.service.performance("churn", 0, 1e12) if one.basis == "prediction"]
    assert [one.labels for one in found] == [201]
    world.look(300)
    world.look(300)
    with world.store.read() as unit:
        assert not list(unit.feedback.times("churn", "accuracy", world.state.labels))


def test_two_that_begin_at_the_same_moment_count_once(world: World) -> None:
    world.send(100)
    row = MonitorRow("churn", 1, START, write_state(MonitorState(revision=1)))
    with world.store.begin() as unit:
        unit.monitors.add(row)
    with pytest.raises(LostRace), world.store.begin() as unit:
        unit.monitors.add(row)


def test_a_look_that_takes_long_keeps_its_lease(store: Store, tmp_path: Path) -> None:
    """The lease lasts ten seconds, reading and measuring six each."""
    world = World(store, Hurried(START + 60, 6.0), tmp_path)
    world.publish(world.register())
    world.label(world.send(100))
    world.service.tick()
    (found,) = world.service.performance("churn", 0, 1e12)
    assert found.labels == 100


@pytest.mark.slow
def test_what_a_variant_that_is_gone_was_like_is_no_news(world: World) -> None:
    """Its last window ends after it, and labels come later still."""
    second = world.register(metrics='{"accuracy": {"value": 0.95}}')
    world.publish("1", Variant("candidate", ModelRef("models:/churn", "churn", second), 1000))
    ids = world.send(400, variant="candidate", version=second, shift=30, right=0.5)
    world.publish(second)
    world.next_window()
    world.label(ids)
    world.look()
    assert [(one.variant, one.drifted) for one in world.reports()] == [("candidate", True)]
    assert world.service.performance("churn", 0, 1e12)
    assert not world.alerts()
    assert not world.jobs()
