"""One serving process that owns its own configuration, and follows the store beside its event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tidegate.apps.bridge import FIRST_LOOK_SECONDS, Bridge, import_storage, models_of
from tidegate.apps.desired import Desired
from tidegate.apps.follower import Follower, News
from tidegate.apps.owner import Owner, StateFile
from tidegate.apps.process import ServingProcess, explain
from tidegate.clock import SystemClock
from tidegate.errors import UserError

logger = logging.getLogger("tidegate.serve")

WATCH_SECONDS = 1.0
REPORT_SECONDS = 5.0


class Alone:
    """Made within the running loop. ``announce`` is called with the port and the gRPC port once it is ready."""

    def __init__(self, owner: Owner, listening: socket.socket, announce: Callable[[int, int], None]) -> None:
        self._owner = owner
        self._announce = announce
        self._loop = asyncio.get_running_loop()
        self._port: int = listening.getsockname()[1]
        self._state = StateFile(self._port)
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="tidegate-copy")
        self._bridge = Bridge(owner, self._port, aside=self._disk.submit)
        self._follower: Follower | None = None
        self._changing = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None
        self._looked = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._process = ServingProcess(
            owner.desired, listening, operate=self._operate, first=self._first, on_ready=self._ready
        )

    async def run(self) -> None:
        """Serves until told to stop. Raises the error that kept the first snapshot from loading."""
        self._process.handle_signals()
        if hasattr(signal, "SIGHUP"):
            self._loop.add_signal_handler(signal.SIGHUP, self._begin, self._reload)
        try:
            await self._process.run()
        finally:
            for task in self._tasks:
                task.cancel()
            if self._follower is not None:
                await asyncio.to_thread(self._follower.stop)
            await asyncio.to_thread(self._disk.shutdown)
            self._state.remove()

    async def _first(self) -> None:
        """Brings the best there is into force, and, before it is ready, what was published meanwhile."""
        if self._bridge.followed:
            await self._look()
        async with self._changing:
            await self._bring_best()
        await self._follow()

    async def _bring_best(self) -> None:
        while True:
            try:
                await self._process.apply(self._owner.desired)
            except Exception as error:
                refused = self._owner.desired.snapshot
                if not self._owner.fall_back(explain(error), SystemClock.wall()):
                    raise
                logger.error("snapshot %d cannot be brought into force: %s", refused, explain(error))  # noqa: TRY400
            else:
                self._in_force()
                return

    async def _look(self) -> None:
        """Waits a moment for what the store says."""
        await asyncio.to_thread(import_storage)
        self._follower = self._bridge.link.follower(self._tell)
        self._follower.start()
        try:
            await asyncio.wait_for(self._looked.wait(), FIRST_LOOK_SECONDS)
        except TimeoutError:
            logger.warning("the store has not answered within %g s; going on without it", FIRST_LOOK_SECONDS)
        self._bridge.begin()
        self._stand()

    def _ready(self, grpc_port: int) -> None:
        self._state.write(self._owner.desired.snapshot)
        self._announce(self._port, grpc_port)
        self._report()
        if self._follower is not None:
            self._begin(self._keep_reporting)
            self._begin(self._say_draining)
        if self._owner.desired.loaded.settings.server.watch:
            self._begin(self._watch)

    def _tell(self, news: News) -> None:
        """Called from the follower's thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._hear, news)

    def _hear(self, news: News) -> None:
        self._bridge.heard(news)
        if self._bridge.looked:
            self._looked.set()
        self._stand()
        if news.publication is not None and self._process.live.snapshot.number:
            self._follow_soon()

    def _follow_soon(self) -> None:
        """What is still being prepared gives way to what is newer."""
        if self._following is not None:
            self._following.cancel()
        self._following = self._begin(self._follow)

    async def _follow(self) -> None:
        async with self._changing:
            while (wanted := self._owner.to_follow()) is not None:
                await self._try(wanted)

    async def _try(self, wanted: Desired) -> None:
        try:
            await self._process.apply(wanted)
        except Exception as error:
            if not isinstance(error, UserError):
                logger.exception("snapshot %d", wanted.snapshot)
            logger.error(  # noqa: TRY400
                "snapshot %d cannot be brought into force, the one before stays: %s", wanted.snapshot, explain(error)
            )
            self._owner.refuse(wanted, explain(error), SystemClock.wall())
            self._stand()
            self._report()
        else:
            self._owner.accept(wanted)
            self._in_force()

    async def _bring(self, desired: Callable[[], Desired]) -> None:
        async with self._changing:
            wanted = desired()
            await self._process.apply(wanted)
            self._owner.accept(wanted)
            self._in_force()
        self._follow_soon()  # what was refused may fit now

    def _in_force(self) -> None:
        self._bridge.put_in_force(models_of(self._process.live.endpoints))
        self._stand()
        self._report()

    def _stand(self) -> None:
        self._process.take(self._bridge.told())

    def _report(self) -> None:
        if self._follower is not None and self._bridge.since:
            self._follower.report(self._bridge.in_force(self._process.keyring.take_used()))

    async def _operate(self, operation: str, endpoint: str) -> None:
        await self._bring(lambda: self._owner.operated(operation, endpoint))

    async def _reload(self) -> None:
        try:
            await self._bring(self._owner.reread)
        except UserError as error:
            logger.error("reload failed, the previous state stays in force: %s", error)  # noqa: TRY400
            self._state.write(self._owner.desired.snapshot, str(error))
        except Exception as error:
            logger.exception("reload failed, the previous state stays in force")
            self._state.write(self._owner.desired.snapshot, type(error).__name__)
        else:
            self._state.write(self._owner.desired.snapshot)

    async def _say_draining(self) -> None:
        """At once: nobody should wait for an instance that is leaving."""
        await self._process.stopping.wait()
        self._bridge.draining = True
        self._report()

    async def _keep_reporting(self) -> None:
        """Which keys are used; all else is told when it changes."""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            self._report()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if await asyncio.to_thread(self._owner.changed):
                await self._reload()

    def _begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        task = self._loop.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
