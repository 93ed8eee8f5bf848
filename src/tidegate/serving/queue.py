"""Requests that wait for a loaded version: a queue by priority, bounded in rows, that gives the next batch.

It neither schedules nor runs anything, and is told the time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tidegate.errors import CallerGone, DeadlineExceeded, QueueFull
from tidegate.serving.cost import CostModel
from tidegate.types import Tensors

SWEEP_SECONDS = 0.01
"""How late a deadline may be noticed."""


class Ran(NamedTuple):
    """A request's share of a batch: its rows, and seconds waited and run."""

    outputs: Tensors
    queue: float
    run: float
    batch_rows: int


class Pending:
    """A request in the queue or in a batch."""

    __slots__ = ("deadline", "entered", "expected", "future", "gone", "inputs", "priority", "rows", "taken")

    def __init__(
        self,
        inputs: Tensors,
        rows: int,
        deadline: float,
        priority: int,
        gone: Callable[[], bool] | None,
        future: asyncio.Future[Ran],
        entered: float,
    ) -> None:
        self.inputs = inputs
        self.rows = rows
        self.deadline = deadline
        self.priority = priority
        self.gone = gone
        self.future = future
        self.entered = entered
        self.taken = 0.0
        self.expected = 0.0
        """Seconds until its answer, as estimated when it came; 0 when nothing was ahead of it."""

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def alive(self, now: float) -> bool:
        """Whether somebody still waits for it; fails it where its time is over or its caller has left."""
        if self.future.done():
            return False
        if self.deadline <= now:
            self.fail(DeadlineExceeded("the deadline passed while the request was waiting"))
            return False
        if self.gone is not None and self.gone():
            self.fail(CallerGone("the client closed the connection"))
            return False
        return True


class Queue:
    """At most ``max_rows`` rows, in order of priority (0 first) and arrival; batches have at most ``batch_rows``."""

    def __init__(self, max_rows: int, batch_rows: int, cost: CostModel) -> None:
        self.max_rows = max_rows
        self.rows = 0
        self._batch_rows = batch_rows
        self._cost = cost
        self._queues: tuple[deque[Pending], ...] = (deque(), deque(), deque())
        self._rows = [0, 0, 0]
        self._pruned_at = 0.0

    def __iter__(self) -> Iterator[Pending]:
        for queue in self._queues:
            yield from queue

    def rows_before(self, priority: int) -> int:
        """Rows that would run before one of this priority that came now."""
        return sum(self._rows[: priority + 1])

    def add(self, pending: Pending) -> None:
        """Whether there is room is the caller's business: see ``make_room``."""
        self._queues[pending.priority].append(pending)
        self.rows += pending.rows
        self._rows[pending.priority] += pending.rows

    def take(self, now: float) -> list[Pending]:
        """The next batch. Requests whose caller left or whose time is over are dropped on the way."""
        batch: list[Pending] = []
        doomed: list[Pending] = []
        self._fill(batch, doomed, now)
        if doomed and not batch:
            # Estimates may be wrong, and only a run corrects them: the one with most time left is tried.
            probe = max(doomed, key=lambda pending: pending.deadline)
            doomed.remove(probe)
            probe.taken = now
            batch.append(probe)
        for pending in doomed:
            pending.fail(DeadlineExceeded("the answer would come after the deadline"))
        return batch

    def _fill(self, batch: list[Pending], doomed: list[Pending], now: float) -> None:
        """Moves requests to ``batch`` while all of it meets its deadlines, and to ``doomed`` what cannot meet its own."""
        room, oldest, cost = self._batch_rows, float("inf"), self._cost
        for queue in self._queues:
            while queue:
                pending = queue[0]
                if pending.rows > room:
                    return
                queue.popleft()
                self._left(pending)
                if not pending.alive(now):
                    continue
                if batch and pending.inputs.keys() != batch[0].inputs.keys():  # optional inputs that some leave out
                    self._put_back(pending)
                    return
                finish = now + cost.estimate(self._batch_rows - room + pending.rows)
                if finish > min(oldest, pending.deadline) and cost.known:
                    if batch and now + cost.estimate(pending.rows) <= pending.deadline:
                        self._put_back(pending)
                        return
                    doomed.append(pending)
                    continue
                pending.taken = now
                oldest = min(oldest, pending.deadline)
                batch.append(pending)
                room -= pending.rows
            if not room:
                return

    def _put_back(self, pending: Pending) -> None:
        self._queues[pending.priority].appendleft(pending)
        self.rows += pending.rows
        self._rows[pending.priority] += pending.rows

    def _left(self, pending: Pending) -> None:
        self.rows -= pending.rows
        self._rows[pending.priority] -= pending.rows

    def make_room(self, rows: int, priority: int, now: float) -> None:
        """Raises QueueFull when the rows do not fit, also without those that nobody waits for and the less important."""
        if now >= self._pruned_at + SWEEP_SECONDS:  # a look at the whole queue, so not for every refusal
            self._pruned_at = now
            self.prune(now)
        excess = self.rows + rows - self.max_rows
        if excess > 0 and self.rows and not self.displace(excess, priority):
            raise self._full()

    def displace(self, rows: int, priority: int) -> bool:
        """Refuses at least ``rows`` waiting rows that are less important, newest first; False when there are fewer."""
        if sum(self._rows[priority + 1 :]) < rows:
            return False
        for queue in reversed(self._queues[priority + 1 :]):
            while queue and rows > 0:
                victim = queue.pop()
                refusal = self._full()
                self._left(victim)
                rows -= victim.rows
                victim.fail(refusal)
        return True

    def _full(self) -> QueueFull:
        return QueueFull(
            f"{self.rows} rows are waiting and the bound is {self.max_rows}; try again later",
            retry_after=max(self._cost.estimate(self._batch_rows), 0.05),
        )

    def prune(self, now: float) -> None:
        """Drops what nobody waits for any more."""
        for queue in self._queues:
            waiting = list(queue)
            queue.clear()
            for pending in waiting:
                if pending.alive(now):
                    queue.append(pending)
                else:
                    self._left(pending)

    def clear(self, error: BaseException) -> None:
        """Fails all that wait."""
        for queue in self._queues:
            while queue:
                pending = queue.popleft()
                self._left(pending)
                pending.fail(error)
