"""``tidegate control``: the control plane. Builds the store, the registry, the services and the application, then looks at
releases and experiments again and again until it is told to end.

The port answers from the first moment: while the store is away, health says so, and everything else waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import uvicorn

from tidegate import __version__, logs
from tidegate.apps.connection import SILENT_SECONDS, Connection
from tidegate.apps.folders import folder_of, jobs_folder
from tidegate.apps.serve import bind
from tidegate.clock import Clock, SystemClock
from tidegate.config import Loaded
from tidegate.control.access.gate import Access
from tidegate.control.access.keys import ADMIN_FILE
from tidegate.control.aliases import AliasSteps, ChallengerSteps
from tidegate.control.api.app import make_app
from tidegate.control.api.services import Services
from tidegate.control.experiments.service import ExperimentService
from tidegate.control.figures import Figures
from tidegate.control.jobs.batches import Batches
from tidegate.control.jobs.queue import Queue
from tidegate.control.jobs.schedule import Schedules
from tidegate.control.monitoring.service import MonitorService
from tidegate.control.registry.base import open_registry
from tidegate.control.releases.service import ReleaseService
from tidegate.control.ticks import Step, Ticker
from tidegate.control.training.retrain import RetrainService
from tidegate.errors import ConfigError, StoreAway, TidegateError, UserError
from tidegate.settings import Control, Retention
from tidegate.storage.retention import purge
from tidegate.storage.store import Store, open_store

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

logger = logging.getLogger("tidegate.control")

RETRY_SECONDS = 2.0
"""Between attempts to reach a store that is away."""
CLEAN_SECONDS = 3600.0
"""Between rounds of throwing away what is too old."""
GRACE_SECONDS = 10
"""For requests in flight when told to end."""
MOST_IN_FLIGHT = 512
LOOK_TICKS = 50
"""Of uvicorn's ticks, ten a second: how often silent connections are looked for."""
CROWDED = MOST_IN_FLIGHT // 2
"""With more connections than this, one that says nothing is closed after ``CROWDED_SECONDS``, so that it takes no place
from those that do."""
CROWDED_SECONDS = 1.0


def control(loaded: Loaded) -> None:
    """Runs until SIGTERM or SIGINT; a second one ends at once. Raises UserError when it cannot start."""
    settings = loaded.settings
    if not settings.store.url:
        raise ConfigError("the control plane needs a store: set store.url, or run both planes with 'tidegate up'")
    logs.configure(settings.logs)
    logging.getLogger("alembic").setLevel(logging.WARNING)

    listening = bind(settings.control.host, settings.control.port, "control")
    clock = SystemClock()
    plane = ControlPlane(loaded, clock, lambda: open_store(settings.store.url, clock, migrate=True))
    plane.address = address_of(settings.control, listening.getsockname()[1])
    asyncio.run(_serve(plane, listening))
    if plane.error is not None:
        raise plane.error


CHORES_SECONDS = 5.0
"""Longest wait at the end for a report or a registry that hangs."""


