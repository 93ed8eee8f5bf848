"""R6 and R13: a control plane that is killed anywhere, or sleeps while another takes over, breaks nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.chaos.control_child import Case, Fault, service_in
from tests.process import until
from tests.unit.control.releases.plane import Instance
from tidegate.clock import SystemClock
from tidegate.control.registry.files import FilesRegistry
from tidegate.control.releases.release import Release
from tidegate.control.releases.service import ReleaseService
from tidegate.errors import StoreAway
from tidegate.storage.store import Store, open_store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

ROOT = Path(__file__).resolve().parent.parent.parent
MOST_POINTS = 80
"""Writes of one case; more would mean that it never ends."""
WINDOW_SECONDS = 0.05


class World:
    """A store, a registry of files with two versions, and two instances that follow and count in a thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = SystemClock()
        folder.mkdir()
        self.store: Store = open_store(f"sqlite:///{folder}/store.db", migrate=True)
        self.registry = FilesRegistry(folder / "registry")
        for version in ("1", "2"):
            (folder / "model.bin").write_text(f"version {version}")
            self.registry.register("iris", folder / "model.bin", metadata={})
        self.registry.set_alias("iris", "champion", "1")
        self.service: ReleaseService = service_in(folder, Fault(0), "world")
        self.service.bootstrap()
        self.instances = [Instance(self, f"instance-{number}") for number in range(2)]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def _live(self) -> None:
        while not self._ended.wait(WINDOW_SECONDS):
            with contextlib.suppress(StoreAway), self.store.begin(durable=False) as unit:
                newest = unit.snapshots.latest()
                for instance in self.instances:
                    instance.follow(unit, newest, self.clock.wall())
                found = [w for one in self.instances for w in one.windows(unit, {}, 40, WINDOW_SECONDS)]
                unit.windows.add(found)

    def begun(self, *states: str) -> Release:
        """A release that has come as far as one of these states, and that nobody looks at any more."""
        release = self.service.start("iris", "models:/iris/2", who="ann")

        def there() -> Release | None:
            self.service.tick()
            found = self.service.get(release.id)
            return found if found.state in states and found.in_force and not found.alias_pending else None

        found: Release = until(there, f"{states}", 60)
        self.service.stop()
        return found

    def check(self, release: str, states: tuple[str, ...]) -> None:
        """One baseline per endpoint; alias = snapshot = release state; every decision can be recomputed."""
        found = self.service.get(release)
        assert found.state in states
        assert not found.alias_pending
        with self.store.read() as unit:
            newest = unit.snapshots.latest()
            rows = unit.releases.events(release)
        assert newest is not None
        plan = newest.snapshot.endpoints["iris"]
        assert [variant.name for variant in plan.variants].count("baseline") == 1
        expected = found.candidate if found.state == "promoted" else found.baseline
        assert plan.baseline.model == expected
        assert self.registry.get("iris", "champion").version == expected.version
        assert [variant.name for variant in plan.variants].count("candidate") == 0
        assert len({row.revision for row in rows}) == len(rows)
        ends = [line for line in self.service.events(release) if line.kind in ("promoted", "rolled_back")]
        assert len({line.kind for line in ends}) == len(ends), "each decision once"
        replay = self.service.replay(release)
        assert replay.agrees, replay.findings

    def close(self) -> None:
        self._ended.set()
        self._thread.join(10)
        self.store.close()


@pytest.fixture
def runner() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.chaos.control_child", "cases"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        yield process
        process.kill()


def run(runner: subprocess.Popen[str], case: Case) -> int:
    """Exit code of the case's process: -9 when it was killed."""
    assert runner.stdin is not None
    assert runner.stdout is not None
    runner.stdin.write(msgspec.json.encode(case).decode() + "\n")
    return int(runner.stdout.readline())


CASES = {
    "promote": (("ramping",), "promote", ("promoted",)),
    "rollback": (("ramping",), "rollback", ("rolled_back",)),
    "rollback of a promotion": (("promoted",), "rollback", ("rolled_back",)),
    "the way to the promotion": (("ramping",), "", ("promoted",)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_kill_at_any_write_leaves_nothing_half_done(tmp_path: Path, runner: subprocess.Popen[str], name: str) -> None:
    """R6: before and after every commit, and around every move of the alias."""
    states, act, wanted = CASES[name]
    killed = 0
    for kill_at in range(1, MOST_POINTS):
        world = World(tmp_path / str(kill_at))
        try:
            release = world.begun(*states).id
            code = run(runner, Case(str(world.folder), release, act, kill_at, wanted))
            assert code in (0, -signal.SIGKILL)
            if code:
                killed += 1
                decided = world.service.get(release).state
                assert run(runner, Case(str(world.folder), release, act, 0, wanted)) == 0
                if decided in wanted:
                    assert world.service.get(release).state == decided, "what was decided stays decided"
            world.check(release, wanted)
        finally:
            world.close()
        if not code:
            break
    else:
        raise AssertionError(f"not through after {MOST_POINTS} writes")
    assert killed >= 4, "the case has writes"


def test_a_leader_that_slept_cannot_write_any_more(tmp_path: Path) -> None:
    """R13: SIGSTOP the leader; the other one takes over; the woken one notices and steps down."""
    world = World(tmp_path / "world")
    release = world.begun("ramping").id
    world.service.pause(release, who="ann", reason="so that it does not end meanwhile")
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for holder in ("first", "second"):
            command = [sys.executable, "-m", "tests.chaos.control_child", "lead", str(world.folder), holder]
            with (tmp_path / f"{holder}.log").open("wb") as log:
                processes[holder] = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
            if holder == "first":
                until(lambda: leads(world, "first"), "the first leads", 30)
        until(lambda: (world.folder / "second.leads").exists(), "the second runs", 30)
        assert not leads(world, "second")
        processes["first"].send_signal(signal.SIGSTOP)
        before = world.service.get(release).tick
        until(lambda: leads(world, "second"), "the second leads", 30)
        until(lambda: world.service.get(release).tick > before + 2, "the second looks", 30)
        processes["first"].send_signal(signal.SIGCONT)
        until(lambda: not leads(world, "first"), "the first has stepped down", 30)
        world.service.resume(release, who="ann")
        until(lambda: done(world.service.get(release)), "the second brings it to its end", 60)
        assert leads(world, "second")
        world.check(release, ("promoted",))
    finally:
        for process in processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
            process.kill()
            process.wait(10)
        world.close()
    assert "this control plane does not look at releases any more" in (tmp_path / "first.log").read_text()
    assert "this control plane does not look at releases any more" not in (tmp_path / "second.log").read_text()


def leads(world: World, holder: str) -> bool:
    file = world.folder / f"{holder}.leads"
    return file.exists() and file.read_text() == "True"


def done(release: Release) -> bool:
    return release.state == "promoted" and release.in_force and not release.alias_pending
