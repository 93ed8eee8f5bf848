"""Serving processes as their supervisor sees them, and a change on its way into all of them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import socket
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tidegate.apps.bridge import Models
from tidegate.apps.child import BEAT_SECONDS
from tidegate.apps.desired import Desired
from tidegate.errors import ConfigError
from tidegate.settings import Server

HANG_SECONDS = 30.0
"""A process whose event loop gave no sign for so long is killed and replaced; TIDEGATE_HANG_SECONDS says otherwise."""

_LONGEST_BACKOFF = 10.0

_MOST_DEATHS = 2
"""So many processes that end while they load a change make it a failed one; fewer may be a coincidence."""


class Worker:
    """A serving process as its supervisor sees it."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.process: Any = None
        self.pipe: Connection | None = None
        self.given: Desired | None = None
        """What it was started with."""
        self.ready = False
        self.applied = 0
        self.models: Models = {}
        self.asked = 0
        """Number of what it was last told to prepare."""
        self.reads = False
        """Whether it has yet to answer that."""
        self.error = ""
        self.failures = 0
        self.start_at = 0.0
        self.beat = 0.0

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.is_alive()

    def born(self, process: Any, pipe: Connection, given: Desired, now: float) -> None:
        self.process, self.pipe, self.given, self.beat = process, pipe, given, now
        self.ready, self.error, self.applied, self.asked, self.reads = False, "", 0, 0, False

    def bury(self, now: float, *, again: bool) -> str:
        """Forgets the dead process, and plans the next one if there is to be one; tells how it ended."""
        code = self.process.exitcode
        if self.pipe is not None:
            self.pipe.close()
        was_ready = self.ready
        self.process, self.pipe, self.ready = None, None, False
        if again:
            self.failures = 0 if was_ready else self.failures + 1
            self.start_at = now + (0.0 if was_ready else min(0.1 * 2**self.failures, _LONGEST_BACKOFF))
        ended = f"exit code {code}" if code is not None and code >= 0 else f"signal {-(code or 0)}"
        return f"{ended}): {self.error}" if self.error else f"{ended})"

    def send(self, *message: Any) -> None:
        if self.pipe is not None:
            with contextlib.suppress(OSError, ValueError):
                self.pipe.send(message)


class Change:
    """A change on its way into every process. ``waiting``: those that have yet to prepare it, then to commit it.

    ``follows``: it brings a published snapshot, and gives way to a newer one.
    """

    def __init__(self, desired: Desired, *, follows: bool = False) -> None:
        self.desired = desired
        self.follows = follows
        self.waiting: set[Worker] = set()
        self.prepared: set[Worker] = set()
        self.committed = False
        self.deaths = 0
        self.error = ""

    def lost(self, worker: Worker) -> None:
        """The process ended: it no longer counts, unless the change itself seems to end processes."""
        if worker in self.waiting and not self.committed:
            self.deaths += 1
        self.waiting.discard(worker)
        self.prepared.discard(worker)
        nobody = not (self.waiting or self.prepared)
        if self.deaths >= _MOST_DEATHS or (self.deaths and nobody):
            self.error = self.error or "serving processes ended while they loaded it"


class Papers:
    """Files that hand something over to processes, so that a pipe never has to: one that hangs does not empty its own.

    ``folder`` is the supervisor's own: keys may be in them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._desired: dict[int, Path] = {}

    def desired(self, desired: Desired) -> Path:
        path = self._desired.get(desired.number)
        if path is None:
            path = self._desired[desired.number] = self.write(f"desired-{desired.number}", desired)
        return path

    def keep_only(self, numbers: set[int]) -> None:
        """Removes what no process has to read any more."""
        for number in self._desired.keys() - numbers:
            self._desired.pop(number).unlink(missing_ok=True)

    def write(self, name: str, value: object) -> Path:
        """Written beside and renamed: a process may be reading what was there. Raises ConfigError."""
        path = self._folder / name
        fresh = path.with_suffix(".new")
        try:
            fresh.touch(mode=0o600)
            fresh.write_bytes(pickle.dumps(value))
            fresh.replace(path)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise ConfigError(f"cannot write {path}: {error.strerror}") from None
        return path


def process_context(environment: Mapping[str, str]) -> Any:
    """Fork where it is safe: Linux, and nothing but this thread has run yet."""
    method = environment.get("TIDEGATE_START_METHOD") or ("fork" if sys.platform == "linux" else "spawn")
    try:
        return multiprocessing.get_context(method)
    except ValueError:
        known = ", ".join(multiprocessing.get_all_start_methods())
        raise ConfigError(f"TIDEGATE_START_METHOD: {method!r} is not possible here; possible: {known}") from None


def parent_in(context: Any) -> int:
    """What ``os.getppid`` is in a process of this context while the calling one lives. Told from here: one that is born
    as its parent is killed would take whoever adopts it for the parent. 0 under a fork server, which is between the two."""
    return 0 if context.get_start_method() == "forkserver" else os.getpid()


def hang_seconds(environment: Mapping[str, str]) -> float:
    given = environment.get("TIDEGATE_HANG_SECONDS", "") or HANG_SECONDS
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if seconds <= BEAT_SECONDS:
        raise ConfigError(f"TIDEGATE_HANG_SECONDS: expected seconds above {BEAT_SECONDS:g}, got {given!r}")
    return seconds


def reserved(server: Server) -> socket.socket | None:
    """Keeps the gRPC port for the processes that will share it."""
    if server.grpc_port is None:
        return None
    from tidegate.protocols.grpc import reserve_port

    return reserve_port(server.host, server.grpc_port)
