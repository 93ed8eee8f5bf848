"""The batcher with a real event loop, real threads, and models that are functions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from tests.unit.serving.plane import Gate, column, failing, times, until
from tidegate.errors import CallerGone, DeadlineExceeded, ModelFailed, Overloaded, QueueFull
from tidegate.serving.batching import ALONE, Batcher, Observer, Ran
from tidegate.types import Tensors

pytestmark = pytest.mark.usefixtures("unblocked")

CRITICAL, NORMAL, BULK = 0, 1, 2


class Recorder(Observer):
    def __init__(self) -> None:
        self.rows: list[int] = []
        self.waits: list[float] = []
        self.lengths: list[int] = []

    def batch(self, rows: int, seconds: float) -> None:
        self.rows.append(rows)

    def waited(self, seconds: float) -> None:
        self.waits.append(seconds)

    def queued(self, rows: int) -> None:
        self.lengths.append(rows)


@asynccontextmanager
async def batching(run: Callable[[Tensors], Any], **options: Any) -> AsyncIterator[Batcher]:
    executor = ThreadPoolExecutor(options.get("concurrency", 1))
    batcher = Batcher(run, loop=asyncio.get_running_loop(), executor=executor, **options)
    try:
        yield batcher
    finally:
        if isinstance(run, Gate):
            run.open()
        batcher.close()
        executor.shutdown(wait=False)


def ask(batcher: Batcher, *values: float, seconds: float = 10.0, **options: Any) -> asyncio.Future[Ran]:
    return batcher.submit(column(*values), len(values), perf_counter() + seconds, **options)


def answer(ran: Ran) -> list[float]:
    return list(ran.outputs["predictions"])


def learn(batcher: Batcher, seconds: float, rows: int = 1) -> None:
    """Makes the cost known, as eight batches would."""
    for _ in range(8):
        batcher.cost.observe(rows, seconds)


async def test_every_caller_gets_its_own_rows_in_order() -> None:
    """SeldonIO/MLServer#1306: batching mixes the answers of concurrent requests up."""
    gate = Gate(2)
    async with batching(gate, max_rows=64) as batcher:
        first = ask(batcher, 1)
        await gate.entered()
        others = [ask(batcher, *range(10 * size, 10 * size + size)) for size in range(1, 9)]
        gate.open()
        assert answer(await first) == [2]
        for size, other in enumerate(others, 1):
            assert answer(await other) == [2.0 * value for value in range(10 * size, 10 * size + size)]
    assert [len(batch) for batch in gate.batches] == [1, 36]


async def test_a_lone_request_runs_at_once_and_others_gather_while_the_model_is_busy() -> None:
    """SeldonIO/MLServer#1936, triton-inference-server/server#3624, #8094: flushed early, or waited for in vain.
    Here nothing waits for a timer, and the answer tells its wait and in how many rows it ran."""
    gate = Gate()
    async with batching(gate) as batcher:
        lone = ask(batcher, 1)
        assert await gate.entered() == 1  # although a batch of 256 would fit
        gathered = [ask(batcher, value) for value in (2, 3, 4)]
        gate.open()
        ran = await lone
        assert ran.batch_rows == 1
        assert ran.run > 0
        for future in gathered:
            ran = await future
            assert ran.batch_rows == 3
            assert ran.queue > 0
    assert gate.batches == [[1], [2, 3, 4]]


async def test_requests_of_one_turn_share_a_batch() -> None:
    recorder = Recorder()
    async with batching(times(3), observer=recorder) as batcher:
        rans = await asyncio.gather(*(ask(batcher, value) for value in range(20)))
    assert [answer(ran) for ran in rans] == [[3.0 * value] for value in range(20)]
    assert recorder.rows == [20]
    assert len(recorder.waits) == 20
    assert recorder.lengths[-1] == 0


async def test_the_limit_counts_rows_and_a_larger_request_is_split_and_rejoined() -> None:
    """bentoml/BentoML#3859, #3710: max_batch_size counted requests, and a larger request was refused."""
    recorder = Recorder()
    async with batching(times(1), max_rows=8, observer=recorder) as batcher:
        large, small = ask(batcher, *range(30)), ask(batcher, 99)
        ran = await large
        assert answer(ran) == list(range(30))
        assert ran.batch_rows <= 8
        assert answer(await small) == [99]
    assert max(recorder.rows) <= 8
    assert sum(recorder.rows) == 31


