"""The work-conserving batcher of a loaded version: who is let in, and when the next batch runs.

While the model is busy, requests queue; when it is free it takes what is there, in order of priority and arrival, up to
the largest batch that still meets the oldest deadline. A request that finds the model idle does not wait for company.
Limits count rows. What waits is in ``queue.py``, how a batch runs in ``runner.py``.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Executor
from time import perf_counter
from typing import NamedTuple

from tidegate.errors import DeadlineExceeded, ModelFailed, Overloaded
from tidegate.serving.cost import CostModel
from tidegate.serving.queue import SWEEP_SECONDS, Pending, Queue, Ran
from tidegate.serving.runner import Observer, Runner, rejoined
from tidegate.types import Tensors

__all__ = [
    "ALONE", "GATHER_SHARE", "INLINE_SECONDS", "OBJECTIVE_SHARE", "SWEEP_SECONDS", "Batcher", "Observer", "Pending", "Ran",
]  # fmt: skip

ALONE = 15
"""After a batch of one request, so many are run at once before the next looks again whether others can be joined."""

INLINE_SECONDS = 0.0005
"""Longest time that one batch may hold the event loop."""

GATHER_SHARE = 0.05
"""Share of a batch's run time that it may wait for callers who were answered a moment ago."""

OBJECTIVE_SHARE = 0.85
"""Share of the latency objective that an estimated wait may fill: estimates are means, objectives are for the slowest."""

_BIAS_WEIGHT = 0.05
_MOST_BIAS = 4.0


class _Running(NamedTuple):
    """A batch outside of the event loop, and when it should end by the clock."""

    batch: Sequence[Pending]
    rows: int
    until: float


