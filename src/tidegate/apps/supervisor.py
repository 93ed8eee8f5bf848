"""Several serving processes behind one socket: starts them, replaces dead ones, carries changes to all of them.

A change is prepared by every process first: only when all have loaded and warmed it are they told to commit it.

Works with fork, where children share what the parent has imported, and with spawn. It serves nothing itself, holds no
threads while it forks, and waits in one place for pipes, deaths and signals.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import msgspec

from tidegate.apps.child import BEAT_SECONDS, work
from tidegate.apps.desired import Desired
from tidegate.apps.owner import Owner, StateFile
from tidegate.errors import ConfigError, TidegateError, UserError
from tidegate.settings import Server

logger = logging.getLogger("tidegate.supervisor")

HANG_SECONDS = 30.0
"""A process whose event loop gave no sign for so long is killed and replaced; TIDEGATE_HANG_SECONDS says otherwise."""

_LONGEST_BACKOFF = 10.0

_MOST_DEATHS = 2
"""So many processes that end while they load a change make it a failed one; fewer may be a coincidence."""

_MOST_TEXT = 4096
"""Characters of an error that go through a pipe, which must never be full."""


class Worker:
    """A serving process as its supervisor sees it."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.process: Any = None
        self.pipe: Connection | None = None
        self.ready = False
        self.applied = 0
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


class Change:
    """A change on its way into every process. ``waiting``: those that have yet to prepare it, then to commit it."""

    def __init__(self, desired: Desired) -> None:
        self.desired = desired
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


