"""The worker over a real store, with tries that are objects."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.stores import sqlite_store
from tidegate.clock import ManualClock
from tidegate.control.jobs.claims import Claim, Claims
from tidegate.control.jobs.queue import Queue
from tidegate.control.jobs.worker import AWAY_SECONDS, CANCEL_SECONDS, END_SECONDS, RENEW_SECONDS, Worker
from tidegate.errors import StoreAway
from tidegate.settings import Jobs
from tidegate.storage.store import Store

SETTINGS = Jobs(lease_seconds=30.0, backoff_seconds=4.0)


class FakeTry:
    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.word: str | None = None
        self.cancelled = self.killed = False

    def ended(self) -> str | None:
        return "" if self.killed else self.word

    def cancel(self) -> None:
        self.cancelled = True

    def kill(self) -> bool:
        self.killed = True
        return True


class AwayClaims(Claims):
    """As over a store that is away while ``away`` is set."""

    away = False

    def __getattribute__(self, name: str) -> Callable[..., object]:
        if name in ("take", "renew", "fail", "cancelled", "hand_back") and self.away:
            raise StoreAway("the store is away")
        return super().__getattribute__(name)  # type: ignore[no-any-return]


class World:
    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.clock = clock
        self.queue = Queue(store, SETTINGS, clock)
        self.claims = AwayClaims(store, SETTINGS, clock, "w1", share=lambda: 1.0)
        self.other = Claims(store, SETTINGS, clock, "w2", share=lambda: 1.0)
        self.tries: list[FakeTry] = []
        self.worker = Worker(self.claims, self.start, SETTINGS, clock, ("batch", "notify"), slots=2)

    def start(self, claim: Claim) -> FakeTry:
        self.tries.append(FakeTry(claim))
        return self.tries[-1]

    def submit(self, kind: str = "batch", **more: float) -> str:
        return self.queue.submit(kind, {}, who="ada", **more).id

    def tick(self, seconds: float = 0.0) -> None:
        self.clock.advance(seconds)
        self.worker.tick()

    def killed(self) -> bool:
        return self.tries[0].killed

    def state(self, id: str) -> str:  # noqa: A002
        return self.queue.get(id).state


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    clock = ManualClock()
    store = sqlite_store(tmp_path, clock)
    yield World(store, clock)
    store.close()


def test_as_many_at_a_time_as_there_are_slots_and_light_ones_beside(world: World) -> None:
    for _ in range(3):
        world.submit()
    world.submit("notify")
    world.tick()
    assert sorted(one.claim.job.kind for one in world.tries) == ["batch", "batch", "notify"]
    first = next(one for one in world.tries if one.claim.job.kind == "batch")
    world.claims.finish(first.claim, {})
    first.word = "its process ended without a result"
    world.tick()
    assert len(world.tries) == 4
    assert world.queue.counts() == {"done": 1, "running": 3}


def test_a_crash_is_tried_again_and_says_so(world: World) -> None:
    job = world.submit()
    world.tick()
    world.tries[0].word = "its process was killed (SIGKILL): out of memory, most likely"
    world.tick()
    found = world.queue.get(job)
    assert (found.state, found.tries) == ("queued", 1)
    assert "out of memory" in found.error
    world.tick(4.0)
    assert len(world.tries) == 2


def test_signs_of_life_keep_a_long_job(world: World) -> None:
    world.submit()
    world.tick()
    for _ in range(30):
        world.tick(RENEW_SECONDS)
    assert world.other.take(("batch",)) is None
    assert not world.killed()


def test_a_try_that_takes_too_long_is_killed_and_tried_again(world: World) -> None:
    job = world.submit(timeout=60.0)
    world.tick()
    for _ in range(31):
        world.tick(RENEW_SECONDS)
    assert world.killed()
    found = world.queue.get(job)
    assert (found.state, found.error) == ("queued", "took longer than its time-out of 60 s")


def test_cancel_asks_first_and_then_kills(world: World) -> None:
    job = world.submit()
    world.tick()
    world.queue.cancel(job, who="ada")
    world.tick(RENEW_SECONDS)
    assert world.tries[0].cancelled
    assert not world.killed()
    world.tick(CANCEL_SECONDS)
    assert world.killed()
    assert world.state(job) == "cancelled"
    world.tick(RENEW_SECONDS)
    assert not world.worker.busy


def test_a_crash_of_what_is_being_cancelled_is_its_end(world: World) -> None:
    job = world.submit()
    world.tick()
    world.queue.cancel(job, who="ada")
    world.tries[0].word = "its process crashed (SIGSEGV)"
    world.tick()
    assert world.state(job) == "cancelled"


def test_what_another_worker_took_is_ended_here(world: World) -> None:
    job = world.submit()
    world.tick()
    world.clock.advance(31)
    taken = world.other.take(("batch",))
    assert taken is not None
    world.tick()
    assert world.killed()
    assert world.state(job) == "running"
    world.tick()
    assert not world.worker.busy
    world.other.finish(taken, {})
    assert world.state(job) == "done"


def test_a_child_that_has_said_its_word_may_take_a_moment_to_end(world: World) -> None:
    job = world.submit()
    world.tick()
    world.claims.finish(world.tries[0].claim, {"rows": 1})
    world.tick(RENEW_SECONDS)
    assert not world.killed()
    world.tick(END_SECONDS)
    assert world.killed()
    assert world.state(job) == "done"
    world.tick()
    assert not world.worker.busy


def test_while_the_store_is_away_jobs_run_on_and_their_ends_wait(world: World) -> None:
    job = world.submit()
    world.tick()
    world.claims.away = True
    world.tick(RENEW_SECONDS)
    assert not world.killed()
    world.tries[0].word = "its process crashed (SIGSEGV)"
    world.tick(AWAY_SECONDS)
    assert world.worker.busy
    world.claims.away = False
    world.tick(AWAY_SECONDS)
    assert world.queue.get(job).error == "its process crashed (SIGSEGV)"
    world.tick(4.0)
    assert len(world.tries) == 2


def test_at_the_end_what_runs_is_handed_back_without_counting(world: World) -> None:
    job = world.submit()
    world.tick()
    at_once = threading.Event()
    at_once.set()
    world.worker.end(at_once)
    assert world.killed()
    found = world.queue.get(job)
    assert (found.state, found.tries, found.attempts) == ("queued", 0, ())
    assert world.other.take(("batch",)) is not None


def test_what_cannot_be_started_is_tried_again(world: World) -> None:
    def no_process(claim: Claim) -> FakeTry:
        raise OSError(11, "Resource temporarily unavailable")

    worker = Worker(world.claims, no_process, SETTINGS, world.clock, ("batch",))
    job = world.submit()
    worker.tick()
    worker.tick()
    found = world.queue.get(job)
    assert (found.state, found.error) == (
        "queued",
        "its process could not be started: Resource temporarily unavailable",
    )