class Batcher:
    """``run`` maps n rows to n rows, in ``executor`` or, while ``inline_rows`` is above 0 and a batch is quick, on the
    event loop: at first up to that many rows, then as many as have shown to take ``INLINE_SECONDS``. Whoever would wait
    longer than ``objective`` seconds is refused. Must be made and used on the event loop's thread."""

    def __init__(
        self,
        run: Callable[[Tensors], Tensors | Awaitable[Tensors]],
        *,
        loop: asyncio.AbstractEventLoop,
        executor: Executor,
        max_rows: int = 256,
        max_queue_rows: int = 4096,
        concurrency: int = 1,
        inline_rows: int = 0,
        objective: float = math.inf,
        observer: Observer | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.max_rows = max_rows
        self.max_queue_rows = max_queue_rows
        self.cost = CostModel()
        self._loop = loop
        self._concurrency = concurrency
        self._observer = observer or Observer()
        self._clock = clock
        self._queue = Queue(max_queue_rows, max_rows, self.cost)
        self._runner = Runner(
            run,
            loop=loop,
            executor=executor,
            observer=self._observer,
            clock=clock,
            learn=self._learn,
            free=self._free,
        )
        self._inline_rows = 0 if self._runner.awaits else inline_rows
        self._objective = objective * OBJECTIVE_SHARE
        self._running: dict[asyncio.Task[None], _Running] = {}
        self._wanted_rows = 0
        self._gathering: asyncio.TimerHandle | None = None
        self._longest_wait = 0.0
        self._bias = 1.0
        self._alone = 0
        self._scheduled = False
        self._sweep: asyncio.TimerHandle | None = None
        self._sweep_at = 0.0

    @property
    def queued_rows(self) -> int:
        return self._queue.rows

    @property
    def idle(self) -> bool:
        return not self._queue.rows and not self._running

    def submit(
        self,
        inputs: Tensors,
        rows: int,
        deadline: float,
        priority: int = 1,
        gone: Callable[[], bool] | None = None,
    ) -> asyncio.Future[Ran]:
        """Queues the rows. Raises QueueFull, or Overloaded when the wait would outlast the deadline."""
        now = self._clock()
        if rows > self.max_rows:
            return self._submit_parts(inputs, rows, deadline, priority, gone, now)
        expected = self._admit(rows, deadline, priority, now)
        if self._alone and self.idle and self._is_quick(rows) and now < deadline:
            self._alone -= 1
            return self._run_now(inputs, rows, deadline, now)
        return self._enqueue(Pending(inputs, rows, deadline, priority, gone, self._loop.create_future(), now), expected)

    def estimated_wait(self, rows: int, priority: int = 1) -> float:
        """Seconds until ``rows`` that came now would be answered, corrected by how such estimates turned out lately."""
        lanes = self._concurrency
        free_at = min((batch.until for batch in self._running.values()), default=0.0)
        busy = max(free_at - self._clock(), 0.0) if len(self._running) >= lanes else 0.0
        full, rest = divmod(self._queue.rows_before(priority) + rows, self.max_rows)
        batches = full * self.cost.estimate(self.max_rows) / lanes + (self.cost.estimate(rest) if rest else 0.0)
        return (busy + batches) * max(self._bias, 1.0)

    def displace(self, rows: int, priority: int) -> bool:
        """Refuses at least ``rows`` waiting rows that are less important, newest first; False when there are fewer."""
        return self._queue.displace(rows, priority)

    def _admit(self, rows: int, deadline: float, priority: int, now: float) -> float:
        """The estimated seconds until the answer."""
        queued = self._queue.rows
        if not queued and not self._running:
            return 0.0
        if queued and queued + rows > self.max_queue_rows:
            self._queue.make_room(rows, priority, now)
        if not self.cost.known:
            return 0.0
        left = min(max(deadline - now, 0.0), self._objective)
        if left > self._longest_wait:
            return 0.0
        wait = self.estimated_wait(rows, priority)
        if wait > left:
            whose = "this endpoint promises" if left == self._objective else "are left for this request"
            raise Overloaded(
                f"the wait would be about {wait * 1000:.0f} ms, longer than the {left * 1000:.0f} ms that {whose}; "
                "try again later",
                retry_after=max(wait, 0.05),
            )
        return wait

    def _run_now(self, inputs: Tensors, rows: int, deadline: float, now: float) -> asyncio.Future[Ran]:
        """Without a turn of the event loop, which would gather nobody: the last batches were of one request."""
        pending = Pending(inputs, rows, deadline, 1, None, self._loop.create_future(), now)
        pending.taken = now
        self._runner.run_inline([pending], rows)
        return pending.future

    def _enqueue(self, pending: Pending, expected: float = 0.0) -> asyncio.Future[Ran]:
        pending.expected = expected
        self._queue.add(pending)
        self._wake()
        if not self._scheduled:  # the model is busy: a long batch must not hide how many wait behind it
            self._observer.queued(self._queue.rows)
        if self._sweep is None or pending.deadline < self._sweep_at:
            self._plan_sweep(pending.entered, pending.deadline)
        return pending.future

    def _submit_parts(
        self,
        inputs: Tensors,
        rows: int,
        deadline: float,
        priority: int,
        gone: Callable[[], bool] | None,
        now: float,
    ) -> asyncio.Future[Ran]:
        """A request larger than a batch is split, and its answer joined in order."""
        self._admit(rows, deadline, priority, now)
        parts = []
        for start in range(0, rows, self.max_rows):
            part = {name: array[start : start + self.max_rows] for name, array in inputs.items()}
            future: asyncio.Future[Ran] = self._loop.create_future()
            own = min(self.max_rows, rows - start)
            parts.append(self._enqueue(Pending(part, own, deadline, priority, gone, future, now)))
        return rejoined(parts, self._loop)

    def _wake(self) -> None:
        if self._scheduled or not self._queue.rows or len(self._running) >= self._concurrency:
            return
        if self._queue.rows >= self._wanted_rows:
            self._scheduled = True
            self._loop.call_soon(self._start)
        elif self._gathering is None:
            self._gathering = self._loop.call_later(
                GATHER_SHARE * self.cost.estimate(self._wanted_rows), self._gathered
            )

    def _gathered(self) -> None:
        self._wanted_rows, self._gathering = 0, None
        self._wake()

    def _start(self) -> None:
        self._scheduled, self._wanted_rows = False, 0
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        batch = self._queue.take(self._clock())
        if batch:
            rows = sum([pending.rows for pending in batch])
            if self._is_quick(rows):
                self._alone = ALONE if len(batch) == 1 else 0
                self._runner.run_inline(batch, rows)
            else:
                task = self._loop.create_task(self._runner.run_aside(batch))
                self._running[task] = _Running(batch, rows, self._clock() + self.cost.estimate(rows))
                task.add_done_callback(self._ended)
        self._observer.queued(self._queue.rows)
        self._wake()

    def _is_quick(self, rows: int) -> bool:
        """Whether a batch may run on the event loop."""
        if not self._inline_rows:
            return False
        return self.cost.estimate(rows) <= INLINE_SECONDS if self.cost.known else rows <= self._inline_rows

    def _free(self) -> None:
        """The lane of the task that calls is free: before its callers are told, since they may ask again at once."""
        task = asyncio.current_task()
        ended = self._running.pop(task) if task is not None else None
        if ended is not None and self._queue.rows:
            # Those who are being answered are about to ask again; running without them would split the same callers
            # into two halves that wait for each other.
            self._wanted_rows = min(self._queue.rows + ended.rows, self.max_rows)

    def _ended(self, task: asyncio.Task[None]) -> None:
        given_up = self._running.pop(task, None)
        if given_up is not None:
            for pending in given_up.batch:
                pending.fail(ModelFailed("the batch was given up"))
        self._wake()

    def _learn(self, batch: Sequence[Pending], rows: int, seconds: float) -> None:
        self.cost.observe(rows, seconds)
        self._longest_wait = self.cost.estimate(self.max_rows) * (2 + self.max_queue_rows / self.max_rows) * self._bias
        if batch[0].expected:
            took = batch[0].taken + seconds - batch[0].entered
            self._bias += _BIAS_WEIGHT * (min(took / batch[0].expected * self._bias, _MOST_BIAS) - self._bias)

    def _plan_sweep(self, now: float, deadline: float) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        delay = max(deadline - now, 0.0) + 0.0005
        self._sweep_at = now + delay
        self._sweep = self._loop.call_later(delay, self._expire)

    def _expire(self) -> None:
        """Fails what is over time, waiting or running; the batch itself cannot be stopped, its result is dropped."""
        self._sweep = None
        now = self._clock()
        earliest, over = float("inf"), False
        for pending in self._outstanding():
            if pending.future.done():
                over = True
            elif pending.deadline <= now:
                over = True
                pending.fail(DeadlineExceeded("the deadline passed before the model answered"))
            else:
                earliest = min(earliest, pending.deadline)
        if over:
            self._queue.prune(now)
            self._observer.queued(self._queue.rows)
        if earliest < float("inf"):
            self._plan_sweep(now, max(earliest, now + SWEEP_SECONDS))

    def _outstanding(self) -> Iterator[Pending]:
        yield from self._queue
        for running in list(self._running.values()):
            yield from running.batch

    def close(self) -> None:
        """Fails what waits; for a version that is thrown away."""
        self._queue.clear(ModelFailed("the model was unloaded"))
        for timer in (self._sweep, self._gathering):
            if timer is not None:
                timer.cancel()
