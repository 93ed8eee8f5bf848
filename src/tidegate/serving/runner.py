"""One batch through the model: inputs joined, run on the event loop or aside, each caller given its rows.

A batch that fails is split until the row at fault fails alone.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor

import numpy as np

from tidegate.errors import ModelFailed
from tidegate.serving.queue import Pending, Ran
from tidegate.types import Tensors


class Observer:
    """Told about each batch, each wait and the queue's length; this one forgets all."""

    def batch(self, rows: int, seconds: float) -> None: ...

    def waited(self, seconds: float) -> None: ...

    def queued(self, rows: int) -> None: ...


class Runner:
    """``learn`` is told the batch, rows and seconds of each run that succeeded; ``free`` is called when a batch that ran
    aside is over. Both come before the callers are told, since they may ask again at once."""

    def __init__(
        self,
        run: Callable[[Tensors], Tensors | Awaitable[Tensors]],
        *,
        loop: asyncio.AbstractEventLoop,
        executor: Executor,
        observer: Observer,
        clock: Callable[[], float],
        learn: Callable[[Sequence[Pending], int, float], None],
        free: Callable[[], None],
    ) -> None:
        self.awaits = inspect.iscoroutinefunction(run)
        self._run = run
        self._loop = loop
        self._executor = executor
        self._observer = observer
        self._clock = clock
        self._learn = learn
        self._free = free

    def run_inline(self, batch: Sequence[Pending], rows: int) -> None:
        started = self._clock()
        try:
            outputs = self._call(_joined(batch))
        except Exception as error:  # noqa: BLE001 - whatever the model raises is the rows' failure
            self._split_inline(batch, error)
            return
        self._deliver(batch, rows, outputs, self._clock() - started)

    def _split_inline(self, batch: Sequence[Pending], error: Exception) -> None:
        if len(batch) == 1:
            batch[0].fail(error)
            return
        for half in _halves(batch):
            self.run_inline(half, sum(pending.rows for pending in half))

    async def run_aside(self, batch: Sequence[Pending], last: bool = True) -> None:
        """In the executor, or awaited. ``last``: no other part of the batch comes after this one."""
        rows = sum(pending.rows for pending in batch)
        started = self._clock()
        try:
            outputs = await self._outputs(batch)
        except Exception as error:  # noqa: BLE001 - whatever the model raises is the rows' failure
            if len(batch) > 1 and not isinstance(error, ModelFailed):
                await self._run_halves(batch, last)
                return
            if last:
                self._free()
            for pending in batch:
                pending.fail(error)
            return
        if last:
            self._free()
        self._deliver(batch, rows, outputs, self._clock() - started)

    async def _run_halves(self, batch: Sequence[Pending], last: bool) -> None:
        first, second = _halves(batch)
        await self.run_aside(first, last=False)
        waiting = [pending for pending in second if not pending.future.done()]
        if waiting:
            await self.run_aside(waiting, last)
        elif last:
            self._free()

    async def _outputs(self, batch: Sequence[Pending]) -> Tensors:
        inputs = _joined(batch)
        if not self.awaits:
            return await self._loop.run_in_executor(self._executor, self._call, inputs)
        try:
            return await self._run(inputs)  # type: ignore[no-any-return,misc]
        except SystemExit as error:
            raise _foreign(error) from error

    def _call(self, inputs: Tensors) -> Tensors:
        """A future cannot carry StopIteration, and SystemExit would end the event loop: neither leaves the model."""
        try:
            return self._run(inputs)  # type: ignore[return-value]
        except StopIteration as error:
            raise _foreign(error) from error
        except Exception:
            raise
        except BaseException as error:
            raise _foreign(error) from error

    def _deliver(self, batch: Sequence[Pending], rows: int, outputs: Tensors, seconds: float) -> None:
        try:
            self._learn(batch, rows, seconds)
            observer = self._observer
            observer.batch(rows, seconds)
            if len(batch) == 1:
                pending = batch[0]
                waited = pending.taken - pending.entered
                observer.waited(waited)
                if not pending.future.done():
                    pending.future.set_result(Ran(outputs, waited, seconds, rows))
                return
            start = 0
            for pending in batch:
                end = start + pending.rows
                waited = pending.taken - pending.entered
                observer.waited(waited)
                if not pending.future.done():
                    own = {name: array[start:end] for name, array in outputs.items()}
                    pending.future.set_result(Ran(own, waited, seconds, rows))
                start = end
        except Exception as error:  # noqa: BLE001 - an answer that cannot be cut into rows
            for pending in batch:
                pending.fail(error)


def _foreign(error: BaseException) -> RuntimeError:
    return RuntimeError(f"the model raised {type(error).__name__}: {error}")


def _joined(batch: Sequence[Pending]) -> Tensors:
    if len(batch) == 1:
        return batch[0].inputs
    return {name: np.concatenate([pending.inputs[name] for pending in batch]) for name in batch[0].inputs}


def _halves(batch: Sequence[Pending]) -> tuple[list[Pending], list[Pending]]:
    middle = len(batch) // 2
    return list(batch[:middle]), list(batch[middle:])


def rejoined(parts: Sequence[asyncio.Future[Ran]], loop: asyncio.AbstractEventLoop) -> asyncio.Future[Ran]:
    """The answer of a request that is run in parts, in their order."""
    joined = asyncio.ensure_future(_join(parts), loop=loop)
    joined.add_done_callback(lambda _: _let_go(parts))
    return joined


async def _join(parts: Sequence[asyncio.Future[Ran]]) -> Ran:
    ran = [await part for part in parts]
    outputs = {name: np.concatenate([one.outputs[name] for one in ran]) for name in ran[0].outputs}
    return Ran(outputs, ran[0].queue, sum(one.run for one in ran), max(one.batch_rows for one in ran))


def _let_go(parts: Sequence[asyncio.Future[Ran]]) -> None:
    """Nobody waits for the parts any more; also where the joining task was cancelled before its first step."""
    for part in parts:
        part.cancel()
        if not part.cancelled():
            part.exception()  # read, so that asyncio does not report it as lost