@pytest.mark.parametrize("max_rows", [1, 3, 256])
async def test_batching_does_not_change_what_a_model_takes_and_gives(max_rows: int) -> None:
    """Lightning-AI/LitServe#412: a model had to be written differently for batching. n rows in, n rows out, always."""
    shapes: list[tuple[int, ...]] = []

    def widths(inputs: Tensors) -> Tensors:
        shapes.append(inputs["x"].shape)
        return {"predictions": inputs["x"].sum(axis=1)}

    async with batching(widths, max_rows=max_rows) as batcher:
        asked = [batcher.submit({"x": np.ones((n, 2)) * n}, n, perf_counter() + 10) for n in (1, 2, 5)]
        rans = await asyncio.gather(*asked)
    assert [answer(ran) for ran in rans] == [[2.0], [4.0] * 2, [10.0] * 5]
    assert all(len(shape) == 2 and shape[0] <= max_rows and shape[1] == 2 for shape in shapes)


async def test_a_full_queue_refuses_at_once_with_its_reason() -> None:
    """pytorch/serve#2333, kserve/kserve#4247: a full queue blocked the caller; SeldonIO/MLServer#1042, #999 and
    triton-inference-server/server#6796, #980: no bound, or not an exact one; bentoml/BentoML#3200, #4265: no reason given."""
    gate = Gate()
    async with batching(gate, max_rows=4, max_queue_rows=10) as batcher:
        running = ask(batcher, 0)
        await gate.entered()
        waiting = [ask(batcher, value) for value in range(10)]
        assert batcher.queued_rows == 10
        with pytest.raises(QueueFull, match=r"10 rows are waiting and the bound is 10") as refused:
            ask(batcher, 11)  # not awaited: it is refused before there is anything to wait for
        assert refused.value.reason == "queue_full"
        assert refused.value.retry_after > 0
        gate.open()
        await asyncio.gather(running, *waiting)
        assert batcher.queued_rows == 0
        assert answer(await ask(batcher, 5)) == [5]


async def test_a_request_larger_than_the_queue_waits_for_an_empty_one() -> None:
    async with batching(times(1), max_rows=2, max_queue_rows=4) as batcher:
        assert answer(await ask(batcher, *range(9))) == list(range(9))


async def test_one_bad_row_fails_alone() -> None:
    """kserve's batcher fails every request of a batch for one bad row."""

    def picky(inputs: Tensors) -> Tensors:
        if (inputs["x"] < 0).any():
            raise ValueError("negative")
        return times(2)(inputs)

    for inline_rows in (0, 64):
        async with batching(picky, inline_rows=inline_rows) as batcher:
            asked = [ask(batcher, float(value if value != 5 else -1)) for value in range(13)]
            rans = await asyncio.gather(*asked, return_exceptions=True)
        for value, ran in enumerate(rans):
            if value == 5:
                assert isinstance(ran, ValueError)
            else:
                assert isinstance(ran, Ran)
                assert answer(ran) == [2.0 * value]


async def test_inputs_that_cannot_be_joined_run_apart() -> None:
    async with batching(
        lambda inputs: {"predictions": inputs["x"].reshape(len(inputs["x"]), -1).sum(axis=1)}
    ) as batcher:
        narrow = batcher.submit({"x": np.ones((1, 2))}, 1, perf_counter() + 10)
        wide = batcher.submit({"x": np.ones((1, 3))}, 1, perf_counter() + 10)
        assert [answer(await narrow), answer(await wide)] == [[2], [3]]


