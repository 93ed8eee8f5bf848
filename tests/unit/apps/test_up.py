"""The supervisor of both planes, with processes that are objects."""

from __future__ import annotations

import signal
from pathlib import Path

import msgspec

from tidegate.apps.up import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    STEADY_SECONDS,
    Keeper,
    Part,
    Stopping,
    defaults,
    end,
    parts_of,
    watch,
)
from tidegate.clock import ManualClock
from tidegate.settings import Jobs, Registry, Settings, Store

PART = Part("data plane", ("serve",))


class Ran:
    def __init__(self, obeys: bool = True) -> None:
        self.pid = 1
        self.code: int | None = None
        self.signals: list[int] = []
        self._obeys = obeys

    def poll(self) -> int | None:
        return self.code

    def send_signal(self, sig: int) -> None:
        self.signals.append(sig)
        if self._obeys:
            self.code = 0

    def kill(self) -> None:
        self.code = -9

    def wait(self, timeout: float | None = None) -> int:
        assert self.code is not None
        return self.code


class Starter:
    def __init__(self, obeys: bool = True) -> None:
        self.made: list[Ran] = []
        self._obeys = obeys

    def __call__(self, part: Part) -> Ran:
        self.made.append(Ran(self._obeys))
        return self.made[-1]


def test_a_part_that_ends_starts_again_later_each_time() -> None:
    clock, start = ManualClock(), Starter()
    keeper = Keeper(PART, start, clock)
    keeper.look()
    pause = FIRST_PAUSE
    for life in range(1, 12):
        assert len(start.made) == life
        start.made[-1].code = 3
        keeper.look()
        clock.advance(pause * 0.99)
        keeper.look()
        assert len(start.made) == life, "too early"
        clock.advance(pause * 0.02)
        keeper.look()
        pause = min(2 * pause, LONGEST_PAUSE)
    assert keeper.restarts == 11


def test_a_part_that_ran_well_starts_again_soon() -> None:
    clock, start = ManualClock(), Starter()
    keeper = Keeper(PART, start, clock)
    for _ in range(5):
        keeper.look()
        start.made[-1].code = 3
        keeper.look()
        clock.advance(LONGEST_PAUSE)
    keeper.look()
    clock.advance(STEADY_SECONDS)
    lives = len(start.made)
    start.made[-1].code = 3
    keeper.look()
    clock.advance(FIRST_PAUSE)
    keeper.look()
    assert len(start.made) == lives + 1


def test_a_mistake_of_the_operator_ends_everything() -> None:
    start = Starter()
    keepers = [Keeper(PART, start, ManualClock()) for _ in range(2)]
    keepers[0].look()
    start.made[0].code = 2
    assert watch(keepers, Stopping(), 5.0) == 2
    assert start.made[1].signals == [signal.SIGTERM]
    assert len(start.made) == 2


def test_all_parts_are_asked_to_end() -> None:
    start, stopping = Starter(), Stopping()
    keepers = [Keeper(PART, start, ManualClock()) for _ in range(2)]
    for keeper in keepers:
        keeper.look()
    stopping.ask()
    assert watch(keepers, stopping, 5.0) == 0
    assert [ran.signals for ran in start.made] == [[signal.SIGTERM]] * 2


def test_a_second_signal_ends_at_once_what_does_not_obey() -> None:
    start, stopping = Starter(obeys=False), Stopping()
    keeper = Keeper(PART, start, ManualClock())
    keeper.look()
    stopping.ask()
    stopping.ask()
    assert end([keeper], stopping, 60.0) == 1
    assert start.made[0].code == -9


def test_what_the_configuration_names_is_kept() -> None:
    folder = Path("/data/run")
    embedded = defaults(Settings(), folder)
    assert embedded["TIDEGATE_STORE__URL"] == "sqlite:////data/run/tidegate.db"
    assert set(embedded) == {"TIDEGATE_STORE__URL", "TIDEGATE_STORE__FOLDER", "TIDEGATE_REGISTRY__URI"}
    named = msgspec.structs.replace(
        Settings(), store=Store(url="postgresql://db/tidegate", folder="kept"), registry=Registry(kind="mlflow")
    )
    assert defaults(named, folder) == {}


def test_a_worker_is_the_third_part_unless_jobs_are_off() -> None:
    assert [part.name for part in parts_of(Settings(), ())] == ["control plane", "data plane", "worker"]
    assert parts_of(Settings(), ("--config", "x"))[-1].arguments == ("worker", "--config", "x")
    assert [part.name for part in parts_of(Settings(jobs=Jobs(workers=0)), ())] == ["control plane", "data plane"]
