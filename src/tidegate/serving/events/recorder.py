"""The observations of one process on their way to the store: one thread, once a second, bounded, at least once."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tidegate.clock import Clock, SystemClock
from tidegate.errors import NotReady, Overloaded, Refused, StoreAway, UserError
from tidegate.metrics import Metrics
from tidegate.observations import Exposure, Feedback, PredictionEvent, VariantWindow
from tidegate.serving.events.base import Batch, Sink, process_name
from tidegate.serving.events.exposures import Exposures, exposure_of
from tidegate.serving.events.recording import Recording
from tidegate.serving.events.sampling import Sampled, Sampler, Samples, event_of
from tidegate.serving.events.spool import Spool, abandoned, open_spool
from tidegate.serving.store_name import store_name
from tidegate.settings import Store
from tidegate.telemetry import EVENTS_DROPPED

if TYPE_CHECKING:
    from tidegate.serving.live import Endpoint

logger = logging.getLogger("tidegate.events")

EVERY_SECONDS = 1.0
MOST_WINDOWS, MOST_EVENTS, MOST_EXPOSURES = 500, 1000, 2000
"""In one write."""
LONGEST_WAIT = 15.0
"""Seconds between two looks whether the store is back."""
TRIES = 5
"""After so many errors that nobody foresaw the records are written one by one, to find the one that cannot be."""
ADOPT_TURNS = 10
"""Turns between two looks for spools of processes that have ended."""
MOST_FEEDBACK = 32
"""Calls with feedback that may wait for the store at once."""
FEEDBACK_SECONDS = 10.0

_WINDOW_BYTES, _KIND_BYTES = 1200, 90


class Recorder:
    """``attach`` is called by the event loop, ``drain`` by the thread that ``start`` begins."""

    def __init__(
        self,
        settings: Store,
        sink: Sink,
        metrics: Metrics,
        folder: Path,
        *,
        clock: Clock | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.process = process_name()
        self._settings = settings
        self._sink = sink
        self._folder = folder
        # What was meant for another store is not written to this one.
        self._name = f"exposures-{store_name(settings.url)}"
        self._clock = clock or SystemClock()
        self._draw = draw
        self._dropped = {
            (kind, reason): metrics.counter(EVENTS_DROPPED, kind, reason)
            for kind, reason in (
                ("window", "buffer_full"), ("window", "refused"), ("event", "buffer_full"), ("event", "refused"),
                ("exposure", "spool_full"), ("exposure", "refused"),
            )
        }  # fmt: skip
        most = int(settings.buffer_mb * 2**20)
        self._most_window_bytes = most // 4
        self.samples = Samples(most - most // 4, self._dropped["event", "buffer_full"])
        self._exposures = Exposures(self._dropped["exposure", "spool_full"], self._clock.wall)
        self.recordings: list[Recording] = []
        """Of the endpoints in force, and of those that still answer for an earlier snapshot."""
        self._sequence = itertools.count(1).__next__
        self.waiting: deque[VariantWindow] = deque()
        """Windows that the store has not taken yet."""
        self._window_bytes = 0
        self._retry_at = 0.0
        self._failures = self._oddities = 0
        self._turn = 0
        self._asking = 0
        # Threads of its own: while the store hangs, models must load all the same.
        self._writers = ThreadPoolExecutor(2, thread_name_prefix="tidegate-feedback")
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def spool(self) -> Spool | None:
        return self._exposures.spool

    async def attach(self, snapshot: int, endpoints: Mapping[str, Endpoint]) -> None:
        """Gives each of the endpoints, which answer nothing yet, its recording."""
        if self._exposures.spool is None and any(e.plan.experiment for e in endpoints.values()):
            await asyncio.to_thread(self._open_spool)
        for endpoint in endpoints.values():
            own = endpoint.settings.event_sample
            rate = self._settings.event_sample if own is None else own
            sampler = Sampler(rate, self.samples, self.process, self._draw, self._clock.wall)
            now = self._clock.wall(), self._clock.monotonic()
            endpoint.recording = Recording(endpoint, snapshot, sampler, self._exposures, *now)
            self.recordings.append(endpoint.recording)

    def _open_spool(self) -> None:
        try:
            self._exposures.spool = open_spool(self._folder, self._name, int(self._settings.buffer_mb * 2**20))
        except OSError as error:
            logger.error("no spool for exposures in %s, experiments take no part: %s", self._folder, error)  # noqa: TRY400

    def start(self) -> None:
        """Call it once answers can be given: the store's libraries are loaded by the thread."""
        self._thread = threading.Thread(target=self._run, name="tidegate-events", daemon=True)
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Writes what is left, for at most ``timeout`` seconds. Exposures that the store did not take stay on disk."""
        self._stopped.set()
        self._writers.shutdown(wait=False, cancel_futures=True)
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                logger.warning("the store does not answer: what was recorded last may be lost")
                return
        spool = self._exposures.spool
        if spool is not None:
            self._exposures.spool = None
            spool.close(remove=not spool.used)
        self._sink.close()

    def _run(self) -> None:
        while not self._stopped.wait(EVERY_SECONDS):
            self._turn_once()
        self._retry_at = 0.0
        self._turn_once()
        left = len(self.waiting) + len(self.samples)
        if left:
            logger.warning("the store is away: %d windows and events are lost", left)

    def _turn_once(self) -> None:
        try:
            self.drain()
        except Exception:
            logger.exception("what was recorded could not be kept")

    def drain(self) -> bool:
        """Makes windows of what was counted since the last turn, and writes all that waits. False while the store is away."""
        self.collect()
        if self._clock.monotonic() < self._retry_at:
            return False
        try:
            while self._write_some():
                pass
            if self._turn % ADOPT_TURNS == 0:
                self._adopt()
        except Refused as error:
            self._away(error)
            return False
        if self._failures:
            logger.info("the store is back")
        self._turn += 1
        self._failures = 0
        return True

    def collect(self) -> None:
        """Makes windows of what was counted since the last time; they wait for the store, the oldest is dropped first."""
        wall, monotonic = self._clock.wall(), self._clock.monotonic()
        for recording in list(self.recordings):
            ended = recording.ended  # before its last window is taken
            for window in recording.windows(self.process, self._sequence, wall, monotonic):
                self.waiting.append(window)
                self._window_bytes += _size(window)
            if ended:
                self.recordings.remove(recording)
        while self._window_bytes > self._most_window_bytes:
            self._forget_window()
            self._dropped["window", "buffer_full"].add()

    def _forget_window(self) -> None:
        self._window_bytes -= _size(self.waiting.popleft())

    def _write_some(self) -> bool:
        """Writes the oldest of what waits; False when nothing does. Raises Refused while the store is away."""
        samples, spool = self.samples.first(MOST_EVENTS), self._exposures.spool
        records, position = ([], 0) if spool is None else spool.read(MOST_EXPOSURES)
        windows = list(itertools.islice(self.waiting, MOST_WINDOWS))
        if not (samples or records or windows):
            return False
        self._write(Batch(windows, self._events_of(samples), self._exposures_of(records)))
        for _ in windows:
            self._forget_window()
        self.samples.forget(len(samples))
        if spool is not None:
            spool.forget(position)
        return True

    def _events_of(self, samples: list[Sampled]) -> list[PredictionEvent]:
        events = []
        for sampled in samples:
            try:
                events.append(event_of(sampled))
            except Exception:
                self._dropped["event", "refused"].add()
                logger.exception("what a model was asked or answered is no text, and is dropped")
        return events

    def _exposures_of(self, records: list[bytes]) -> list[Exposure]:
        exposures = []
        for record in records:
            try:
                exposures.append(exposure_of(record))
            except msgspec.DecodeError:
                self._dropped["exposure", "refused"].add()
                logger.exception("an exposure on disk cannot be read, and is dropped")
        return exposures

    def _write(self, batch: Batch) -> None:
        if not len(batch):
            return
        try:
            self._sink.write(batch)
        except Refused:
            raise
        except UserError as error:  # no store there yet, or one that is to be migrated
            raise Refused(str(error)) from error
        except Exception as error:
            self._oddities += 1
            if self._oddities < TRIES:
                logger.exception("the store did not take what was recorded; it is tried again")
                raise Refused(type(error).__name__) from error
            self._write_alone(batch)
        self._oddities = 0

    def _write_alone(self, batch: Batch) -> None:
        """One record a time; what the store never takes is dropped, and counted."""
        alone = [
            *(("window", Batch(windows=[window])) for window in batch.windows),
            *(("event", Batch(events=[event])) for event in batch.events),
            *(("exposure", Batch(exposures=[exposure])) for exposure in batch.exposures),
        ]
        for kind, one in alone:
            try:
                self._sink.write(one)
            except Refused:
                raise
            except Exception:
                self._dropped[kind, "refused"].add()
                logger.exception("the store refused one %s, which is dropped", kind)

    def _away(self, error: Refused) -> None:
        if not self._failures:
            logger.warning("the store is away, what is recorded waits in memory: %s", error)
        self._failures += 1
        wait = min(LONGEST_WAIT, 0.5 * 2.0 ** min(self._failures, 10))
        self._retry_at = self._clock.monotonic() + wait * (0.5 + 0.5 * self._draw())

    def _adopt(self) -> None:
        """Writes what processes that have ended left behind."""
        if not self._folder.is_dir():
            return
        for spool in abandoned(self._folder, self._name):
            try:
                self._empty(spool)
            finally:
                spool.close(remove=not spool.used)

    def _empty(self, spool: Spool) -> None:
        while spool.used:
            records, position = spool.read(MOST_EXPOSURES)
            if records:
                self._write(Batch(exposures=self._exposures_of(records)))
                logger.info("wrote %d exposures that a process had left", len(records))
            spool.forget(position)

    async def feedback(self, rows: Sequence[Feedback]) -> int:
        """How many of the rows are new, once they are durable. Raises Refused while the store is away, and when it does
        not answer in time; what is written after all is known when it comes again."""
        if self._asking >= MOST_FEEDBACK:
            raise Overloaded("too much feedback waits for the store; try again later")
        writing = asyncio.get_running_loop().run_in_executor(self._writers, self._sink.feedback, rows)
        self._asking += 1
        writing.add_done_callback(self._written)
        try:
            async with asyncio.timeout(FEEDBACK_SECONDS):
                return await asyncio.shield(writing)
        except TimeoutError:
            raise StoreAway("the store does not answer", retry_after=5.0) from None
        except UserError as error:
            raise NotReady(f"feedback cannot be kept: {error}", retry_after=10.0) from error

    def _written(self, writing: asyncio.Future[int]) -> None:
        self._asking -= 1
        if not writing.cancelled():
            writing.exception()  # read, so that asyncio does not report it as lost


def _size(window: VariantWindow) -> int:
    """Bytes in memory, about."""
    return _WINDOW_BYTES + _KIND_BYTES * (len(window.latency) + len(window.outputs))
