"""The follower in a process of its own, for a supervisor: that one forks, so it may have no threads and must not block.

What goes to the follower is one message at a time, and only once it has said that it reads: its pipe is never full.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import msgspec

from tidegate import logs
from tidegate.apps.bridge import FIRST_LOOK_SECONDS, Bridge, import_storage
from tidegate.apps.follower import InForce, Link, News
from tidegate.apps.workers import parent_in
from tidegate.settings import Logs

logger = logging.getLogger("tidegate.bridge")

IMPORT_SECONDS = 15.0
"""Longest wait for the libraries of the store, on a machine that has much else to do."""

_ORPHAN_SECONDS = 1.0
_STOP_SECONDS = 3.0
_PAUSE_SECONDS = 1.0
_MOST_VARIANTS = 1000
"""Named in one sign of life; a larger instance does not list its versions."""


def follow(link: Link, pipe: Connection, log_settings: Logs, listening: socket.socket, parent: int) -> None:
    """The process, from its birth to its end: when told to stop, or when the supervisor is gone. ``parent``:
    ``parent_in``."""
    listening.close()  # or the port would outlive those who answer on it
    parent = parent or os.getppid()
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):  # it ends after the supervisor has told it what to say last
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    logs.configure(log_settings)
    sending = threading.Lock()

    def tell(kind: str, value: object = None) -> None:
        with sending, contextlib.suppress(OSError):
            pipe.send((kind, value))

    import_storage()
    tell("begins")
    follower = link.follower(lambda news: tell("news", news))
    follower.start()
    tell("reads")
    with contextlib.suppress(EOFError, OSError):
        while os.getppid() == parent:
            if not pipe.poll(_ORPHAN_SECONDS):
                continue
            message = pipe.recv()
            if message is None:
                break
            follower.report(message)
            tell("reads")
    follower.stop()
    logging.shutdown()
    os._exit(0)  # a call that hangs in the store's library is left behind


class Following:
    """The supervisor's side: starts the process, starts it again when it ended, never waits for it but at the start."""

    def __init__(self, bridge: Bridge, context: Any, log_settings: Logs, listening: socket.socket) -> None:
        self._bridge = bridge
        self._context = context
        self._logs = log_settings
        self._listening = listening
        self._process: Any = None
        self._pipe: Connection | None = None
        self._reads = False
        self._next: InForce | None = None
        self._given: InForce | None = None
        """What was handed over last; one that starts after it knows nothing of it."""
        self._start_at = 0.0

    def start(self, now: float) -> None:
        """Starts it if it is not running, and its pause is over. ``now``: monotonic seconds."""
        if not self._bridge.followed or self._process is not None or now < self._start_at:
            return
        ours, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=follow,
            args=(self._bridge.link, theirs, self._logs, self._listening, parent_in(self._context)),
            name="tidegate-follower",
            daemon=True,
        )
        self._process.start()
        theirs.close()
        self._pipe, self._reads, self._start_at = ours, False, now + _PAUSE_SECONDS

    def first_look(self) -> Iterator[News]:
        """What it tells until the first look at the store is over, or has taken too long."""
        patience = IMPORT_SECONDS
        with contextlib.suppress(EOFError, OSError):  # it ended; the loop starts another
            while self._pipe is not None and not self._bridge.looked and self._pipe.poll(patience):
                kind, value = self._pipe.recv()
                if kind == "begins":
                    patience = FIRST_LOOK_SECONDS
                elif kind == "reads":
                    self._reads = True
                else:
                    yield value

    def waited_for(self) -> list[Any]:
        return [] if self._process is None else [self._pipe, self._process.sentinel]

    def news(self) -> Iterator[News]:
        """What it has told since the last time."""
        if self._pipe is None:
            return
        try:
            while self._pipe.poll():
                kind, value = self._pipe.recv()
                if kind == "reads":
                    self._reads = True
                elif kind == "news":
                    yield value
        except (EOFError, OSError):
            self._lost()
        self._hand_over()

    def _lost(self) -> None:
        if self._process is None or self._process.is_alive():
            return
        logger.error("the process that follows the store ended; starting another")
        self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process, self._pipe = None, None
        waiting, self._next = self._next, self._given
        if waiting is not None:
            self.report(waiting)

    def report(self, in_force: InForce) -> None:
        """What is in force now. What was not handed over yet is replaced, but for the keys that were used."""
        if self._next is not None:
            in_force = msgspec.structs.replace(in_force, used={**self._next.used, **in_force.used})
        self._next = in_force
        self._hand_over()

    def _hand_over(self) -> None:
        if self._next is None or not self._reads or self._pipe is None:
            return
        in_force, self._next, self._reads = self._next, None, False
        self._given = in_force
        if sum(map(len, in_force.models.values())) > _MOST_VARIANTS:
            in_force = msgspec.structs.replace(in_force, models={})
        with contextlib.suppress(OSError, ValueError):
            self._pipe.send(in_force)

    def stop(self) -> None:
        """Lets it say what it was told last, for a moment."""
        if self._pipe is None or self._process is None:
            return
        with contextlib.suppress(OSError, ValueError):
            if self._next is not None:
                self._pipe.send(self._next)
            self._pipe.send(None)
        self._process.join(_STOP_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
