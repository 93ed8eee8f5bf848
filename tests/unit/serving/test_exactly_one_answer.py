"""Every request gets exactly one answer, and nothing is left behind: random mixes, on real versions."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from collections.abc import Sequence
from time import perf_counter
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.serving.plane import SIGNATURE, loaded, until, version_of
from tidegate.errors import CallerGone, ContractError, DeadlineExceeded, Refused
from tidegate.serving.batching import Ran
from tidegate.serving.runtimes.base import LoadedModel
from tidegate.serving.version import Version
from tidegate.types import Array, Tensors

pytestmark = pytest.mark.slow

RAISES, WRONG_ROWS, HANGS, ENDS = -1.0, -2.0, -3.0, -4.0
"""Values that make the model fail; all others are answered with twice the value."""

Kind = Literal["inline", "thread", "async"]


class Asked(msgspec.Struct, frozen=True):
    rows: int
    priority: int
    hasty: bool = False
    gone: bool = False
    cancelled: bool = False
    turns: int = 0
    """Turns of the event loop between this request and the next."""
    fault: float = 0.0


ASKED = st.builds(
    Asked,
    rows=st.integers(1, 24),
    priority=st.integers(0, 2),
    hasty=st.sampled_from([False, False, False, True]),
    gone=st.sampled_from([False, False, False, False, True]),
    cancelled=st.sampled_from([False, False, False, False, True]),
    turns=st.integers(0, 2),
    fault=st.sampled_from([0.0] * 8 + [RAISES, WRONG_ROWS, HANGS, ENDS]),
)


class Faulty:
    """Fails as the values tell; hangs until let go."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.rows = 0

    def predict(self, inputs: Tensors) -> Tensors:
        values = inputs["x"]
        self.rows += len(values)
        if (values == RAISES).any():
            raise ValueError("poisoned")
        if (values == ENDS).any():
            raise StopIteration
        if (values == HANGS).any():
            assert self.released.wait(20)
        answers = values * 2
        return {"predictions": answers[1:] if (values == WRONG_ROWS).any() else answers}


class AsyncFaulty:
    """The same for a runtime that awaits."""

    platform = "function"
    inline_safe = False
    signature = SIGNATURE

    def __init__(self, model: Faulty) -> None:
        self._model = model

    async def predict(self, inputs: Tensors) -> Tensors:
        await asyncio.sleep(0)
        if (inputs["x"] == HANGS).any():
            await until(self._model.released.is_set, 20)
        return self._model.predict(inputs)

    def close(self) -> None: ...


def model_of(kind: Kind, faulty: Faulty) -> LoadedModel:
    sync = loaded(faulty.predict, inline=kind == "inline")
    return sync if kind != "async" else LoadedModel(AsyncFaulty(faulty), sync.facts)


def values_of(number: int, asked: Asked, kind: Kind) -> Array:
    values: Array = 1000.0 * number + np.arange(asked.rows)
    fault = RAISES if kind == "inline" and asked.fault == HANGS else asked.fault  # inline models cannot hang
    if fault:
        values[number % asked.rows] = fault
    return values


async def send(version: Version, values: Array, asked: Asked) -> Ran:
    deadline = perf_counter() + (0.004 if asked.hasty else 10.0)
    return await version.run({"x": values}, asked.rows, deadline, asked.priority, lambda: asked.gone)


async def all_answered(kind: Kind, requests: Sequence[Asked], **batching: Any) -> None:
    lost: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
    faulty = Faulty()
    version = version_of(model_of(kind, faulty), **batching)
    tasks = []
    sent = [values_of(number, asked, kind) for number, asked in enumerate(requests)]
    for values, asked in zip(sent, requests, strict=True):
        task = asyncio.create_task(send(version, values, asked))
        tasks.append(task)
        for _ in range(asked.turns):
            await asyncio.sleep(0)
        if asked.cancelled:
            task.cancel()
    await asyncio.sleep(0)
    faulty.released.set()
    rans = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
    for values, asked, ran in zip(sent, requests, rans, strict=True):
        check(values, asked, ran)
    await until(lambda: not version.busy)
    assert version.limit.in_flight == 0
    assert version.batcher.queued_rows == 0
    await version.close()
    assert not lost, lost


def check(values: Array, asked: Asked, ran: Ran | BaseException) -> None:
    """Its own rows in order, or an error that is its own."""
    if isinstance(ran, Ran):
        assert ran.outputs["predictions"].tolist() == (values * 2).tolist()
        assert not (set(values.tolist()) & {RAISES, WRONG_ROWS, ENDS})
        return
    if isinstance(ran, asyncio.CancelledError):
        assert asked.cancelled
    elif isinstance(ran, CallerGone):
        assert asked.gone
    elif isinstance(ran, DeadlineExceeded):
        assert asked.hasty
    elif isinstance(ran, ContractError):
        assert WRONG_ROWS in values
    elif not isinstance(ran, Refused):
        assert {RAISES, ENDS} & set(values.tolist()), repr(ran)


@pytest.mark.parametrize("kind", ["inline", "thread", "async"])
def test_any_mix_of_requests_is_answered_exactly_once(kind: Kind) -> None:
    @settings(derandomize=True, max_examples=150, deadline=None, database=None)
    @given(
        st.lists(ASKED, min_size=1, max_size=25),
        st.integers(1, 12),
        st.integers(1, 60),
        st.integers(1, 3),
    )
    def mixed(requests: list[Asked], max_rows: int, max_queue_rows: int, concurrency: int) -> None:
        asyncio.run(
            all_answered(kind, requests, max_rows=max_rows, max_queue_rows=max_queue_rows, concurrency=concurrency)
        )

    mixed()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["inline", "thread", "async"])
async def test_ten_thousand_mixed_requests(kind: Kind) -> None:
    draw = random.Random(7)
    requests = [
        Asked(
            draw.randint(1, 40), draw.randint(0, 2), draw.random() < 0.05, draw.random() < 0.02, draw.random() < 0.02,
            draw.randint(0, 1), draw.choice([RAISES, WRONG_ROWS, ENDS]) if draw.random() < 0.005 else 0.0,
        )
        for _ in range(10_000)
    ]  # fmt: skip
    await all_answered(kind, requests, max_rows=32, max_queue_rows=4096, concurrency=2)
    gc.collect()
