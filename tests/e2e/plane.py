"""The control port with a seeded store, in a thread of this process: real services, a clock that stands still.

``python -m tests.e2e.plane`` serves it to look at: http://127.0.0.1:8001, and prints a key.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn

from tests.e2e import production, seed, watched
from tests.process import free_port, until
from tidegate.clock import ManualClock
from tidegate.control.access.gate import Access
from tidegate.control.api.app import make_app
from tidegate.control.api.services import Services
from tidegate.control.experiments.service import ExperimentService
from tidegate.control.figures import Figures
from tidegate.control.jobs.batches import Batches
from tidegate.control.jobs.queue import Queue
from tidegate.control.jobs.schedule import Schedules
from tidegate.control.monitoring.service import MonitorService
from tidegate.control.releases.service import ReleaseService
from tidegate.control.training.retrain import RetrainService
from tidegate.keys import KeyFacts
from tidegate.settings import Settings
from tidegate.storage.store import Store, open_store


class Plane:
    """What a test calls: where it is, a key of each role, and what is behind it."""

    def __init__(self, services: Services, port: int, keys: dict[str, str]) -> None:
        self.services = services
        self.port = port
        self.keys = keys

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def services_of(store: Store, settings: Settings, clock: ManualClock, folder: Path) -> Services:
    registry, jobs = seed.registry(), Queue(store, settings.jobs, clock)
    releases = ReleaseService(store, registry, settings, clock, "test")
    return Services(
        store=store,
        registry=registry,
        releases=releases,
        experiments=ExperimentService(store, registry, settings, clock, "test"),
        figures=Figures(store, settings, clock),
        jobs=jobs,
        batches=Batches(store, jobs, settings.jobs, clock, folder / "jobs"),
        schedules=Schedules(store, jobs, clock, "test", 10.0),
        monitoring=MonitorService(store, registry, settings, clock, "test", queue=jobs),
        retraining=RetrainService(store, registry, settings, jobs, releases, clock, "test"),
        access=Access(store, settings.control, clock, folder),
        settings=settings,
        clock=clock,
        stopping=threading.Event(),
    )


@contextmanager
def plane(
    folder: Path, *, empty: bool = False, watching: bool = False, plain: bool = False, port: int = 0
) -> Iterator[Plane]:
    """Up and answering; gone afterwards. ``watching``: with what monitoring made of two days, among them names that are markup
    unless ``plain``."""
    clock = ManualClock(seed.NOW)
    store = open_store(f"sqlite:///{folder / 'store.db'}", clock, migrate=True)
    settings = Settings() if empty else production.settings() if watching else seed.settings()
    services = services_of(store, settings, clock, folder)
    if not empty:
        seed.seed(store)
    if watching:
        production.run(store, services.registry, "discount" if plain else production.HOSTILE)
        watched.add(store)
    names = {"admin": "Ada", "operate": "Otto", "predict": "checkout service"}
    keys = {}
    for role, name in names.items():
        facts = KeyFacts(name=name, roles=(role,))  # type: ignore[arg-type]
        keys[role] = services.access.keys.create(facts, who="Ada (k3y0000000ad)", reason="for the tests").key
    services.access.heads.note()
    port = port or free_port()
    config = uvicorn.Config(
        make_app(services), host="127.0.0.1", port=port, log_level="warning", lifespan="off", ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until(lambda: server.started, "the control port")
        yield Plane(services, port, keys)
    finally:
        server.should_exit = True
        thread.join(20)
        store.close()


def main() -> None:
    with TemporaryDirectory() as folder, plane(Path(folder), watching=True, port=8001) as found:
        print(f"{found.url}/  key: {found.keys['admin']}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
