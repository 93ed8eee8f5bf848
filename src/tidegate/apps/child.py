"""A serving process under a supervisor: its end of the pipe. Gives signs of life, and follows what it is told, in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import signal
import socket
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tidegate import logs
from tidegate.apps.bridge import Models, models_of
from tidegate.apps.desired import Desired, Told
from tidegate.apps.process import ServingProcess, explain, leave, run_loop
from tidegate.errors import ModelError, NotFound, TidegateError
from tidegate.serving.live import Prepared

logger = logging.getLogger("tidegate.supervisor")

BEAT_SECONDS = 1.0

_MOST_ENDPOINTS = 200


def work(
    desired: Desired,
    listening: socket.socket,
    pipe: Connection,
    index: int,
    folder: str,
    grpc_port: int,
    first: bool,
    told: Told,
    parent: int,
) -> None:
    """A serving process, from its birth to its end. ``first``: the others start now, too. ``parent``: ``parent_in``."""
    parent = parent or os.getppid()
    for name in ("SIGTERM", "SIGINT"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    logs.configure(desired.loaded.settings.logs)

    async def serve() -> None:
        child = Child(desired, pipe, index, parent)
        await child.serve(listening, Path(folder), grpc_port, first, told)

    try:
        run_loop(serve)
    except Exception as error:
        with contextlib.suppress(OSError):
            pipe.send(("failed", explain(error)))
        if not isinstance(error, TidegateError):
            logger.exception("serving process %d could not go on", index)
        leave(2)
    leave(0)


class Child:
    """Made within the running loop. ``parent`` is the supervisor's process id."""

    def __init__(self, desired: Desired, pipe: Connection, index: int, parent: int) -> None:
        self._desired = desired
        self._pipe = pipe
        self._index = index
        self._parent = parent
        self._loop = asyncio.get_running_loop()
        self._told: asyncio.Queue[tuple[str, int, str]] = asyncio.Queue()
        self._answer: asyncio.Future[tuple[str, str]] | None = None
        self._asking = asyncio.Lock()
        self._preparing: asyncio.Task[None] | None = None
        self._ready: tuple[Desired, Prepared] | None = None
        self._alone = False
        self._process: ServingProcess

    async def serve(self, listening: socket.socket, folder: Path, grpc_port: int, first: bool, told: Told) -> None:
        self._process = ServingProcess(
            self._desired,
            listening,
            index=self._index,
            grpc_port=grpc_port,
            early=first,
            metrics_folder=folder,
            operate=self._operate,
            on_ready=lambda _port: self._tell("ready", self._desired.number, self._models()),
        )
        self._process.take(told)
        self._process.live.waiting = first
        self._process.handle_signals()
        try:
            self._loop.add_reader(self._pipe.fileno(), self._receive)
        except NotImplementedError:
            logger.debug("no readers on this loop; the beat looks at the pipe")
        self._loop.call_later(BEAT_SECONDS, self._beat)
        following = self._loop.create_task(self._follow())
        try:
            await self._process.run()
        finally:
            following.cancel()
            self._stop_reading()

    async def _operate(self, operation: str, endpoint: str) -> None:
        async with self._asking:  # answers carry no number: one question at a time
            self._answer = self._loop.create_future()
            self._pipe.send(("ask", operation, endpoint))
            kind, error = await self._answer
        if error:
            raise NotFound(error) if kind == NotFound.__name__ else ModelError(error)

    async def _follow(self) -> None:
        """Prepares, and then commits or discards; a newer thing to prepare takes the place of the one before."""
        while True:
            kind, number, path = await self._told.get()
            if kind == "prepare":
                if self._preparing is not None:
                    self._preparing.cancel()
                self._ready = None
                self._preparing = self._loop.create_task(self._prepare(number, path))
                continue
            if self._ready is None or self._ready[0].number != number:
                continue
            wanted, prepared = self._ready
            self._ready = None
            if kind == "discard":
                self._process.live.discard(prepared)
                continue
            try:
                self._process.commit(prepared, wanted)
            except Exception:
                logger.exception("serving process %d cannot swap; it ends", self._index, extra={"worker": self._index})
                self._process.stop()  # another one starts with what all others have in force
                return
            self._tell("applied", number, self._models())

    async def _prepare(self, number: int, path: str) -> None:
        try:
            wanted = await asyncio.to_thread(_read, path)
            prepared = await self._process.prepare(wanted)
        except Exception as error:  # noqa: BLE001 - reported to the supervisor, which tells the operator
            self._tell("refused", number, explain(error))
            return
        self._ready = wanted, prepared
        self._tell("prepared", number)

    def _models(self) -> Models:
        """Versions by endpoint and variant; not of so many that a pipe could be full."""
        endpoints = self._process.live.endpoints
        return models_of(endpoints) if len(endpoints) <= _MOST_ENDPOINTS else {}

    def _tell(self, *message: Any) -> None:
        with contextlib.suppress(OSError):  # the next beat finds out that nobody is there
            self._pipe.send(message)

    def _receive(self) -> None:
        try:
            while self._pipe.poll():
                kind, *values = self._pipe.recv()
                if kind == "all ready":
                    self._process.live.waiting = False
                elif kind == "told":
                    self._process.take(_read_told(values[0]))
                elif kind != "answer":
                    self._told.put_nowait((kind, values[0], values[1] if len(values) > 1 else ""))
                elif self._answer is not None and not self._answer.done():
                    self._answer.set_result(values[0])
        except (EOFError, OSError):
            self._end_alone()

    def _end_alone(self) -> None:
        """The supervisor is gone. Once: a second ``stop`` would not drain, and a pipe at its end is always readable."""
        if not self._alone:
            self._alone = True
            logger.error("the supervisor is gone; this serving process ends", extra={"worker": self._index})
            self._process.stop()
        self._stop_reading()

    def _stop_reading(self) -> None:
        with contextlib.suppress(NotImplementedError):
            self._loop.remove_reader(self._pipe.fileno())

    def _beat(self) -> None:
        self._receive()
        if os.getppid() != self._parent:  # killed: its ends of the pipes live on in the processes forked after this one
            self._end_alone()
            return
        self._tell("beat", self._process.keyring.take_used())
        self._loop.call_later(BEAT_SECONDS, self._beat)


def _read_told(path: str) -> Told:
    told: Told = pickle.loads(Path(path).read_bytes())  # noqa: S301 - from the supervisor's own private folder
    return told


def _read(path: str) -> Desired:
    desired: Desired = pickle.loads(Path(path).read_bytes())  # noqa: S301 - from the supervisor's own private folder
    return desired