@pytest.mark.parametrize("error", [StopIteration("over"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
@pytest.mark.parametrize("inline_rows", [0, 8])
async def test_whatever_a_model_raises_is_its_callers_error(error: BaseException, inline_rows: int) -> None:
    """A future cannot carry StopIteration, and SystemExit would end the event loop: both would leave the queue stuck."""

    def ends(inputs: Tensors) -> Tensors:
        if inputs["x"][0] == 0:
            raise error
        return times(1)(inputs)

    async with batching(ends, inline_rows=inline_rows) as batcher:
        with pytest.raises(RuntimeError, match=type(error).__name__):
            await ask(batcher, 0)
        assert answer(await ask(batcher, 7)) == [7]
        await until(lambda: batcher.idle)


async def test_a_model_that_awaits_may_not_end_the_process() -> None:
    async def ends(inputs: Tensors) -> Tensors:
        raise SystemExit(3)

    async with batching(ends, inline_rows=8) as batcher:
        with pytest.raises(RuntimeError, match="SystemExit"):
            await ask(batcher, 0)


@pytest.mark.parametrize("inline_rows", [0, 8])
async def test_an_answer_that_cannot_be_cut_fails_its_batch_only(inline_rows: int) -> None:
    left: list[Any] = [None, {"predictions": np.zeros(2)}]
    async with batching(lambda inputs: left.pop(0), inline_rows=inline_rows) as batcher:
        rans = await asyncio.gather(ask(batcher, 1), ask(batcher, 2), return_exceptions=True)
        assert all(isinstance(ran, Exception) for ran in rans)
        assert answer(await ask(batcher, 1, 2)) == [0, 0]


async def test_a_deadline_holds_while_waiting_and_while_running() -> None:
    """Lightning-AI/LitServe#423: the timeout was enforced on neither."""
    gate = Gate()
    async with batching(gate, max_rows=1) as batcher:
        running, waiting = ask(batcher, 1, seconds=0.03), ask(batcher, 2, seconds=0.03)
        patient = ask(batcher, 3)
        began = perf_counter()
        for late in (running, waiting):
            with pytest.raises(DeadlineExceeded):
                await late
        assert perf_counter() - began < 10  # the model itself never ends
        assert batcher.queued_rows == 1  # the late one left the queue, the model being busy all the same
        gate.open()
        assert answer(await patient) == [3]
    assert gate.batches == [[1], [3]]


async def test_a_deadline_that_has_passed_is_never_run() -> None:
    calls: list[int] = []

    def counted(inputs: Tensors) -> Tensors:
        calls.append(len(inputs["x"]))
        return times(1)(inputs)

    async with batching(counted, inline_rows=8) as batcher:
        await ask(batcher, 1)
        for _ in range(3):  # in the queue, and by the short cut after a lone request
            with pytest.raises(DeadlineExceeded):
                await ask(batcher, 1, seconds=-0.001)
    assert calls == [1]


async def test_expired_rows_make_room_though_the_first_in_line_is_patient() -> None:
    gate = Gate()
    async with batching(gate, max_rows=1, max_queue_rows=4) as batcher:
        running = ask(batcher, 1)
        await gate.entered()
        patient = ask(batcher, 2)
        hasty = [ask(batcher, 3, seconds=0.02) for _ in range(3)]
        await asyncio.gather(*hasty, return_exceptions=True)
        assert batcher.queued_rows == 1
        later = ask(batcher, 4)
        gate.open()
        assert [answer(await one) for one in (running, patient, later)] == [[1], [2], [4]]


async def test_a_full_queue_forgets_those_whose_callers_left() -> None:
    gate = Gate()
    async with batching(gate, max_rows=1, max_queue_rows=4) as batcher:
        running = ask(batcher, 1)
        await gate.entered()
        left = [ask(batcher, 2, gone=lambda: True), ask(batcher, 3), ask(batcher, 4), ask(batcher, 5)]
        left[1].cancel()
        later = [ask(batcher, 6), ask(batcher, 7)]
        with pytest.raises(CallerGone):
            await left[0]
        with pytest.raises(QueueFull):
            ask(batcher, 8)
        gate.open()
        assert [answer(await one) for one in (running, *left[2:], *later)] == [[1], [4], [5], [6], [7]]


async def test_critical_rows_evict_the_newest_bulk_rows() -> None:
    gate = Gate()
    async with batching(gate, max_rows=1, max_queue_rows=4) as batcher:
        running = ask(batcher, 0)
        await gate.entered()
        old, new = ask(batcher, 1, priority=BULK), ask(batcher, 2, priority=BULK)
        normal, other = ask(batcher, 3), ask(batcher, 4)
        critical = ask(batcher, 5, priority=CRITICAL)
        with pytest.raises(QueueFull):
            await new
        with pytest.raises(QueueFull):
            ask(batcher, 6, priority=BULK)  # nothing below it to evict
        gate.open()
        await asyncio.gather(running, old, normal, other, critical)
    assert gate.batches == [[0], [5], [3], [4], [1]]


async def test_an_eviction_that_would_not_be_enough_evicts_nobody() -> None:
    gate = Gate()
    async with batching(gate, max_rows=8, max_queue_rows=8) as batcher:
        running = ask(batcher, 0)
        await gate.entered()
        bulk, normal = ask(batcher, 1, 2, priority=BULK), ask(batcher, *range(6))
        with pytest.raises(QueueFull):
            ask(batcher, 3, 4, 5, priority=NORMAL)
        assert not bulk.done()
        gate.open()
        await asyncio.gather(running, bulk, normal)


async def test_a_wait_that_would_outlast_the_deadline_is_refused_at_once() -> None:
    gate = Gate()
    async with batching(gate, max_rows=1, max_queue_rows=100) as batcher:
        learn(batcher, 0.1)
        gate.open()
        await ask(batcher, 0)
        assert await gate.entered()
        gate.shut()
        batcher.cost.base, batcher.cost.per_row = 0.1, 0.0
        running = ask(batcher, 0, seconds=60)
        await gate.entered()
        assert batcher.estimated_wait(1) == pytest.approx(
            0.1 + 0.1, abs=0.05
        )  # what is left of the batch, then its own
        waiting = [ask(batcher, value, seconds=60) for value in range(5)]
        assert batcher.estimated_wait(1) == pytest.approx(0.1 + 0.6, abs=0.05)
        assert batcher.estimated_wait(1, CRITICAL) == pytest.approx(0.1 + 0.1, abs=0.05)
        with pytest.raises(Overloaded, match=r"about [67]\d\d ms, longer than the \d+ ms") as refused:
            ask(batcher, 9, seconds=0.3)
        assert refused.value.retry_after == pytest.approx(0.7, abs=0.05)
        hurried = ask(batcher, 10, seconds=20, priority=CRITICAL)
        gate.open()
        await asyncio.gather(running, hurried, *waiting)
    assert gate.batches[1:3] == [[0], [10]]


async def test_a_request_that_would_come_too_late_is_dropped_for_one_that_will_not() -> None:
    gate = Gate()
    async with batching(gate, max_rows=1) as batcher:
        running = ask(batcher, 0)
        await gate.entered()
        doomed, fine = ask(batcher, 1, seconds=5), ask(batcher, 2, seconds=60)
        learn(batcher, 20.0)
        gate.open()
        await running
        learn(batcher, 20.0)
        assert answer(await fine) == [2]
        with pytest.raises(DeadlineExceeded, match="would come after"):
            await doomed
    assert gate.batches == [[0], [2]]


async def test_when_all_are_doomed_the_one_with_most_time_is_tried() -> None:
    """Estimates may be wrong, and only a run corrects them."""
    async with batching(times(1), max_rows=1, inline_rows=1) as batcher:
        learn(batcher, 100.0)
        rans = await asyncio.gather(
            ask(batcher, 1, seconds=5), ask(batcher, 2, seconds=9), ask(batcher, 3, seconds=7), return_exceptions=True
        )
        assert [type(ran) for ran in rans] == [DeadlineExceeded, Ran, DeadlineExceeded]
        for _ in range(400):
            await ask(batcher, 1)
        assert batcher.cost.estimate(1) < 1.0


async def test_a_batch_stays_small_enough_for_its_hastiest_request() -> None:
    gate = Gate()
    async with batching(gate, max_rows=64) as batcher:
        running = ask(batcher, 0)
        await gate.entered()
        for rows in (1, 2, 1, 2, 1, 2, 1, 2):
            batcher.cost.observe(rows, 1.0 * rows)  # a second a row
        hasty = ask(batcher, 1, 1, 1, seconds=4.5)
        patient = ask(batcher, 2, 2, 2, seconds=60)
        gate.open()
        await asyncio.gather(running, hasty, patient)
    assert gate.batches == [[0], [1, 1, 1], [2, 2, 2]]


async def test_a_caller_that_left_is_dropped_before_the_model_runs() -> None:
    gate = Gate()
    async with batching(gate) as batcher:
        running = ask(batcher, 0)
        await gate.entered()
        left, stayed = ask(batcher, 1, gone=lambda: True), ask(batcher, 2, gone=lambda: False)
        cancelled = ask(batcher, 3)
        cancelled.cancel()
        gate.open()
        with pytest.raises(CallerGone):
            await left
        assert answer(await stayed) == [2]
        await running
    assert gate.batches == [[0], [2]]


async def test_a_large_request_cancelled_before_its_first_step_leaves_the_queue() -> None:
    recorder = Recorder()
    async with batching(failing, max_rows=2, observer=recorder) as batcher:
        large = ask(batcher, *range(10))
        large.cancel()
        with pytest.raises(asyncio.CancelledError):
            await large
        await until(lambda: batcher.idle)
        assert batcher.queued_rows == 0
        assert recorder.rows == []


async def test_after_a_lone_request_the_next_ones_run_without_a_turn() -> None:
    async with batching(times(1), inline_rows=4) as batcher:
        await ask(batcher, 1)
        for _ in range(ALONE):
            future = ask(batcher, 2)
            assert future.done()
        looked = ask(batcher, 3)
        assert not looked.done()  # now it looks again whether others can be joined
        assert answer(await looked) == [3]
        assert ask(batcher, 4).done()
        assert ask(batcher, 1, 2, 3, 4, 5).done()  # by now the model has shown that so many are quick


async def test_requests_that_come_together_end_the_short_cut() -> None:
    recorder = Recorder()
    async with batching(times(1), inline_rows=4, observer=recorder) as batcher:
        await ask(batcher, 0)
        for _ in range(ALONE):
            await ask(batcher, 0)
        await asyncio.gather(ask(batcher, 1), ask(batcher, 2))
        assert not ask(batcher, 3).done()
        await asyncio.sleep(0)
    assert recorder.rows == [1] * (ALONE + 1) + [2, 1]


async def test_a_small_model_runs_on_the_event_loop_and_large_batches_aside() -> None:
    threads: list[bool] = []

    def where(inputs: Tensors) -> Tensors:
        threads.append(threading.current_thread() is threading.main_thread())
        return times(1)(inputs)

    async with batching(where, inline_rows=2) as batcher:
        await ask(batcher, 1, 2)
        await ask(batcher, 1, 2, 3)
    assert threads == [True, False]


async def test_a_model_that_awaits_runs_on_the_loop_and_is_never_inline() -> None:
    opened, entered = asyncio.Event(), asyncio.Event()

    async def waits(inputs: Tensors) -> Tensors:
        entered.set()
        await opened.wait()
        return times(5)(inputs)

    async with batching(waits, inline_rows=64) as batcher:
        first = ask(batcher, 1)
        await entered.wait()
        second, third = ask(batcher, 2), ask(batcher, 3)
        opened.set()
        assert [answer(await one) for one in (first, second, third)] == [[5], [10], [15]]
        assert (await third).batch_rows == 2


async def test_a_model_that_is_cancelled_fails_its_batch() -> None:
    async def cancelled(inputs: Tensors) -> Tensors:
        raise asyncio.CancelledError

    async with batching(cancelled) as batcher:
        with pytest.raises(ModelFailed):
            await ask(batcher, 1)


async def test_batches_run_side_by_side_up_to_the_concurrency() -> None:
    gate = Gate()
    async with batching(gate, max_rows=2, concurrency=2) as batcher:
        asked = [ask(batcher, value, value) for value in range(3)]
        assert await gate.entered() == 2
        assert await gate.entered() == 2
        assert batcher.queued_rows == 2  # the third waits
        gate.open()
        rans = await asyncio.gather(*asked)
    assert [answer(ran) for ran in rans] == [[0, 0], [1, 1], [2, 2]]


async def test_a_closed_batcher_fails_what_waits() -> None:
    gate = Gate()
    async with batching(gate) as batcher:
        running = ask(batcher, 1)
        await gate.entered()
        waiting = ask(batcher, 2)
        batcher.close()
        with pytest.raises(ModelFailed, match="unloaded"):
            await waiting
        assert batcher.queued_rows == 0
        gate.open()
        assert answer(await running) == [1]
