"""``tidegate up``: the data plane, the control plane, a worker for jobs and their supervisor on one machine, on embedded parts.

Each part is the process that a cluster would run too. One that ends is started again, later each time; the other goes on.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from tidegate import logs
from tidegate.apps.part import PARENT
from tidegate.clock import Clock, SystemClock
from tidegate.config import Loaded, sqlite_url
from tidegate.errors import ConfigError, UserError
from tidegate.settings import Settings

logger = logging.getLogger("tidegate.up")

FOLDER = "run"
DATABASE = "tidegate.db"
LOOK_SECONDS = 0.1
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
STEADY_SECONDS = 30.0
"""Who lives this long has started well: the next pause is the first again."""
USER_ERROR = 2
STOP_SECONDS = 20.0
"""Given beyond what the settings give to requests in flight."""


class Process(Protocol):
    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def send_signal(self, sig: int) -> None: ...
    def kill(self) -> None: ...
    def wait(self, timeout: float | None = None) -> int: ...


class Part(msgspec.Struct, frozen=True):
    """One of them: the arguments of ``tidegate`` that run it."""

    name: str
    arguments: tuple[str, ...]


class Keeper:
    """Keeps one part running. Pure but for ``start``; ``look`` says what is known now."""

    def __init__(self, part: Part, start: Callable[[Part], Process], clock: Clock) -> None:
        self.part = part
        self._start = start
        self._clock = clock
        self._pause = FIRST_PAUSE
        self._due = 0.0
        self._began = 0.0
        self.process: Process | None = None
        self.restarts = -1
        self.refused = False

    def look(self) -> None:
        """Starts the part if it is not running and its pause is over."""
        now = self._clock.monotonic()
        if self.process is not None:
            code = self.process.poll()
            if code is None:
                return
            if code == USER_ERROR and self.restarts == 0:
                self.refused = True  # it has said why: a busy port, a wrong setting; starting again mends neither
                return
            if now - self._began >= STEADY_SECONDS:
                self._pause = FIRST_PAUSE
            logger.error("%s ended with code %d; it starts again in %g s", self.part.name, code, self._pause)
            self.process, self._due = None, now + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        if now >= self._due:
            self.process, self._began = self._start(self.part), now
            self.restarts += 1

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


def up(loaded: Loaded, config: Path | None, folder: Path) -> int:
    """Runs until SIGTERM or SIGINT; a second one ends everything at once. Returns the exit code."""
    settings = loaded.settings
    if not settings.endpoints:
        raise ConfigError("nothing to serve: tidegate.yaml has no endpoints")
    logs.configure(settings.logs)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}; choose another with --folder") from None
    environment = {**os.environ, **defaults(settings, folder.absolute())}
    ours = {**environment, PARENT: str(os.getpid())}
    where = () if config is None else ("--config", str(config))
    parts = parts_of(settings, where)

    def start(part: Part) -> Process:
        command = [sys.executable, "-m", "tidegate", *part.arguments]
        # A session of its own: Ctrl-C reaches this process alone, which then ends the parts in order.
        return subprocess.Popen(command, env=ours, start_new_session=True)  # noqa: S603

    stopping = Stopping()
    stopping.listen()
    if "TIDEGATE_STORE__URL" in defaults(settings, folder):
        # The embedded store is made before both planes look for it; a server's may be away, which the planes wait out.
        migrate = [sys.executable, "-m", "tidegate", "store", "migrate", *where]
        if subprocess.run(migrate, env=environment, stdout=subprocess.DEVNULL, check=False).returncode:  # noqa: S603
            return USER_ERROR
    keepers = [Keeper(part, start, SystemClock()) for part in parts]
    return watch(keepers, stopping, settings.server.drain_seconds + settings.server.shutdown_seconds + STOP_SECONDS)


def parts_of(settings: Settings, where: Sequence[str]) -> tuple[Part, ...]:
    planes = Part("control plane", ("control", *where)), Part("data plane", ("serve", *where))
    return (*planes, Part("worker", ("worker", *where))) if settings.jobs.workers else planes


def defaults(settings: Settings, folder: Path) -> Mapping[str, str]:
    """Environment of the parts: the embedded store and registry, where the configuration names no other."""
    found = {}
    if not settings.store.url:
        found["TIDEGATE_STORE__URL"] = sqlite_url(folder / DATABASE)
    if not settings.store.folder:
        found["TIDEGATE_STORE__FOLDER"] = str(folder)
    if settings.registry.kind == "files" and not settings.registry.uri:
        found["TIDEGATE_REGISTRY__URI"] = str(folder / "registry")
    return found


class Stopping:
    """What the operator asked for: 0 goes on, 1 ends in order, 2 ends at once."""

    def __init__(self) -> None:
        self.asked = 0
        self._event = threading.Event()

    def listen(self) -> None:
        for name in ("SIGTERM", "SIGINT", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self.ask)

    def ask(self, *_: object) -> None:
        self.asked += 1
        self._event.set()

    def wait(self, seconds: float) -> None:
        """Until the first call of ``ask``, at most ``seconds``."""
        if self.asked:
            threading.Event().wait(seconds)
        else:
            self._event.wait(seconds)


def watch(keepers: Sequence[Keeper], stopping: Stopping, patience: float) -> int:
    while not stopping.asked:
        for keeper in keepers:
            keeper.look()
        if any(keeper.refused for keeper in keepers):
            end(keepers, stopping, patience)
            return USER_ERROR
        stopping.wait(LOOK_SECONDS)
    return end(keepers, stopping, patience)


def end(keepers: Sequence[Keeper], stopping: Stopping, patience: float) -> int:
    """Asks every part to end, and waits; kills what is left after ``patience`` seconds or at the second signal."""
    living = [keeper.process for keeper in keepers if keeper.process is not None and keeper.alive]
    for process in living:
        process.send_signal(signal.SIGTERM)
    looks = int(patience / LOOK_SECONDS)
    while looks > 0 and stopping.asked < 2 and any(process.poll() is None for process in living):
        stopping.wait(LOOK_SECONDS)
        looks -= 1
    forced = [process for process in living if process.poll() is None]
    for process in forced:
        process.kill()
        process.wait()
    return 1 if forced else 0
