from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.stores import sqlite_store
from tests.unit.control.training.test_policy import alert
from tidegate.clock import ManualClock
from tidegate.control.jobs.job import Job
from tidegate.control.jobs.queue import Queue, job_of, row_of
from tidegate.control.monitoring.records import Alert
from tidegate.control.registry.files import FilesRegistry
from tidegate.control.releases.history import Entry, event_row
from tidegate.control.releases.history import row_of as release_row
from tidegate.control.releases.release import Release
from tidegate.control.training.gate import Comparison
from tidegate.control.training.result import Rows
from tidegate.control.training.retrain import RetrainService
from tidegate.control.training.retraining import Outcome, Retraining
from tidegate.errors import Conflict, InvalidInput, ModelError, NotFound
from tidegate.monitor_plan import MonitorPlan, RetrainPlan
from tidegate.observations import Feedback, PredictionEvent
from tidegate.settings import EndpointSettings, ReleaseSettings, Settings
from tidegate.storage.records import AlertEventRow, AlertRow
from tidegate.storage.store import open_store
from tidegate.types import EndpointPlan, ModelRef, RoutingSnapshot, Variant

pytestmark = pytest.mark.slow

GATE = Comparison(
    accepted=True, reason="no worse", metric="accuracy", test="bootstrap", rows=100, alpha=0.05, challenger=0.9
)
OUTCOME = Outcome(
    accepted=True, name="churn", version="4", uri="models:/churn/4", rows=Rows(read=100, train=80, test=20), gate=GATE,
    data_digest="sha256:0",
)  # fmt: skip


