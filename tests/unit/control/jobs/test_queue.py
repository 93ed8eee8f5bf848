"""The queue over a real store: what people do, what workers do, and who wins."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.stores import sqlite_store
from tidegate.clock import ManualClock
from tidegate.control.jobs.claims import Claim, Claims
from tidegate.control.jobs.job import Progress
from tidegate.control.jobs.queue import SYSTEM, Queue, save
from tidegate.errors import Conflict, InvalidInput, LeaseLost, LostRace, NotFound, QueueFull
from tidegate.settings import Jobs
from tidegate.storage.store import Store

KINDS = ("batch",)
SETTINGS = Jobs(max_open=3, lease_seconds=30.0, backoff_seconds=4.0)


class World:
    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store, self.clock = store, clock
        self.queue = Queue(store, SETTINGS, clock)
        self.one = self.worker("w1")
        self.two = self.worker("w2")

    def worker(self, name: str) -> Claims:
        return Claims(self.store, SETTINGS, self.clock, name, share=lambda: 1.0)

    def running(self) -> Claim:
        self.queue.submit("batch", {}, who="ada")
        claim = self.one.take(KINDS)
        assert claim is not None
        return claim

    def actions(self) -> list[str]:
        with self.store.read() as unit:
            return [row.action for row in unit.audit.rows()]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    clock = ManualClock()
    store = sqlite_store(tmp_path, clock)
    yield World(store, clock)
    store.close()


def test_what_is_submitted_is_run_once_and_kept(world: World) -> None:
    job = world.queue.submit("batch", {"rows": 3}, who="ada", endpoint="iris", reason="monthly")
    claim = world.one.take(KINDS)
    assert claim is not None
    assert claim.job.id == job.id
    assert world.two.take(KINDS) is None
    world.one.progress(claim, Progress(1, 3, "reading"))
    world.one.step(claim, "read", {"rows": 3})
    world.one.finish(claim, {"written": 3})
    done = world.queue.get(job.id)
    assert (done.state, done.result, done.steps) == ("done", {"written": 3}, {"read": {"rows": 3}})
    assert done.attempts[0].worker == "w1"
    assert world.actions() == ["job.submit"]


def test_too_many_are_refused_but_the_systems_own_have_room(world: World) -> None:
    for _ in range(3):
        world.queue.submit("batch", {}, who="ada")
    with pytest.raises(QueueFull, match="3 jobs wait or run already") as refused:
        world.queue.submit("batch", {}, who="ada")
    assert refused.value.retry_after > 1
    assert world.queue.submit("notify", {}, who=SYSTEM).open
    assert world.actions() == ["job.submit"] * 3


@pytest.mark.parametrize(
    ("kind", "more", "place"),
    [
        ("dance", {}, "kind"),
        ("batch", {"timeout": 0.0}, "timeout"),
        ("batch", {"timeout": float("nan")}, "timeout"),
        ("batch", {"attempts": 0}, "attempts"),
        ("batch", {"attempts": 1000}, "attempts"),
    ],
)
def test_what_nobody_could_run_is_refused(world: World, kind: str, more: dict[str, float], place: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        world.queue.submit(kind, {}, who="ada", **more)
    assert refused.value.loc == (place,)


def test_a_payload_is_bounded(world: World) -> None:
    with pytest.raises(InvalidInput, match="name a file"):
        world.queue.submit("batch", {"rows": "x" * 300_000}, who="ada")


def test_the_same_open_key_gives_the_open_job(world: World) -> None:
    job = world.queue.submit("batch", {}, who="ada", key="iris-monthly")
    assert world.queue.submit("batch", {"other": 1}, who="eve", key="iris-monthly").id == job.id
    world.queue.cancel(job.id, who="ada")
    other = world.queue.submit("batch", {}, who="ada", key="iris-monthly")
    assert other.id != job.id
    with pytest.raises(Conflict, match="open already"):
        world.queue.retry(job.id, who="ada")


def test_a_job_joins_the_transaction_of_its_cause(world: World) -> None:
    def alert() -> None:
        with world.store.begin() as unit:
            world.queue.submit_in(unit, "notify", {}, who=SYSTEM, parent="a-1")
            raise RuntimeError("the alert was not kept")

    with pytest.raises(RuntimeError):
        alert()
    assert world.queue.list() == ([], None)


def test_not_before_its_time_and_in_order(world: World) -> None:
    late = world.queue.submit("batch", {}, who="ada", run_at=world.clock.wall() + 10)
    world.clock.advance(1)
    soon = world.queue.submit("batch", {}, who="ada")
    first = world.one.take(KINDS)
    assert first is not None
    assert first.job.id == soon.id
    assert world.one.take(KINDS) is None
    world.clock.advance(10)
    second = world.one.take(KINDS)
    assert second is not None
    assert second.job.id == late.id


def test_a_clock_that_was_set_back_holds_nothing_up(world: World) -> None:
    world.queue.submit("batch", {}, who="ada")
    world.clock.advance(-3600)
    assert world.one.take(KINDS) is not None


def test_a_worker_takes_only_the_kinds_it_runs(world: World) -> None:
    world.queue.submit("batch", {}, who="ada")
    assert world.one.take(("notify",)) is None


def test_a_lost_job_goes_to_another_worker_and_the_first_cannot_write(world: World) -> None:
    claim = world.running()
    world.one.step(claim, "read", 3)
    world.clock.advance(20)
    world.one.renew(claim)
    world.clock.advance(20)
    assert world.two.take(KINDS) is None
    world.clock.advance(11)
    taken = world.two.take(KINDS)
    assert taken is not None
    assert taken.job.steps == {"read": 3}
    writes: tuple[Callable[[], object], ...] = (
        lambda: world.one.progress(claim, Progress(9, 9)),
        lambda: world.one.step(claim, "write", 1),
        lambda: world.one.finish(claim, {"from": "the dead"}),
        lambda: world.one.fail(claim, "no", again=False),
        lambda: world.one.hand_back(claim),
        lambda: world.one.renew(claim),
    )
    for write in writes:
        with pytest.raises(LeaseLost):
            write()
    assert world.two.finish(taken, {"from": "the living"}).result == {"from": "the living"}


def test_a_job_that_loses_every_worker_fails_in_the_end(world: World) -> None:
    claim = world.running()
    for _ in range(2):
        world.clock.advance(31)
        assert world.two.take(KINDS) is not None
    world.clock.advance(31)
    assert world.two.take(KINDS) is None
    job = world.queue.get(claim.job.id)
    assert (job.state, len(job.attempts)) == ("failed", 3)


def test_a_failure_is_tried_again_later(world: World) -> None:
    claim = world.running()
    world.one.fail(claim, "the store of models hung", again=True)
    assert world.one.take(KINDS) is None
    world.clock.advance(4)
    again = world.one.take(KINDS)
    assert again is not None
    assert (again.job.tries, again.job.attempts[0].error) == (2, "the store of models hung")


def test_cancel_of_a_running_job_is_seen_by_its_worker(world: World) -> None:
    claim = world.running()
    assert world.queue.cancel(claim.job.id, who="ada", reason="wrong file").cancelling
    assert world.queue.cancel(claim.job.id, who="ada", reason="wrong file").cancelling
    assert world.one.renew(claim).cancelling
    world.one.cancelled(claim)
    assert world.queue.get(claim.job.id).state == "cancelled"
    assert world.actions() == ["job.submit", "job.cancel"]
    with pytest.raises(NotFound):
        world.queue.cancel("j-none", who="ada")


def test_lists_in_pages(world: World) -> None:
    ids = []
    for _ in range(3):
        ids.append(world.queue.submit("batch", {}, who="ada", endpoint="iris").id)
        world.clock.advance(1)
    world.queue.cancel(ids[0], who="ada")
    shown, cursor = world.queue.list(limit=2)
    assert [job.id for job in shown] == ids[:0:-1]
    assert [job.id for job in world.queue.list(limit=2, cursor=cursor)[0]] == ids[:1]
    assert [job.id for job in world.queue.list(state="cancelled")[0]] == ids[:1]
    assert [job.id for job in world.queue.list(open=True)[0]] == ids[:0:-1]
    assert world.queue.list(endpoint="churn")[0] == []
    assert world.queue.counts() == {"queued": 2, "cancelled": 1}


def test_waiting_ends_with_the_job_or_its_time(world: World) -> None:
    claim = world.running()
    assert world.queue.wait(claim.job.id, 0.0).state == "running"
    ended = threading.Event()
    ended.set()
    assert world.queue.wait(claim.job.id, 60.0, stopping=ended).state == "running"
    world.one.finish(claim, {})
    assert world.queue.wait(claim.job.id, 60.0).state == "done"


def test_a_person_and_a_worker_at_the_same_time_lose_nothing(world: World) -> None:
    claim = world.running()
    before = world.queue.get(claim.job.id)
    world.one.step(claim, "read", 1)
    with world.store.begin() as unit, pytest.raises(LostRace):
        save(unit, before, before, world.clock.wall())
    assert world.queue.get(claim.job.id).steps == {"read": 1}
