"""Shadows get copies; they never change, slow or fail an answer."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from tests.unit.serving.plane import Gate, Plane, failing, serving, times, until
from tidegate.serving.shadow import MOST_IN_FLIGHT, agrees
from tidegate.telemetry import REQUEST_SECONDS, REQUESTS
from tidegate.types import Tensors

pytestmark = pytest.mark.usefixtures("unblocked")


def shadow_counts(plane: Plane) -> dict[str, float]:
    counts = plane.counts(REQUESTS)
    return {outcome: value for (variant, protocol, outcome), value in counts.items() if protocol == "shadow"}


async def test_agreement_is_counted() -> None:
    def half(inputs: Tensors) -> Tensors:
        return {"predictions": np.where(inputs["x"] < 2, inputs["x"], -inputs["x"])}

    async with serving({"baseline": times(1), "shadow": half}, shadows=("shadow",)) as plane:
        assert [await plane.ask(value) for value in (0, 1, 2, 3, 4)] == [[0], [1], [2], [3], [4]]
        await until(lambda: sum(shadow_counts(plane).values()) == 5)
        assert shadow_counts(plane) == {"agree": 2, "differ": 3}
        assert plane.counts(REQUESTS)["baseline", "native", "ok"] == 5
        assert sum(plane.metrics.read()[REQUEST_SECONDS.name, "e", "shadow"][:-1]) == 5
        statistics = plane.live.statistics("e")["shadow"]
        assert (statistics["shadow_agree"], statistics["shadow_differ"], statistics["success"]) == (2, 3, 0)


async def test_a_shadow_that_hangs_delays_nobody_and_is_bounded() -> None:
    gate = Gate()
    async with serving({"baseline": times(2), "shadow": gate}, shadows=("shadow",)) as plane:
        for _ in range(MOST_IN_FLIGHT + 40):
            assert await plane.ask(1) == [2]
        assert plane.live.endpoint("e").shadows_in_flight == MOST_IN_FLIGHT
        assert shadow_counts(plane) == {"refused": 40}
        gate.open()
        await until(lambda: plane.live.endpoint("e").shadows_in_flight == 0)
        assert shadow_counts(plane) == {"refused": 40, "differ": MOST_IN_FLIGHT}


async def test_a_shadow_that_fails_is_counted_and_ejected() -> None:
    async with serving({"baseline": times(2), "shadow": failing}, shadows=("shadow",)) as plane:
        for number in range(9):
            assert await plane.ask(1) == [2]
            await until(lambda wanted=number + 1: sum(shadow_counts(plane).values()) == wanted)  # type: ignore[misc]
        assert shadow_counts(plane) == {"failed": 5, "refused": 4}
        assert plane.live.not_ready() == []


async def test_a_failed_request_has_no_copy() -> None:
    gate = Gate()
    async with serving({"baseline": failing, "shadow": gate}, shadows=("shadow",)) as plane:
        with pytest.raises(Exception, match="fails"):
            await plane.ask(1)
        await asyncio.sleep(0)
        assert gate.batches == []
        gate.open()


async def test_a_forced_shadow_answers_and_is_not_copied_to_itself() -> None:
    async with serving({"baseline": times(2), "shadow": times(3)}, shadows=("shadow",)) as plane:
        assert await plane.ask(1, forced="shadow") == [3]
        assert shadow_counts(plane) == {}


async def test_shadows_yield_to_everybody_else() -> None:
    """A copy is bulk work: real requests of the shadow's model go first."""
    gate = Gate()
    async with serving({"baseline": times(2), "shadow": gate}, shadows=("shadow",)) as plane:
        await plane.ask(0)
        await gate.entered()
        await plane.ask(1)
        await asyncio.sleep(0)
        forced = asyncio.ensure_future(plane.ask(9, forced="shadow"))
        await asyncio.sleep(0)
        gate.open()
        assert await forced == [9]
        assert gate.batches[1][0] == 9


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"predictions": np.array([1, 2])}, {"predictions": np.array([1, 2])}, True),
        ({"predictions": np.array([1, 2])}, {"predictions": np.array([1, 3])}, False),
        ({"predictions": np.array([1.0])}, {"predictions": np.array([1.00005])}, True),
        ({"predictions": np.array([1.0])}, {"predictions": np.array([1.001])}, False),
        ({"predictions": np.array([np.nan])}, {"predictions": np.array([np.nan])}, True),
        ({"predictions": np.array([1.0])}, {"predictions": np.array([1])}, True),
        ({"predictions": np.array(["a", "b"], object)}, {"predictions": np.array(["a", "b"], object)}, True),
        ({"predictions": np.array(["a"], object)}, {"predictions": np.array([1.0])}, False),
        ({"predictions": np.array([[1.0]])}, {"predictions": np.array([1.0])}, False),
        ({"predictions": np.array([1])}, {"label": np.array([1])}, False),
        ({"predictions": np.array([1]), "scores": np.array([0.1])}, {"predictions": np.array([1]), "scores": np.array([0.9])}, True),
        ({"a": np.array([1]), "b": np.array([2])}, {"a": np.array([1]), "b": np.array([3])}, False),
    ],
)  # fmt: skip
def test_what_counts_as_the_same_answer(one: Tensors, other: Tensors, same: bool) -> None:
    assert agrees(one, other) is same
