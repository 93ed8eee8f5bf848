"""Schedules: once for each period, also after a pause, a jump of the clock, or two control planes at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stores import sqlite_store
from tidegate.clock import ManualClock
from tidegate.control.jobs.queue import Queue
from tidegate.control.jobs.schedule import Schedules, next_run
from tidegate.errors import InvalidInput
from tidegate.settings import Jobs, ScheduledJob
from tidegate.storage.store import Store


class World:
    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.clock = clock
        self.queue = Queue(store, Jobs(), clock)
        self.one = Schedules(store, self.queue, clock, "one", 10.0)
        self.two = Schedules(store, self.queue, clock, "two", 10.0)

    def queued(self) -> int:
        """Ends what is queued, and says how many there were."""
        found, _ = self.queue.list(open=True)
        for job in found:
            self.queue.cancel(job.id, who="ada")
        return len(found)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    clock = ManualClock()
    store = sqlite_store(tmp_path, clock)
    made = World(store, clock)
    made.one.every("weekly report", 60.0, "report", {"endpoint": "iris"}, endpoint="iris")
    yield made
    store.close()


def test_once_for_each_period(world: World) -> None:
    world.one.tick()
    assert world.queued() == 0
    for _ in range(3):
        world.clock.advance(60)
        world.one.tick()
        world.one.tick()
        assert world.queued() == 1


def test_what_was_missed_runs_once_and_stays_in_step(world: World) -> None:
    world.clock.advance(60 * 1000 + 30)
    world.one.tick()
    world.one.tick()
    assert world.queued() == 1
    world.clock.advance(29)
    world.one.tick()
    assert world.queued() == 0
    world.clock.advance(1)
    world.one.tick()
    assert world.queued() == 1


def test_a_clock_that_was_set_back_does_not_stop_it(world: World) -> None:
    world.clock.advance(-86_400)
    world.one.tick()
    assert world.queued() == 0
    world.clock.advance(60)
    world.one.tick()
    assert world.queued() == 1


def test_of_two_control_planes_one_acts(world: World) -> None:
    world.clock.advance(60)
    world.one.tick()
    world.two.tick()
    assert world.queued() == 1
    world.one.leave()
    world.clock.advance(60)
    world.two.tick()
    assert world.queued() == 1


def test_not_while_the_one_before_is_open(world: World) -> None:
    for _ in range(3):
        world.clock.advance(60)
        world.one.tick()
    assert world.queued() == 1


def test_the_settings_are_followed_and_the_same_again_does_not_begin_anew(world: World) -> None:
    planned = {"weekly report": ScheduledJob(every="60s", kind="report", endpoint="iris", payload={"seconds": 3600})}
    world.one.follow(planned)
    world.clock.advance(40)
    world.two.follow(planned)
    world.clock.advance(20)
    world.one.tick()
    (job,), _ = world.queue.list(open=True)
    assert (job.kind, job.endpoint, job.payload) == ("report", "iris", {"seconds": 3600, "endpoint": "iris"})
    assert world.queued() == 1
    world.one.follow({"weekly report": msgspec.structs.replace(planned["weekly report"], every="10s")})
    world.clock.advance(10)
    world.one.tick()
    assert world.queued() == 1, "sooner than before, and so from now on"
    world.one.follow({})
    world.clock.advance(1000)
    world.one.tick()
    assert world.queued() == 0
    with pytest.raises(InvalidInput):
        world.one.every("too often", 0.0, "report")


@given(st.floats(0, 1e9), st.floats(1, 1e6), st.floats(0, 1e9))
def test_the_next_run_is_within_one_period(due: float, seconds: float, now: float) -> None:
    then = next_run(due, seconds, now)
    if then is not None:
        assert now < then <= now + seconds * (1 + 1e-6)
    else:
        assert now < due <= now + seconds