class Supervisor:
    def __init__(self, owner: Owner, listening: socket.socket, clock: Callable[[], float] = time.monotonic) -> None:
        self._owner = owner
        self._listening = listening
        self._clock = clock
        server = owner.desired.loaded.settings.server
        self._workers = [Worker(index) for index in range(server.workers)]
        self._shutdown_seconds = server.drain_seconds + server.shutdown_seconds + 5.0
        self._watch = server.watch
        self._hang_seconds = _hang_seconds(os.environ)
        self._context = _context(os.environ)
        self._folder = tempfile.TemporaryDirectory(prefix="tidegate-metrics-")
        self._grpc = _reserved(server)
        self._signals, self._wakeup = os.pipe()
        self._stops = 0
        self._reload = False
        self._change: Change | None = None
        self._last = owner.desired.number
        """The highest number given to a change, also to one that failed."""
        self._files: dict[int, Path] = {}
        self._asker: Worker | None = None
        self._state = StateFile(listening.getsockname()[1])
        self._next_look = 0.0
        self._started = False

    def run(self) -> int:
        """The exit code: 0 after an orderly stop, 2 when the first start failed."""
        self._install_signals()
        with self._folder:
            try:
                return self._loop()
            finally:
                self._state.remove()

    def _loop(self) -> int:
        while True:
            now = self._clock()
            for worker in self._workers:
                if worker.process is None and now >= worker.start_at and not self._stops:
                    self._start(worker)
            self._handle(wait(self._waited_for(), timeout=0.25))
            failed = self._bury_dead()
            if failed:
                self._stop_all()
                print(f"error: {failed}", file=sys.stderr)  # noqa: T201
                return 2
            if self._stops:
                return self._stop_all()
            self._kill_hung()
            self._keep_current()

    def _start(self, worker: Worker) -> None:
        ours, theirs = self._context.Pipe()
        worker.ready, worker.error, worker.applied, worker.asked, worker.reads = False, "", 0, 0, False
        worker.pipe, worker.beat = ours, self._clock()
        worker.process = self._context.Process(
            target=work,
            args=(
                self._owner.desired,
                self._listening,
                theirs,
                worker.index,
                self._folder.name,
                self._grpc.getsockname()[1] if self._grpc is not None else 0,
                not self._started,
            ),
            name=f"tidegate-worker-{worker.index}",
        )
        worker.process.start()
        theirs.close()

    def _waited_for(self) -> list[Any]:
        waited: list[Any] = [self._signals]
        for worker in self._workers:
            if worker.alive and worker.pipe is not None:
                waited += [worker.pipe, worker.process.sentinel]
        return waited

    def _handle(self, happened: list[Any]) -> None:
        if self._signals in happened:
            os.read(self._signals, 64)
        for worker in self._workers:
            if worker.pipe is None or worker.pipe not in happened:
                continue
            with contextlib.suppress(EOFError, OSError):
                while worker.pipe.poll():
                    self._receive(worker, *worker.pipe.recv())

    def _receive(self, worker: Worker, kind: str, *values: Any) -> None:
        worker.beat = self._clock()
        if kind == "ready":
            worker.ready, worker.failures, worker.applied = True, 0, values[0]
            self._catch_up(worker)
            self._announce()
        elif kind == "failed":
            worker.error = values[0]
        elif kind in ("prepared", "refused"):
            self._answered(worker, *values)
        elif kind == "applied":
            worker.applied = values[0]
            change = self._change
            if change is not None and change.committed and worker.applied == change.desired.number:
                change.waiting.discard(worker)
            self._advance()
        elif kind == "ask":
            self._operate(worker, *values)

    def _answered(self, worker: Worker, number: int, error: str = "") -> None:
        """It has prepared what has this number, or could not."""
        change = self._change
        worker.reads = worker.reads and number != worker.asked
        if change is not None and not change.committed and number == change.desired.number:
            change.waiting.discard(worker)
            if error:
                change.error = change.error or error
            else:
                change.prepared.add(worker)
            self._advance()
        elif number == self._owner.desired.number and worker.asked == number:
            if error:
                logger.error(
                    "serving process %d cannot catch up with snapshot %d: %s",
                    worker.index, number, error, extra={"worker": worker.index},
                )  # fmt: skip
            else:
                _send(worker, "commit", number)
        self._forget_files()

    def _catch_up(self, worker: Worker) -> None:
        """What came while this process was starting, it has yet to apply; it takes part in what is being prepared."""
        change = self._change
        if change is not None and not change.committed:
            change.waiting.add(worker)
            wanted = change.desired
        else:
            wanted = self._owner.desired
            if worker.applied >= wanted.number or worker.asked == wanted.number:
                return
        try:
            self._prepare(worker, wanted)
        except UserError as error:
            self._answered(worker, wanted.number, str(error))

    def _announce(self) -> None:
        if not self._started and all(worker.ready for worker in self._workers):
            self._started = True
            for worker in self._workers:
                _send(worker, "all ready", None)
            self._state.write(self._owner.desired.number)
            logger.info("ready with %d serving processes", len(self._workers))

    def _operate(self, worker: Worker, operation: str, endpoint: str) -> None:
        if self._change is not None:
            _send(worker, "answer", ("", "another change is being applied; try again"))
            return
        try:
            self._asker = worker
            self._begin(self._owner.operated(operation, endpoint))
        except TidegateError as error:
            self._asker = None
            _send(worker, "answer", (type(error).__name__, str(error)[:_MOST_TEXT]))

    def _keep_current(self) -> None:
        """Reloads when told to, or when a watched file has changed."""
        now = self._clock()
        look = self._watch and now >= self._next_look
        if look:
            self._next_look = now + 1.0
        if self._change is None and self._started and (self._reload or (look and self._owner.changed())):
            self._reload = False
            try:
                self._begin(self._owner.reread())
            except UserError as error:
                self._report(str(error))
        self._advance()

    def _begin(self, desired: Desired) -> None:
        """Raises UserError, and changes nothing, when it cannot even be handed on."""
        self._last = max(desired.number, self._last + 1)
        change = Change(msgspec.structs.replace(desired, number=self._last))
        self._written(change.desired)
        self._change = change
        for worker in self._workers:
            if worker.ready:
                change.waiting.add(worker)
                self._prepare(worker, change.desired)

    def _prepare(self, worker: Worker, desired: Desired) -> None:
        path = self._written(desired)
        worker.asked, worker.reads = desired.number, True
        _send(worker, "prepare", desired.number, str(path))

    def _advance(self) -> None:
        """Once every living process has prepared the change, all commit it; once one could not, all discard it."""
        change = self._change
        if change is None or change.waiting:
            return
        number = change.desired.number
        if not change.committed and not change.error:
            # With nobody alive to try it, it is what the next processes start with.
            change.committed, change.waiting = True, set(change.prepared)
            self._owner.accept(change.desired)
            for worker in change.prepared:
                _send(worker, "commit", number)
            if change.waiting:
                return
        self._change = None
        if change.error:
            for worker in self._workers:
                if worker.ready and worker.asked == number:
                    worker.asked = 0
                    _send(worker, "discard", number)
        self._report(change.error)
        for worker in self._workers:
            if worker.ready:
                self._catch_up(worker)
        self._forget_files()

    def _written(self, desired: Desired) -> Path:
        """A file that holds it, so that a pipe never has to: a process that hangs does not empty its own."""
        path = self._files.get(desired.number)
        if path is not None:
            return path
        path = Path(self._folder.name) / f"desired-{desired.number}"
        try:
            path.touch(mode=0o600)
            path.write_bytes(pickle.dumps(desired))
        except OSError as error:
            path.unlink(missing_ok=True)
            raise ConfigError(f"cannot write {path}: {error.strerror}") from None
        self._files[desired.number] = path
        return path

    def _forget_files(self) -> None:
        """They may hold keys, so they stay only as long as a process has to read them."""
        needed = {worker.asked for worker in self._workers if worker.ready and worker.reads}
        for number in self._files.keys() - needed:
            self._files.pop(number).unlink(missing_ok=True)

    def _report(self, error: str) -> None:
        if error:
            logger.error("reload failed, the previous state stays in force: %s", error)
        self._state.write(self._owner.desired.number, error)
        if self._asker is not None:
            _send(self._asker, "answer", ("", error[:_MOST_TEXT]))
            self._asker = None

    def _bury_dead(self) -> str:
        """Plans replacements; the error when a process could not even start the first time."""
        for worker in self._workers:
            if worker.process is None or worker.alive:
                continue
            if worker.pipe is not None:
                with contextlib.suppress(EOFError, OSError):
                    while worker.pipe.poll():
                        self._receive(worker, *worker.pipe.recv())
                worker.pipe.close()
            code = worker.process.exitcode
            worker.process, worker.pipe, was_ready, worker.ready = None, None, worker.ready, False
            if self._change is not None:
                self._change.lost(worker)
            if self._asker is worker:
                self._asker = None
            self._forget_files()
            if self._stops:
                continue
            if not self._started and worker.error:
                return worker.error
            worker.failures = 0 if was_ready else worker.failures + 1
            backoff = 0.0 if was_ready else min(0.1 * 2**worker.failures, _LONGEST_BACKOFF)
            worker.start_at = self._clock() + backoff
            logger.error(
                "serving process %d ended (%s)%s; starting another",
                worker.index,
                f"exit code {code}" if code is not None and code >= 0 else f"signal {-(code or 0)}",
                f": {worker.error}" if worker.error else "",
                extra={"worker": worker.index},
            )
        return ""

    def _kill_hung(self) -> None:
        for worker in self._workers:
            if worker.ready and worker.alive and self._clock() - worker.beat > self._hang_seconds:
                logger.error(
                    "serving process %d gives no sign; killing it", worker.index, extra={"worker": worker.index}
                )
                worker.process.kill()

    def _stop_all(self) -> int:
        """Drains all; a second signal, or the end of the time for it, ends them at once."""
        self._stops = max(self._stops, 1)
        for worker in self._workers:
            if worker.alive:
                worker.process.terminate()
        deadline, forced = self._clock() + self._shutdown_seconds, False
        while any(worker.alive for worker in self._workers):
            if not forced and (self._stops > 1 or self._clock() > deadline):
                forced = True
                for worker in self._workers:
                    if worker.alive:
                        worker.process.kill()
            waited = [worker.process.sentinel for worker in self._workers if worker.alive]
            if self._signals in wait([*waited, self._signals], timeout=0.25):
                os.read(self._signals, 64)
        return 1 if forced else 0

    def _install_signals(self) -> None:
        def stop(*_: object) -> None:
            self._stops += 1
            os.write(self._wakeup, b"s")

        def reload(*_: object) -> None:
            self._reload = True
            os.write(self._wakeup, b"r")

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, reload)