class Front:
    """The application once it is there; until then health, and 503 for the rest."""

    def __init__(self) -> None:
        self.inner: ASGIApp | None = None
        self.waiting = "starting"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.inner is not None:
            await self.inner(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        lives = scope["path"] == "/healthz"
        body = {"status": "ok", "version": __version__} if lives else _not_ready(self.waiting)
        headers = [(b"content-type", b"application/json" if lives else b"application/problem+json")]
        headers += [] if lives else [(b"retry-after", b"2")]
        await send({"type": "http.response.start", "status": 200 if lives else 503, "headers": headers})
        await send({"type": "http.response.body", "body": msgspec.json.encode(body)})


def _not_ready(why: str) -> dict[str, object]:
    return {
        "type": "https://tidegate.dev/errors/not-ready",
        "title": "Not ready",
        "status": 503,
        "detail": why,
        "request_id": "",
    }


class ControlPlane:
    """Everything behind the port, on a thread of its own. ``opened`` connects to the store and migrates it."""

    def __init__(
        self, loaded: Loaded, clock: Clock, opened: Callable[[], Store], retry_seconds: float = RETRY_SECONDS
    ) -> None:
        self.front = Front()
        self.stopping = threading.Event()
        self.error: Exception | None = None
        """Why it ended by itself."""
        self.on_end: Callable[[], None] = lambda: None
        self.settings = loaded.settings
        self.folder = folder_of(loaded)
        self.address = ""
        self._loaded = loaded
        self._clock = clock
        self._opened = opened
        self._retry_seconds = retry_seconds
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while (store := self._reach()) is not None:
                with contextlib.closing(store):
                    try:
                        services = self._build(store)
                    except StoreAway as error:  # it went away again
                        self._wait_for_it(error)
                        continue
                    seconds = min(self.settings.control.tick_seconds, 1.0)
                    chores = Ticker(self._chores(services), self._clock, self.stopping, 1.0)
                    aside = threading.Thread(target=chores.run, name="control-chores", daemon=True)
                    aside.start()
                    # Apart from the chores: to read a day's predictions takes longer than an experiment should wait.
                    watch = Ticker([Step("monitors", 1.0, services.monitoring.tick)], self._clock, self.stopping, 1.0)
                    watching = threading.Thread(target=watch.run, name="control-monitors", daemon=True)
                    watching.start()
                    Ticker(self._steps(services), self._clock, self.stopping, seconds).run()
                    services.releases.stop()
                    aside.join(CHORES_SECONDS)
                    watching.join(CHORES_SECONDS)
                    services.experiments.leave()
                    services.schedules.leave()
                    services.retraining.leave()
                    services.monitoring.leave()
                    return
        except UserError as error:
            self.error = error
        except TidegateError as error:
            self.error = UserError(str(error))
        except Exception as error:
            logger.exception("the control plane ends: nobody foresaw this")
            self.error = error
        finally:
            self.on_end()

    def _reach(self) -> Store | None:
        """None when told to end before the store was reached."""
        while not self.stopping.is_set():
            try:
                return self._opened()
            except StoreAway as error:
                self._wait_for_it(error)
        return None

    def _wait_for_it(self, error: StoreAway) -> None:
        """Says why once, and pauses."""
        if self.front.waiting != str(error):
            logger.warning("waiting for the store: %s", error)
        self.front.waiting = str(error)
        self.stopping.wait(self._retry_seconds)

    def _build(self, store: Store) -> Services:
        settings, clock = self.settings, self._clock
        registry = open_registry(settings.registry, settings.trust, base=self._loaded.base)
        holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        releases, jobs = ReleaseService(store, registry, settings, clock, holder), Queue(store, settings.jobs, clock)
        services = Services(
            store=store,
            registry=registry,
            releases=releases,
            experiments=ExperimentService(store, registry, settings, clock, holder),
            figures=Figures(store, settings, clock),
            jobs=jobs,
            batches=Batches(store, jobs, settings.jobs, clock, jobs_folder(self._loaded)),
            schedules=Schedules(store, jobs, clock, holder, settings.control.lease_seconds),
            monitoring=MonitorService(store, registry, settings, clock, holder, base=self._loaded.base),
            retraining=RetrainService(store, registry, settings, jobs, releases, clock, holder),
            access=Access(store, settings.control, clock, self.folder),
            settings=settings,
            clock=clock,
            stopping=self.stopping,
        )
        app = make_app(services)
        key = services.access.keys.first_administrator(self.folder)
        if key is not None:
            announce_key(key, self.folder)
        self.front.inner = app
        logger.info("control API and console on %s", self.address)
        return services

    def _steps(self, services: Services) -> list[Step]:
        """On a thread of their own: a rollback waits for no report and no registry that hangs."""
        seconds = self.settings.control.tick_seconds
        return [
            Step("configuration", seconds, services.releases.bootstrap, once=True),
            Step("releases", seconds, services.releases.tick),
        ]

    def _chores(self, services: Services) -> list[Step]:
        settings = self.settings
        aliases = AliasSteps(services.store, services.registry, services.releases, settings, self._clock)
        challengers = ChallengerSteps(services.store, services.registry, services.releases, settings)
        return [
            Step("experiments", settings.control.tick_seconds, services.experiments.tick),
            Step("aliases", settings.registry.poll_seconds, aliases.look),
            Step("challengers", settings.registry.poll_seconds, challengers.look),
            Step("retrainings", settings.control.tick_seconds, services.retraining.tick),
            Step("planned jobs", 1.0, lambda: services.schedules.follow(settings.jobs.schedules), once=True),
            Step("schedules", 1.0, services.schedules.tick),
            Step("job folders", CLEAN_SECONDS, services.batches.sweep),
            Step("audit", 1.0, services.access.heads.note),
            Step(
                "retention", CLEAN_SECONDS, lambda: clean(services.store, settings.store.retention, self._clock.wall())
            ),
        ]


def clean(store: Store, retention: Retention, now: float) -> None:
    """Throws away what is too old to be asked for."""
    deleted = purge(store, retention, now)
    gone = {table: count for table, count in deleted.items() if count}
    if gone:
        logger.info("too old, deleted: %s", ", ".join(f"{count} {table}" for table, count in gone.items()))


def address_of(control: Control, port: int) -> str:
    """Where people reach it."""
    if control.url:
        return control.url
    local = control.host in ("127.0.0.1", "0.0.0.0", "::", "::1")  # noqa: S104
    return f"http://{'localhost' if local else control.host}:{port}"


def announce_key(key: str, folder: Path) -> None:
    """On standard output and not in the log: log lines travel further than a terminal."""
    sys.stdout.write(
        f"The first administrator's key, shown this once and kept in {folder / ADMIN_FILE}:\n\n  {key}\n\n"
    )
    sys.stdout.flush()


class _Uvicorn(uvicorn.Server):
    """Leaves the signals to the process, and closes connections that say nothing."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        crowded = len(self.server_state.connections) > CROWDED
        if crowded or counter % LOOK_TICKS == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.close_if_silent(now, CROWDED_SECONDS if crowded else SILENT_SECONDS)
        return await super().on_tick(counter)


async def _serve(plane: ControlPlane, listening: socket.socket) -> None:
    server = _Uvicorn(
        uvicorn.Config(
            plane.front,
            http=Connection,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            # Whose word on the caller's address counts is the operator's to say, by uvicorn's own variable.
            proxy_headers="FORWARDED_ALLOW_IPS" in os.environ,
            limit_concurrency=MOST_IN_FLIGHT,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if plane.stopping.is_set():
            logger.warning("told twice to stop: ending at once")
            os._exit(1)
        logger.info("ending")
        plane.stopping.set()
        server.should_exit = True

    def ended() -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, stop)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))

    def ended_from_thread() -> None:
        loop.call_soon_threadsafe(ended)

    plane.on_end = ended_from_thread
    plane.start()
    try:
        await server.serve(sockets=[listening])
    finally:
        plane.stopping.set()
        if not await asyncio.to_thread(plane.join, float(GRACE_SECONDS)):
            logger.warning("the last look did not end within %d s", GRACE_SECONDS)
