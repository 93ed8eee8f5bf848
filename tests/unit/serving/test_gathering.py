"""A batch that ends waits a moment for those it answered; an objective bounds who may wait. docs/adr/0010."""

from __future__ import annotations

import asyncio
from time import perf_counter

import pytest

from tests.unit.serving.plane import Gate, column
from tests.unit.serving.test_batching import ask, batching, learn
from tidegate.errors import Overloaded
from tidegate.serving.batching import OBJECTIVE_SHARE, Batcher
from tidegate.types import Tensors

pytestmark = pytest.mark.usefixtures("unblocked")

HELD_SECONDS = 0.3
"""How long the first batch takes, so that a share of it is many turns of the loop."""


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def first_of_two(batcher: Batcher, again: float | None) -> None:
    await ask(batcher, 0)
    if again is not None:
        await turns(5)  # a caller needs a moment before it asks again
        await ask(batcher, again)


async def held(gate: Gate, batcher: Batcher, again: float | None) -> list[list[float]]:
    """Row 0 runs while 1, 2 and 3 queue; the batches that the model saw in the end."""
    first = asyncio.ensure_future(first_of_two(batcher, again))
    await gate.entered()
    waiting = [ask(batcher, value) for value in (1, 2, 3)]
    asyncio.get_running_loop().call_later(HELD_SECONDS, gate.open)
    await asyncio.gather(first, *waiting)
    return gate.batches


async def test_callers_who_ask_again_share_the_next_batch() -> None:
    """SeldonIO/MLServer#1936, triton-inference-server/server#3624: not flushed early, with few rows."""
    gate = Gate()
    async with batching(gate, max_rows=8) as batcher:
        assert [sorted(batch) for batch in await held(gate, batcher, again=9)] == [[0], [1, 2, 3, 9]]


async def test_nobody_is_waited_for_in_vain() -> None:
    """triton-inference-server/server#8094: those who queue run soon, though nobody asks again."""
    gate = Gate()
    async with batching(gate, max_rows=8) as batcher:
        started = perf_counter()
        assert [sorted(batch) for batch in await held(gate, batcher, again=None)] == [[0], [1, 2, 3]]
        assert perf_counter() - started < 5  # the wait is a twentieth of the batch, the test's own deadline is far


async def test_an_idle_model_waits_for_nobody() -> None:
    gate = Gate()
    async with batching(gate, max_rows=8) as batcher:
        await held(gate, batcher, again=9)
        gate.shut()
        alone = ask(batcher, 7)
        await turns(3)
        assert await gate.entered() == 4  # the batch before
        assert await gate.entered() == 1
        gate.open()
        await alone


async def test_who_would_wait_longer_than_the_objective_is_refused() -> None:
    gate = Gate()
    async with batching(gate, max_rows=1, objective=0.5) as batcher:
        learn(batcher, 0.1)
        gate.open()
        await ask(batcher, 0)
        assert await gate.entered()
        gate.shut()
        batcher.cost.base, batcher.cost.per_row = 0.1, 0.0
        running = ask(batcher, 0, seconds=60)
        await gate.entered()
        # 0.1 s of the running batch, 0.1 s each: no more than the share of 0.5 s that estimates may fill.
        admitted = [ask(batcher, value, seconds=60) for value in range(2)]
        while batcher.estimated_wait(1) <= 0.5 * OBJECTIVE_SHARE:
            admitted.append(ask(batcher, 5, seconds=60))
        assert len(admitted) <= 4
        with pytest.raises(Overloaded, match="this endpoint promises") as refused:
            ask(batcher, 9, seconds=60)
        assert refused.value.retry_after > 0.5 * OBJECTIVE_SHARE
        gate.open()
        await asyncio.gather(running, *admitted)


async def test_estimates_that_turn_out_short_are_corrected() -> None:
    now = 100.0

    def run(inputs: Tensors) -> Tensors:
        nonlocal now
        now += 0.01
        return {"predictions": inputs["x"]}

    def expect_little() -> None:
        batcher.cost.base, batcher.cost.per_row = 0.00001, 0.0

    async with batching(run, max_rows=1, objective=100.0, clock=lambda: now) as batcher:
        learn(batcher, 0.00001)
        before = batcher.estimated_wait(1)
        for _ in range(40):
            expect_little()
            await asyncio.gather(*(batcher.submit(column(value), 1, now + 1.0) for value in range(3)))
        expect_little()
        assert batcher.estimated_wait(1) > 1.5 * before