def _send(worker: Worker, *message: Any) -> None:
    if worker.pipe is not None:
        with contextlib.suppress(OSError, ValueError):
            worker.pipe.send(message)


def _context(environment: Mapping[str, str]) -> Any:
    """Fork where it is safe: Linux, and nothing but this thread has run yet."""
    method = environment.get("TIDEGATE_START_METHOD") or ("fork" if sys.platform == "linux" else "spawn")
    try:
        return multiprocessing.get_context(method)
    except ValueError:
        known = ", ".join(multiprocessing.get_all_start_methods())
        raise ConfigError(f"TIDEGATE_START_METHOD: {method!r} is not possible here; possible: {known}") from None


def _hang_seconds(environment: Mapping[str, str]) -> float:
    given = environment.get("TIDEGATE_HANG_SECONDS", "") or HANG_SECONDS
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if seconds <= BEAT_SECONDS:
        raise ConfigError(f"TIDEGATE_HANG_SECONDS: expected seconds above {BEAT_SECONDS:g}, got {given!r}")
    return seconds


def _reserved(server: Server) -> socket.socket | None:
    """Keeps the gRPC port for the processes that will share it."""
    if server.grpc_port is None:
        return None
    from tidegate.protocols.grpc import reserve_port

    return reserve_port(server.host, server.grpc_port)
