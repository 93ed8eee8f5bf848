"""A remembered JSON part must read tensors exactly as the full checks do, and complain exactly as they do."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tidegate.errors import RequestError
from tidegate.protocols.base import Request, Response
from tidegate.protocols.v2 import OpenInference
from tidegate.testing.predictor import FakePredictor
from tidegate.types import Array, Signature, Tensors, TensorSpec

TWO = Signature(
    inputs=(TensorSpec("a", "FP32", (-1, 2)), TensorSpec("b", "INT64", (-1,))),
    outputs=(TensorSpec("predictions", "FP64", (-1,)),),
)


def total(inputs: Tensors) -> Tensors:
    return {"predictions": inputs["a"].sum(axis=1).astype(np.float64) + inputs["b"]}


def body_of(a: Array, b: Array, **more: Any) -> tuple[bytes, bytes]:
    """JSON part and tensors."""
    inputs = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": datatype,
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array, datatype in (("a", a, "FP32"), ("b", b, "INT64"))
    ]
    return json.dumps({"inputs": inputs, **more}).encode(), a.tobytes() + b.tobytes()


class Caller:
    def __init__(self) -> None:
        self.predictor = FakePredictor()
        self.predictor.live.add("two", TWO, total, max_rows=100)
        made: Any = self.predictor
        self.protocol = OpenInference(made)

    async def infer(self, head: bytes, tensors: bytes) -> Response:
        headers = {b"inference-header-content-length": b"%d" % len(head)}
        request = Request("POST", "", b"", headers, head + tensors, {"model": "two"}, "r", 0.0)
        return await self.protocol.infer(request)

    async def predictions(self, head: bytes, tensors: bytes) -> list[float]:
        answer = json.loads((await self.infer(head, tensors)).body)
        return list(answer["outputs"][0]["data"])


def arrays(seed: int, rows: int = 3) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    return random.normal(size=(rows, 2)).astype(np.float32), random.integers(0, 9, rows)


async def test_other_tensors_behind_the_same_json_part_give_their_own_answers() -> None:
    caller = Caller()
    for seed in range(5):
        a, b = arrays(seed)
        found = await caller.predictions(*body_of(a, b))
        assert found == pytest.approx((a.sum(axis=1) + b).tolist())


@pytest.mark.parametrize("cut", [1, 8, -1])
async def test_tensors_of_another_length_are_refused_the_second_time_too(cut: int) -> None:
    caller = Caller()
    head, tensors = body_of(*arrays(0))
    await caller.infer(head, tensors)
    wrong = tensors[:-cut] if cut > 0 else tensors + b"\0"
    with pytest.raises(RequestError) as later:
        await caller.infer(head, wrong)
    with pytest.raises(RequestError) as at_first:
        await Caller().infer(head, wrong)
    assert str(later.value) == str(at_first.value)


async def test_a_value_that_is_not_finite_is_named_the_second_time_too() -> None:
    caller = Caller()
    a, b = arrays(0)
    await caller.infer(*body_of(a, b))
    a[1, 1] = np.nan
    with pytest.raises(RequestError, match="finite"):
        await caller.infer(*body_of(a, b))


async def test_ids_are_echoed_and_not_mixed_up() -> None:
    caller = Caller()
    for name in ("first", "second"):
        answer = json.loads((await caller.infer(*body_of(*arrays(0), id=name))).body)
        assert answer["id"] == name


async def test_a_reloaded_endpoint_is_checked_anew() -> None:
    caller = Caller()
    head, tensors = body_of(*arrays(0))
    await caller.infer(head, tensors)
    caller.predictor.live.add("two", TWO, total, max_rows=2)
    with pytest.raises(RequestError, match="at most 2"):
        await caller.infer(head, tensors)
