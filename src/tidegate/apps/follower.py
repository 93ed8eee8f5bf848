"""Follows the store beside the serving: one thread that may block as long as it likes, and nobody waits for it.

It tells its owner what is new (``News``), and tells the store what the owner has in force (``InForce``): acknowledgements,
signs of life, the use of keys. While the store is away it tries again, and what is to be acknowledged waits.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from tidegate.clock import Clock, SystemClock
from tidegate.errors import TidegateError
from tidegate.keys import KnownKey
from tidegate.observations import Beat
from tidegate.serving.snapshots.publication import Publication
from tidegate.serving.snapshots.store import Source, StoreSource

logger = logging.getLogger("tidegate.bridge")

SLICE_SECONDS = 0.1
"""Longest wait for a notification, after which acknowledgements that came meanwhile go out."""

LOOK_SECONDS = 1.0
"""How often keys are read, and the snapshot even if nobody has notified."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 2.0
_CLOSE_SECONDS = 2.0

StoreState = Literal["following", "away"]


class News(msgspec.Struct, frozen=True):
    """What the store says; a field is None when it is as before. The first ``state`` ends the first look."""

    publication: Publication | None = None
    keys: tuple[KnownKey, ...] | None = None
    state: StoreState | None = None


class Instance(msgspec.Struct, frozen=True):
    """``name`` is the same after a restart: host and port."""

    name: str
    host: str
    port: int
    pid: int
    started: float


class InForce(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance serves. ``snapshot`` 0: what its configuration says; ``since``, ``refused_at``: epoch seconds."""

    snapshot: int = 0
    since: float = 0.0
    refused: int = 0
    refused_at: float = 0.0
    error: str = ""
    workers: int = 1
    models: Mapping[str, Mapping[str, str]] = {}
    draining: bool = False
    used: Mapping[str, float] = {}
    """Keys used since the last time that this was told, and when."""


class Link(msgspec.Struct, frozen=True):
    """What it takes to follow, also from another process."""

    url: str
    instance: Instance
    beat_seconds: float

    def follower(self, tell: Callable[[News], None]) -> Follower:
        return Follower(self._open, tell, self.instance, beat_seconds=self.beat_seconds)

    def _open(self) -> Source:
        """Raises TidegateError while the store is away."""
        return StoreSource(self.url, self.instance.name)


class Follower:
    """``open_source`` may raise TidegateError; ``tell`` is called from the follower's own thread."""

    def __init__(
        self,
        open_source: Callable[[], Source],
        tell: Callable[[News], None],
        instance: Instance,
        *,
        beat_seconds: float = 1.0,
        clock: Clock | None = None,
    ) -> None:
        self._open = open_source
        self._tell = tell
        self._instance = instance
        self._beat_seconds = beat_seconds
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tidegate-follower", daemon=True)
        self._in_force: InForce | None = None
        self._said: InForce | None = None
        """What the store knows."""
        self._used: dict[str, float] = {}
        self._acknowledged: dict[tuple[int, str], None] = {}
        self._state: StoreState | None = None
        self._number = 0
        self._keys: tuple[KnownKey, ...] | None = None
        self._next_look = self._next_beat = 0.0

    def start(self) -> None:
        self._thread.start()

    def report(self, in_force: InForce) -> None:
        """What is in force now; from any thread. The first call starts the signs of life."""
        with self._lock:
            self._used |= in_force.used
            self._in_force = msgspec.structs.replace(in_force, used={})

    def stop(self, seconds: float = _CLOSE_SECONDS) -> None:
        """Says what was reported last, if the store is there, and ends; what hangs is left behind."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            try:
                source = self._open()
                with contextlib.closing(source):
                    self._next_look = self._next_beat = 0.0
                    while True:
                        self._turn(source)
                        pause = _FIRST_PAUSE
                        if self._stopping.is_set():
                            self._send(source)
                            return
            except TidegateError as error:
                self._went_away(str(error))
            except Exception as error:
                logger.exception("following the store failed; trying again")
                self._went_away(type(error).__name__)
            self._stopping.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _turn(self, source: Source) -> None:
        """A store that can be read but not written is followed, and away: what it says still counts."""
        self._look(source, notified=self._next_look > 0.0 and source.wait(SLICE_SECONDS))
        self._send(source)
        if self._state != "following":
            if self._state == "away":
                logger.info("the store is back")
            self._state = "following"
            self._tell(News(state="following"))

    def _look(self, source: Source, notified: bool) -> None:
        now = self._clock.monotonic()
        regular = now >= self._next_look
        if not (notified or regular):
            return
        found = source.latest()
        news = News(
            publication=found if found is not None and found.number != self._number else None,
            keys=self._changed_keys(source) if regular else None,
        )
        if regular:
            self._next_look = now + LOOK_SECONDS
        if news.publication is not None:
            self._number = news.publication.number
        if news != News():
            self._tell(news)

    def _changed_keys(self, source: Source) -> tuple[KnownKey, ...] | None:
        keys = source.keys()
        if keys == self._keys:
            return None
        self._keys = keys
        return keys

    def _send(self, source: Source) -> None:
        with self._lock:
            in_force, used, self._used = self._in_force, self._used, {}
        if in_force is None:
            return
        try:
            if in_force.snapshot:
                self._acknowledge(source, in_force.snapshot, in_force.since, "")
            if in_force.refused:
                self._acknowledge(source, in_force.refused, in_force.refused_at, in_force.error)
            now = self._clock.monotonic()
            if used or in_force != self._said or now >= self._next_beat:
                source.beat(self._beat_of(in_force), used)
                self._said = in_force
                self._next_beat = now + self._beat_seconds
        except BaseException:
            with self._lock:
                self._used = used | self._used
            raise

    def _acknowledge(self, source: Source, number: int, at: float, error: str) -> None:
        """Once, in force or refused; a snapshot may be refused first, and be in force later."""
        if (number, error) in self._acknowledged:
            return
        source.acknowledge(number, at, error)
        self._acknowledged = {key: None for key in self._acknowledged if key[0] != number}
        self._acknowledged[number, error] = None
        while len(self._acknowledged) > 4:
            del self._acknowledged[next(iter(self._acknowledged))]

    def _beat_of(self, in_force: InForce) -> Beat:
        own = self._instance
        return Beat(
            instance=own.name,
            host=own.host,
            port=own.port,
            pid=own.pid,
            workers=in_force.workers,
            started=own.started,
            time=self._clock.wall(),
            snapshot=in_force.snapshot,
            refused=in_force.refused,
            error=in_force.error,
            models=in_force.models,
            draining=in_force.draining,
        )

    def _went_away(self, why: str) -> None:
        """Said once, not at every try."""
        if self._state == "away":
            return
        self._state = "away"
        logger.warning("the store is away, what is in force stays: %s", why)
        self._tell(News(state="away"))