class Releases:
    """Keeps releases in the store, and says what it is told to say."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.error: Exception | None = None
        self.meanwhile: Callable[[], object] = lambda: None
        self.asked: list[tuple[str, str, str]] = []

    def start(self, endpoint: str, uri: str, *, who: str, reason: str = "", requested_by: str = "person") -> Release:
        if self.error is not None:
            raise self.error
        self.asked.append((endpoint, uri, requested_by))
        self.meanwhile()
        return self.add(uri.rpartition("/")[2])

    def add(self, version: str) -> Release:
        now = self.world.clock.wall()
        made = Release(
            id=f"r{len(self.asked)}-{version}", endpoint="churn", baseline=ModelRef("models:/churn/3", "churn", "3"),
            candidate=ModelRef(f"models:/churn/{version}", "churn", version), plan=ReleaseSettings(), author="t",
            created=now, changed=now,
        )  # fmt: skip
        with self.world.store.begin() as unit:
            unit.releases.add(
                release_row(made), event_row(made, Entry(kind="started", text="", who="t", state="pending"))
            )
        return made

    def get(self, id: str) -> Release:  # noqa: A002
        from tidegate.control.releases.history import release_of

        with self.world.store.read() as unit:
            row = unit.releases.get(id)
        if row is None:
            raise NotFound(id)
        return release_of(row)

    def rollback(self, id: str, *, who: str, reason: str = "") -> None:  # noqa: A002
        self.end(id, "rolled_back")

    def end(self, id: str, state: Any) -> None:  # noqa: A002
        before = self.get(id)
        after = msgspec.structs.replace(before, state=state, reason="by the evidence", revision=before.revision + 1)
        with self.world.store.begin() as unit:
            entry = Entry(kind="moved", text="", who="t", state=state)
            unit.releases.save(release_row(after), event_row(after, entry), before.revision)


class World:
    def __init__(self, folder: Path, url: str = "", **plan: Any) -> None:
        """``url``: of an empty, migrated store; a SQLite file in ``folder`` when left out."""
        self.clock = ManualClock()
        self.store = open_store(url, self.clock) if url else sqlite_store(folder, self.clock)
        given = {"config": "train.yaml", "mode": "features", **plan}
        watched = EndpointSettings(model="m", monitor=MonitorPlan(retrain=RetrainPlan(**given)))
        self.settings = Settings(endpoints={"churn": watched, "iris": EndpointSettings(model="m")})
        self.registry = FilesRegistry(folder / "registry")
        self.queue = Queue(self.store, self.settings.jobs, self.clock)
        self.releases = Releases(self)
        self.service = self.another("one")
        baseline = Variant("baseline", ModelRef("models:/churn/3", "churn", "3"))
        with self.store.begin() as unit:
            plans = {"churn": EndpointPlan("churn", (baseline,))}
            unit.snapshots.publish(RoutingSnapshot(0, plans), reason="first", author="t", at=self.clock.wall())

    def another(self, holder: str) -> RetrainService:
        releases: Any = self.releases
        return RetrainService(self.store, self.registry, self.settings, self.queue, releases, self.clock, holder)

    def start(self, **more: Any) -> Retraining:
        return self.service.start("churn", who="ada", **more)

    def job(self, retraining: Retraining, state: Any, **changes: Any) -> None:
        """What a worker does to the job."""
        with self.store.begin() as unit:
            row = unit.jobs.get(retraining.job)
            assert row is not None
            job: Job = job_of(row)
            after = msgspec.structs.replace(job, state=state, revision=job.revision + 1, **changes)
            unit.jobs.save(row_of(after, self.clock.wall()), job.revision)

    def done(self, retraining: Retraining, outcome: Outcome = OUTCOME) -> None:
        self.job(retraining, "done", result=msgspec.to_builtins(outcome))

    def tick(self, seconds: float = 6.0) -> None:
        self.clock.advance(seconds)
        self.service.tick()

    def fire(self, **changes: Any) -> Alert:
        made = alert(**changes)
        body = msgspec.json.encode(made).decode()
        row = AlertRow(made.id, made.endpoint, made.rule, made.state, made.created, made.changed, 0, body)
        with self.store.begin() as unit:
            unit.alerts.add(row, AlertEventRow(made.id, 0, made.created, made.state, "{}"))
        return made

    def one(self) -> Retraining:
        [found] = self.service.list()
        return found

    def audited(self) -> list[str]:
        with self.store.read() as unit:
            return [row.action for row in unit.audit.rows()]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


def states(retraining: Retraining) -> list[str]:
    return [event.state for event in retraining.events]


def test_the_whole_way_to_the_promotion(world: World) -> None:
    begun = world.start(reason="a new season")
    assert (begun.state, begun.trigger, begun.mode) == ("queued", "person", "features")
    world.job(begun, "running")
    world.tick()
    assert world.one().state == "training"
    world.done(begun)
    world.tick()
    world.tick()
    found = world.one()
    assert world.releases.asked == [("churn", "models:/churn/4", "training")]
    assert (found.state, found.outcome) == ("releasing", OUTCOME)
    world.releases.end(found.release, "promoted")
    world.tick()
    found = world.one()
    assert states(found) == ["queued", "training", "accepted", "releasing", "promoted"]
    assert (found.open, found.waiting) == (False, "")
    assert world.audited()[0] == "retraining.start"


@pytest.mark.parametrize(
    ("state", "end"), [("rolled_back", "rolled_back"), ("failed", "ended"), ("promoted", "promoted")]
)
def test_the_release_decides_the_end(world: World, state: str, end: str) -> None:
    world.done(world.start())
    world.tick()
    world.tick()
    world.releases.end(world.one().release, state)
    world.tick()
    assert world.one().state == end


def test_a_refusal_is_released_never(world: World) -> None:
    refused = msgspec.structs.replace(GATE, accepted=False, reason="not shown not to be worse")
    world.done(world.start(), msgspec.structs.replace(OUTCOME, accepted=False, version="", gate=refused))
    world.tick()
    world.tick()
    found = world.one()
    assert (found.state, found.events[-1].text) == ("refused", "not shown not to be worse")
    assert not world.releases.asked


def test_a_failed_job_says_why(world: World) -> None:
    world.job(world.start(), "failed", error="data: column 'age' is missing")
    world.tick()
    assert (world.one().state, world.one().events[-1].text) == ("failed", "data: column 'age' is missing")


def test_without_release_it_ends_with_the_version(tmp_path: Path) -> None:
    world = World(tmp_path, release=False)
    world.done(world.start())
    world.tick()
    assert world.one().state == "ended"
    assert "nothing is released by itself" in world.one().events[-1].text
    world.store.close()


def test_another_release_is_waited_for(world: World) -> None:
    world.done(world.start())
    world.releases.error = Conflict("release r9 is open on churn; end it first, or wait for it")
    world.tick()
    world.tick()
    revision = world.one().revision
    world.tick()
    assert (world.one().state, world.one().revision) == ("accepted", revision), "said once"
    assert "r9 is open" in world.one().waiting
    world.releases.error = None
    world.tick()
    assert world.one().state == "releasing"


def test_while_it_waited_another_version_came_to_serve(world: World) -> None:
    """What it was compared with is over: nobody knows whether it is as good as what serves now."""
    gate = msgspec.structs.replace(GATE, champion=0.9, champion_version="3")
    world.done(world.start(), msgspec.structs.replace(OUTCOME, gate=gate))
    world.releases.error = Conflict("release r9 is open on churn; end it first, or wait for it")
    world.tick()
    world.tick()
    assert world.one().state == "accepted"
    world.releases.error = None
    baseline = Variant("baseline", ModelRef("models:/churn/5", "churn", "5"))
    with world.store.begin() as unit:
        plans = {"churn": EndpointPlan("churn", (baseline,))}
        unit.snapshots.publish(RoutingSnapshot(0, plans), reason="r9", author="t", at=world.clock.wall())
    world.tick()
    assert world.one().state == "ended"
    assert "compared with version 3, but version 5 serves now" in world.one().events[-1].text
    assert not world.releases.asked


def test_what_cannot_be_released_ends(world: World) -> None:
    world.done(world.start())
    world.releases.error = ModelError("the files are gone")
    world.tick()
    world.tick()
    assert (world.one().state, world.one().events[-1].text) == (
        "ended", "version 4 cannot be released: the files are gone",
    )  # fmt: skip


def test_killed_between_the_release_and_its_record_there_is_one_release(world: World) -> None:
    """The release had begun when the process was killed; the next one finds it instead of beginning another."""
    world.done(world.start())
    world.tick()
    assert world.one().state == "accepted"
    made = world.releases.add("4")
    world.clock.advance(60)  # the lease of the one that was killed runs out
    world.another("two").tick()
    assert (world.one().state, world.one().release) == ("releasing", made.id)
    assert not world.releases.asked


def test_a_release_of_before_is_another_ones(world: World) -> None:
    world.releases.add("4")
    world.clock.advance(1)
    world.done(world.start())
    world.tick()
    world.tick()
    assert len(world.releases.asked) == 1


def test_one_at_a_time(world: World) -> None:
    world.start()
    with pytest.raises(Conflict, match="is queued; wait for it, or cancel it"):
        world.start()


def test_an_endpoint_needs_a_plan(world: World) -> None:
    with pytest.raises(InvalidInput, match=r"set endpoints.iris.monitor.retrain"):
        world.service.start("iris", who="ada")
    with pytest.raises(NotFound, match="no endpoint 'plum'; endpoints: churn, iris"):
        world.service.start("plum", who="ada")


def test_an_alert_starts_one_and_is_in_the_chain(world: World) -> None:
    fired = world.fire()
    world.tick()
    found = world.one()
    assert (found.trigger, found.alerts, found.reports, found.author) == ("alert", (fired.id,), ("d-1",), "tidegate")
    [job] = world.queue.list(kind="retrain")[0]
    assert (job.id, job.parent) == (found.job, found.id)
    assert job.payload == {"retraining": found.id, "endpoint": "churn", "mode": "features", "config": "train.yaml"}


def test_why_nothing_starts_is_there_to_see(world: World) -> None:
    world.tick()
    [outlook] = world.service.outlook()
    assert outlook.decision is not None
    assert outlook.decision.reason == "no alert that starts it fires"
    world.fire()
    world.tick()
    world.job(world.one(), "failed")
    world.tick()
    [outlook] = world.service.outlook()
    assert outlook.decision is not None
    assert "cooldown is 6h" in outlook.decision.reason
    assert len(world.service.list()) == 1


def test_labels_are_counted_since_the_last_one(tmp_path: Path) -> None:
    world = World(tmp_path, mode="combined", min_labels=2, cooldown="1s")
    world.fire()

    def label(name: str) -> None:
        now = world.clock.wall()
        made = PredictionEvent(
            request_id=name, process="p", endpoint="churn", variant="baseline", version="3", snapshot=1, time=now
        )
        with world.store.begin() as unit:
            unit.events.add([made])
            unit.feedback.add(
                [Feedback(metric=MonitorPlan().performance.metric, request_id=name, label="1", received=now)]
            )

    label("a")
    world.tick()
    assert not world.service.list()
    [outlook] = world.service.outlook()
    assert outlook.decision is not None
    assert "1 rows were labelled, by feedback of the metric 'accuracy'; min_labels is 2" in outlook.decision.reason
    label("b")
    world.tick()
    world.job(world.one(), "failed")
    label("c")
    world.tick()
    world.tick()
    assert len(world.service.list()) == 1, "only c is new"
    world.store.close()


def test_cancelling_ends_the_job_too(world: World) -> None:
    begun = world.start()
    found = world.service.cancel(begun.id, who="ada", reason="wrong data")
    assert (found.state, found.events[-1].text) == ("ended", "cancelled by ada: wrong data")
    assert world.queue.get(begun.job).state == "cancelled"
    with pytest.raises(Conflict, match="there is nothing to cancel"):
        world.service.cancel(begun.id, who="ada")
    assert world.audited().count("retraining.cancel") == 1


def test_cancelled_while_its_release_began_the_release_goes_back(world: World) -> None:
    begun = world.start()
    world.done(begun)
    world.tick()
    world.releases.meanwhile = lambda: world.service.cancel(begun.id, who="ada")
    world.tick()
    assert world.one().state == "ended"
    assert world.releases.get("r1-4").state == "rolled_back"


def test_what_is_being_released_is_rolled_back_not_cancelled(world: World) -> None:
    begun = world.start()
    world.done(begun)
    world.tick()
    world.tick()
    with pytest.raises(Conflict, match="roll release r1-4 back instead"):
        world.service.cancel(begun.id, who="ada")


def test_of_two_control_planes_one_looks(world: World) -> None:
    world.tick()
    world.fire()
    world.clock.advance(6)
    world.another("two").tick()
    assert not world.service.list(), "the lease is the first one's"
    world.service.tick()
    assert len(world.service.list()) == 1
