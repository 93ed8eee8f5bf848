"""Several serving processes behind one socket: starts them, replaces dead ones, carries changes to all of them.

A change is prepared by every process first: only when all have loaded and warmed it are they told to commit it. A change
of the configuration is asked for by a person; a published snapshot comes from the process that follows the store.

Works with fork, where children share what the parent has imported, and with spawn. It serves nothing itself, holds no
threads while it forks, and waits in one place for pipes, deaths and signals.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import msgspec

from tidegate.apps.bridge import Bridge, Models
from tidegate.apps.child import work
from tidegate.apps.desired import Desired, Told
from tidegate.apps.following import Following
from tidegate.apps.owner import Owner, StateFile
from tidegate.apps.process import END_SECONDS, explain
from tidegate.apps.workers import Change, Papers, Worker, hang_seconds, parent_in, process_context, reserved
from tidegate.clock import SystemClock
from tidegate.errors import ConfigError, TidegateError, UserError

logger = logging.getLogger("tidegate.supervisor")


class Supervisor:
    def __init__(self, owner: Owner, listening: socket.socket, clock: Callable[[], float] = time.monotonic) -> None:
        self._owner = owner
        self._listening = listening
        self._clock = clock
        settings = owner.desired.loaded.settings
        server = settings.server
        self._workers = [Worker(index) for index in range(server.workers)]
        self._shutdown_seconds = server.drain_seconds + server.shutdown_seconds + END_SECONDS
        self._watch = server.watch
        self._hang_seconds = hang_seconds(os.environ)
        self._context = process_context(os.environ)
        self._folder = tempfile.TemporaryDirectory(prefix="tidegate-metrics-")
        self._grpc = reserved(server)
        self._signals, self._wakeup = os.pipe()
        self._stops = 0
        self._reload = False
        self._change: Change | None = None
        self._last = owner.desired.number
        """The highest number given to a change, also to one that failed."""
        self._papers = Papers(Path(self._folder.name))
        self._asker: Worker | None = None
        port = listening.getsockname()[1]
        self._state = StateFile(port)
        self._bridge = Bridge(owner, port)
        self._following = Following(self._bridge, self._context, settings.logs, listening)
        self._next_look = 0.0
        self._started = False

    def run(self) -> int:
        """The exit code: 0 after an orderly stop, 2 when the first start failed."""
        self._install_signals()
        with self._folder:
            try:
                self._following.start(self._clock())
                for news in self._following.first_look():
                    self._bridge.heard(news)
                self._bridge.begin()
                return self._loop()
            finally:
                self._following.stop()
                self._state.remove()

    def _loop(self) -> int:
        while True:
            now = self._clock()
            self._following.start(now)
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
            self._hear()
            self._keep_current()

    def _start(self, worker: Worker) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=work,
            args=(
                self._owner.desired,
                self._listening,
                theirs,
                worker.index,
                self._folder.name,
                self._grpc.getsockname()[1] if self._grpc is not None else 0,
                not self._started,
                self._bridge.told(),
                parent_in(self._context),
            ),
            name=f"tidegate-worker-{worker.index}",
        )
        process.start()
        theirs.close()
        worker.born(process, ours, self._owner.desired, self._clock())

    def _waited_for(self) -> list[Any]:
        waited: list[Any] = [self._signals, *self._following.waited_for()]
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
            worker.ready, worker.failures, (worker.applied, worker.models) = True, 0, values
            self._catch_up(worker)
        elif kind == "failed":
            worker.error = values[0]
        elif kind in ("prepared", "refused"):
            self._answered(worker, *values)
        elif kind == "applied":
            worker.applied, worker.models = values
            change = self._change
            if change is not None and change.committed and worker.applied == change.desired.number:
                change.waiting.discard(worker)
            self._advance()
        elif kind == "ask":
            self._operate(worker, *values)
        elif kind == "beat" and values[0]:
            self._report(used=values[0])

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
                worker.send("commit", number)
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
            self._answered(worker, wanted.number, explain(error))

    def _announce(self) -> None:
        """Ready is who has what was published last in every process, unless it cannot be had."""
        if self._started or not self._everywhere() or self._change is not None or self._owner.to_follow() is not None:
            return
        self._started = True
        self._bridge.put_in_force(self._models())
        for worker in self._workers:
            worker.send("all ready", None)
        self._state.write(self._owner.desired.snapshot)
        self._report()
        logger.info("ready with %d serving processes", len(self._workers))

    def _everywhere(self) -> bool:
        """Whether every process has in force what is desired."""
        number = self._owner.desired.number
        return all(worker.ready and worker.applied >= number for worker in self._workers)

    def _models(self) -> Models:
        """Of a process that has in force what is desired."""
        number = self._owner.desired.number
        return next((worker.models for worker in self._workers if worker.ready and worker.applied == number), {})

    def _hear(self) -> None:
        """Takes in what the store says, and hands on what concerns the processes at once."""
        before = self._bridge.told()
        for news in self._following.news():
            self._bridge.heard(news)
        self._tell(before)

    def _tell(self, before: Told) -> None:
        told = self._bridge.told()
        if told == before:
            return
        try:
            path = self._papers.write("told", told)
        except ConfigError as error:
            logger.error("serving processes do not hear how it stands with the store: %s", error)  # noqa: TRY400
            return
        for worker in self._workers:
            worker.send("told", str(path))

    def _report(self, used: Mapping[str, float] | None = None) -> None:
        if self._started:
            self._following.report(self._bridge.in_force(used or {}))

    def _operate(self, worker: Worker, operation: str, endpoint: str) -> None:
        if self._change is not None:
            worker.send("answer", ("", "another change is being applied; try again"))
            return
        try:
            self._asker = worker
            self._begin(self._owner.operated(operation, endpoint))
        except TidegateError as error:
            self._asker = None
            worker.send("answer", (type(error).__name__, explain(error)))

    def _keep_current(self) -> None:
        """Reloads when told to, or when a watched file has changed; follows what was published."""
        now = self._clock()
        look = self._watch and now >= self._next_look
        if look:
            self._next_look = now + 1.0
        if self._change is None and self._started and (self._reload or (look and self._owner.changed())):
            self._reload = False
            try:
                self._begin(self._owner.reread())
            except UserError as error:
                self._say(explain(error))
        self._follow()
        self._advance()
        self._announce()

    def _follow(self) -> None:
        """Begins to bring the newest snapshot into force; one that is still being prepared gives way to it."""
        change = self._change
        ready = [worker.ready for worker in self._workers]
        if not (any(ready) if self._started else all(ready)):
            return
        if change is not None and (not change.follows or change.committed):
            return
        wanted = self._owner.to_follow()
        if wanted is None or (change is not None and change.desired.published == wanted.published):
            return
        try:
            self._begin(wanted, follows=True)
        except UserError as error:
            self._refuse(wanted, explain(error))

    def _refuse(self, desired: Desired, error: str) -> None:
        logger.error("snapshot %d cannot be brought into force, the one before stays: %s", desired.snapshot, error)
        before = self._bridge.told()
        self._owner.refuse(desired, error, SystemClock.wall())
        self._tell(before)
        self._report()

    def _begin(self, desired: Desired, *, follows: bool = False) -> None:
        """Raises UserError, and changes nothing, when it cannot even be handed on."""
        self._last = max(desired.number, self._last + 1)
        change = Change(msgspec.structs.replace(desired, number=self._last), follows=follows)
        self._papers.desired(change.desired)
        self._change = change
        for worker in self._workers:
            if worker.ready:
                change.waiting.add(worker)
                self._prepare(worker, change.desired)

    def _prepare(self, worker: Worker, desired: Desired) -> None:
        path = self._papers.desired(desired)
        worker.asked, worker.reads = desired.number, True
        worker.send("prepare", desired.number, str(path))

    def _advance(self) -> None:
        """Once every living process has prepared the change, all commit it; once one could not, all discard it."""
        change = self._change
        if change is None or change.waiting:
            return
        number = change.desired.number
        if not change.committed and not change.error:
            # With nobody alive to try it, it is what the next processes start with.
            change.committed, change.waiting = True, set(change.prepared)
            before = self._bridge.told()
            self._owner.accept(change.desired)
            self._tell(before)
            for worker in change.prepared:
                worker.send("commit", number)
            if change.waiting:
                return
        self._change = None
        if change.error:
            for worker in self._workers:
                if worker.ready and worker.asked == number:
                    worker.asked = 0
                    worker.send("discard", number)
        self._ended(change)
        for worker in self._workers:
            if worker.ready:
                self._catch_up(worker)
        self._forget_files()

    def _forget_files(self) -> None:
        """They may hold keys, so they stay only as long as a process has to read them."""
        needed = {worker.asked for worker in self._workers if worker.ready and worker.reads}
        self._papers.keep_only(needed)

    def _ended(self, change: Change) -> None:
        if not change.error:
            self._bridge.put_in_force(self._models())
            self._report()
        if not change.follows:
            self._say(change.error)
        elif change.error:
            self._refuse(change.desired, change.error)

    def _say(self, error: str) -> None:
        """To whoever asked for the change."""
        if error:
            logger.error("reload failed, the previous state stays in force: %s", error)
        self._state.write(self._owner.desired.snapshot, error)
        if self._asker is not None:
            self._asker.send("answer", ("", error))
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
            error = worker.error
            ended = worker.bury(self._clock(), again=not self._stops)
            if self._change is not None:
                self._change.lost(worker)
            if self._asker is worker:
                self._asker = None
            self._forget_files()
            if self._stops:
                continue
            if not self._started and error and not self._falls_back(worker):
                return error
            logger.error(
                "serving process %d ended (%s; starting another", worker.index, ended, extra={"worker": worker.index}
            )
        return ""

    def _falls_back(self, failed: Worker) -> bool:
        """At the start: whether there is something else to start with than the snapshot that cannot be loaded."""
        if failed.given is not self._owner.desired:
            return True  # another process has failed with it before
        refused = self._owner.desired.snapshot
        if not self._owner.fall_back(failed.error, SystemClock.wall()):
            return False
        logger.error("snapshot %d cannot be brought into force: %s", refused, failed.error)
        for worker in self._workers:
            if worker is not failed and worker.alive:
                worker.process.kill()  # it has nothing in force, or what is not wanted any more
        return True

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
        self._bridge.draining = True
        self._report()
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
