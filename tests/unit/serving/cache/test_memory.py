"""The cache on a real event loop, with a clock that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.serving.plane import column
from tidegate.clock import ManualClock
from tidegate.errors import DeadlineExceeded, QueueFull
from tidegate.serving.batching import Ran
from tidegate.serving.cache.memory import MemoryCache, key_of
from tidegate.types import Array

PATIENCE = 10.0


def ran(*values: float) -> Ran:
    return Ran({"predictions": np.array(values)}, 0.0, 0.0, len(values))


def cache_of(seconds: float = 60.0, size: int = 1 << 20) -> tuple[MemoryCache, ManualClock]:
    clock = ManualClock()
    return MemoryCache(seconds, size, clock.monotonic), clock


class Runs:
    """Counts its runs; each waits until it is let go, and may fail."""

    def __init__(self, *errors: Exception | None) -> None:
        self.started = 0
        self.opened = asyncio.Event()
        self._errors = list(errors)

    async def __call__(self) -> Ran:
        self.started += 1
        number = self.started
        await self.opened.wait()
        error = self._errors.pop(0) if self._errors else None
        if error is not None:
            raise error
        return ran(number)


def at_once(*values: float) -> Callable[[], Awaitable[Ran]]:
    async def run() -> Ran:
        return ran(*values)

    return run


async def never() -> Ran:
    raise AssertionError("ran although the answer is kept")


def values_of(given_: Ran) -> list[float]:
    return list(given_.outputs["predictions"])


async def test_a_kept_answer_is_used_until_its_time_is_over() -> None:
    cache, clock = cache_of(seconds=60)
    assert (await cache.get(b"k", at_once(1), PATIENCE))[1] == "miss"
    clock.advance(59.9)
    kept, result = await cache.get(b"k", never, PATIENCE)
    assert (values_of(kept), result) == ([1], "hit")
    clock.advance(0.1)
    assert (await cache.get(b"k", at_once(2), PATIENCE))[1] == "miss"
    assert len(cache) == 1


async def test_the_least_recently_used_goes_first_and_the_bound_holds() -> None:
    cache, _ = cache_of(size=3 * 600)
    for key in (b"a", b"b", b"c"):
        await cache.get(key, at_once(1, 2, 3), PATIENCE)
    await cache.get(b"a", never, PATIENCE)
    await cache.get(b"d", at_once(4, 5, 6), PATIENCE)
    assert cache.bytes <= 3 * 600
    await cache.get(b"a", never, PATIENCE)
    await cache.get(b"c", never, PATIENCE)
    assert (await cache.get(b"b", at_once(1), PATIENCE))[1] == "miss"


async def test_an_answer_larger_than_the_cache_is_not_kept() -> None:
    cache, _ = cache_of(size=1000)
    await cache.get(b"k", at_once(*range(1000)), PATIENCE)
    assert (len(cache), cache.bytes) == (0, 0)


@settings(derandomize=True, max_examples=50, deadline=None, database=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(1, 60), st.integers(0, 30)), max_size=60))
def test_the_size_is_exact(steps: list[tuple[int, int, int]]) -> None:
    async def play() -> None:
        cache, clock = cache_of(seconds=40, size=4000)
        for key, rows, pause in steps:
            clock.advance(pause)
            await cache.get(bytes([key]), at_once(*range(rows)), PATIENCE)
            assert 0 <= cache.bytes <= 4000
        clock.advance(1000)
        results = {(await cache.get(bytes([key]), at_once(1), PATIENCE))[1] for key in range(9)}
        assert results == {"miss"}
        assert cache.bytes == 520 * len(cache)  # 512 of bookkeeping and one number each

    asyncio.run(play())


async def test_a_kept_answer_does_not_keep_its_batch_alive() -> None:
    cache, _ = cache_of()
    batch = np.arange(100_000, dtype=float)

    async def slice_of_batch() -> Ran:
        return Ran({"predictions": batch[5:6]}, 0.0, 0.0, 100_000)

    await cache.get(b"k", slice_of_batch, PATIENCE)
    kept, _ = await cache.get(b"k", never, PATIENCE)
    assert kept.outputs["predictions"].base is None


async def test_equal_requests_that_come_together_run_once() -> None:
    cache, _ = cache_of()
    runs = Runs()
    asked = [asyncio.ensure_future(cache.get(b"k", runs, PATIENCE)) for _ in range(10)]
    await asyncio.sleep(0)
    runs.opened.set()
    answers = await asyncio.gather(*asked)
    assert runs.started == 1
    assert [result for _, result in answers] == ["miss"] + ["joined"] * 9


async def test_a_caller_that_leaves_does_not_end_the_others_run() -> None:
    cache, _ = cache_of()
    runs = Runs()
    leader = asyncio.ensure_future(cache.get(b"k", runs, PATIENCE))
    await asyncio.sleep(0)
    joiner = asyncio.ensure_future(cache.get(b"k", runs, PATIENCE))
    await asyncio.sleep(0)
    leader.cancel()
    await asyncio.sleep(0)
    runs.opened.set()
    assert (await joiner)[1] == "joined"
    assert runs.started == 1
    assert (await cache.get(b"k", never, PATIENCE))[1] == "hit"


async def test_each_caller_waits_for_its_own_patience() -> None:
    cache, _ = cache_of()
    runs = Runs()
    patient = asyncio.ensure_future(cache.get(b"k", runs, PATIENCE))
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await cache.get(b"k", runs, 0.01)
    runs.opened.set()
    assert (await patient)[1] == "miss"


@pytest.mark.parametrize("error", [DeadlineExceeded("the leader's"), QueueFull("the leader's")])
async def test_the_leaders_deadline_is_not_the_joiners(error: Exception) -> None:
    cache, _ = cache_of()
    runs = Runs(error)
    asked = [asyncio.ensure_future(cache.get(b"k", runs, PATIENCE)) for _ in range(4)]
    await asyncio.sleep(0)
    runs.opened.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert answers[0] is error
    assert all(not isinstance(answer, BaseException) for answer in answers[1:])
    assert runs.started == 2  # one of the joiners ran again, for all of them


async def test_who_comes_upon_a_run_that_has_just_failed_does_not_spin() -> None:
    """In the turn in which the run fails, its end is known to nobody yet: a joiner must start its own."""
    cache, _ = cache_of()
    loop = asyncio.get_running_loop()
    joined: list[asyncio.Task[Any]] = []

    async def fails() -> Ran:
        # Both handles are ready in one turn: this task's last step, then the joiner's first.
        loop.call_soon(lambda: None)
        await asyncio.sleep(0)
        joined.append(loop.create_task(cache.get(b"k", at_once(7), PATIENCE)))
        raise QueueFull("full")

    with pytest.raises(QueueFull):
        await cache.get(b"k", fails, PATIENCE)
    (task,) = joined
    answer, result = await asyncio.wait_for(task, 5)
    assert (values_of(answer), result) == ([7], "miss")


async def test_a_failure_is_everybodys_and_is_not_kept() -> None:
    cache, _ = cache_of()
    runs = Runs(ValueError("the model failed"))
    asked = [asyncio.ensure_future(cache.get(b"k", runs, PATIENCE)) for _ in range(3)]
    await asyncio.sleep(0)
    runs.opened.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(answer, ValueError) for answer in answers)
    assert (await cache.get(b"k", at_once(1), PATIENCE))[1] == "miss"


async def test_a_run_that_was_cancelled_before_its_first_step_can_be_asked_for_again() -> None:
    cache, _ = cache_of()
    asked = asyncio.ensure_future(cache.get(b"k", never, PATIENCE))
    await asyncio.sleep(0)
    for task in asyncio.all_tasks():
        if task is not asyncio.current_task() and task is not asked:
            task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert (await asyncio.wait_for(cache.get(b"k", at_once(1), PATIENCE), 5))[1] == "miss"


def test_the_key_is_digest_version_and_inputs() -> None:
    """MLServer's data plane shared cached answers between models and versions."""
    inputs = column(1, 2)
    keys = {
        key_of("d1", "1", inputs),
        key_of("d2", "1", inputs),
        key_of("d1", "2", inputs),
        key_of("d1", "1", column(1, 3)),
        key_of("d1", "1", column(1)),
        key_of("d1", "1", {"y": inputs["x"]}),
        key_of("d1", "1", {"x": inputs["x"].astype(np.float32)}),
        key_of("d1", "1", {"x": inputs["x"].reshape(2, 1)}),
        key_of("d1", "1", {"x": inputs["x"].reshape(1, 2)}),
        key_of("d1\0", "1", inputs),
    }
    assert len(keys) == 10
    assert key_of("d1", "1", inputs) == key_of("d1", "1", column(1, 2))


def objects(*values: Any) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def test_no_two_columns_of_objects_share_a_key() -> None:
    columns = [
        ("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc"), (b"ab", "c"), (b"ab", b"c"), (None, "c"), ("None", "c"),
        (1, "c"), ("1", "c"), (1.0, "c"), (True, "c"), ("True", "c"), ("\ud800", "c"),
    ]  # fmt: skip
    assert len({key_of("d", "1", {"x": objects(*values)}) for values in columns}) == len(columns)


def test_layout_and_order_of_names_are_not_in_the_key() -> None:
    matrix = np.arange(12.0).reshape(3, 4)
    fortran = np.asfortranarray(matrix)
    assert key_of("d", "1", {"a": matrix, "b": matrix}) == key_of("d", "1", {"b": fortran, "a": fortran})


@pytest.mark.parametrize("dtype", ["?", "u1", "i8", "f2", "f4", "U3"])
def test_every_kind_of_array_has_a_key(dtype: str) -> None:
    assert len(key_of("d", "1", {"x": np.zeros(3, dtype)})) == 16
    assert len(key_of("d", "1", {"x": np.zeros((0, 3), dtype)})) == 16
