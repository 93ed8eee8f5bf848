"""A control plane that kills itself at the n-th write, run by test_releases.py in processes of their own.

``python -m tests.chaos.control_child cases`` reads one case a line from stdin and forks a process for each, so that
imports are paid once; ``… lead`` runs one that ticks until it is stopped.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tidegate.clock import SystemClock
from tidegate.control.registry.files import FilesRegistry
from tidegate.control.releases.service import ReleaseService
from tidegate.errors import UserError
from tidegate.settings import (
    Control,
    EndpointSettings,
    ErrorsGuardrail,
    Guardrail,
    ReleaseSettings,
    Settings,
    StepPlan,
)
from tidegate.settings import Store as StoreSettings
from tidegate.storage.engines import make
from tidegate.storage.store import Store, Unit

LEASE_SECONDS = 1.0
LEADER_LEASE_SECONDS = 3.0
"""Long enough that a busy machine alone does not make a leader lose it."""
TICK_SECONDS = 0.02


class Case(msgspec.Struct, frozen=True):
    """``act`` is done first: promote, rollback, or nothing. ``kill_at``: the point of no return; 0 is none."""

    folder: str
    release: str
    act: str
    kill_at: int
    wanted: tuple[str, ...]
    """States in which the release is at its end."""


class Fault:
    """Counts the instants around each write, and ends the process at one of them, as SIGKILL does."""

    def __init__(self, kill_at: int) -> None:
        self._left = kill_at

    def point(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class FaultyStore(Store):
    def __init__(self, url: str, fault: Fault) -> None:
        super().__init__(make(url), SystemClock())
        self._fault = fault

    @contextlib.contextmanager
    def begin(self, durable: bool = True) -> Iterator[Unit]:
        with super().begin(durable) as unit:
            yield unit
            self._fault.point()  # everything is written, and nothing committed
        self._fault.point()


class FaultyRegistry(FilesRegistry):
    def __init__(self, folder: Path, fault: Fault) -> None:
        super().__init__(folder)
        self._fault = fault

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        self._fault.point()
        super().set_alias(name, alias, version)
        self._fault.point()


def settings(lease_seconds: float) -> Settings:
    plan = ReleaseSettings(
        steps=(50, 100),
        step=StepPlan(min_requests=20, min_seconds=0.1, max_seconds=60),
        guardrails=(Guardrail(errors=ErrorsGuardrail(acceptable_rate=0.3)),),
        keep_warm_seconds=600,
    )
    return Settings(
        endpoints={"iris": EndpointSettings(model="models:/iris@champion", release=plan)},
        control=Control(lease_seconds=lease_seconds),
        store=StoreSettings(dead_seconds=5),
    )


def service_in(folder: Path, fault: Fault, holder: str, lease_seconds: float = LEASE_SECONDS) -> ReleaseService:
    store = FaultyStore(f"sqlite:///{folder}/store.db", fault)
    registry = FaultyRegistry(folder / "registry", fault)
    return ReleaseService(store, registry, settings(lease_seconds), SystemClock(), holder)


def run(case: Case) -> None:
    """Acts, then looks until the release has ended and nothing is left to do."""
    service = service_in(Path(case.folder), Fault(case.kill_at), f"child-{os.getpid()}")
    pause = threading.Event()
    if case.act:
        with contextlib.suppress(UserError):  # it was done before the kill
            getattr(service, case.act)(case.release, who="ann", reason="chaos")
    while True:
        service.tick()
        release = service.get(case.release)
        if release.state in case.wanted and release.in_force and not release.alias_pending:
            return
        pause.wait(TICK_SECONDS)


def cases() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(msgspec.json.decode(line, type=Case))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def lead(folder: str, holder: str) -> None:
    service = service_in(Path(folder), Fault(0), holder, LEADER_LEASE_SECONDS)
    pause = threading.Event()
    told, fresh = Path(folder, f"{holder}.leads"), Path(folder, f"{holder}.leads.new")
    while True:
        service.tick()
        fresh.write_text(str(service.leads))
        fresh.replace(told)  # whole for whoever reads it at this instant
        pause.wait(TICK_SECONDS)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if sys.argv[1] == "cases":
        cases()
    else:
        lead(*sys.argv[2:])
