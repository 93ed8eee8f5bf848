"""Answers that break the contract are named; answers that keep it cost next to nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tidegate.errors import ContractError
from tidegate.serving.runtimes.checked import checked, checker, finite
from tidegate.types import Signature, TensorSpec

SIGNATURE = Signature(
    inputs=(),
    outputs=(TensorSpec("predictions", "INT64"), TensorSpec("scores", "FP64", (-1, 2))),
)
GOOD = {"predictions": np.array([0, 1]), "scores": np.array([[0.9, 0.1], [0.2, 0.8]])}


def test_good_answer_comes_back_itself() -> None:
    assert checker(SIGNATURE)(GOOD, 2) is GOOD


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"predictions": np.array([0])}, "'predictions': 1 rows for 2 rows"),
        ({"predictions": np.array(1)}, "a single value for 2 rows"),
        ({"predictions": [0, 1]}, "list, not an array"),
        ({"predictions": None}, "'predictions' is missing; the model returned"),
        ({"predictions": np.array([0.5, 1.0])}, "float64 where int64 is declared"),
        ({"predictions": np.array(["a", "b"])}, "where int64 is declared"),
        ({"scores": np.array([0.1, 0.2])}, "1 dimensions, 2 declared"),
        ({"scores": np.array([[0.9, 0.1], [np.nan, 0.8]])}, "'scores': not a finite number in row 1"),
        ({"scores": np.array([[np.inf, 0.1], [0.1, 0.8]])}, "not a finite number in row 0"),
        ({"extra": np.array([1, 2])}, "'extra' is not in the signature"),
    ],
)
def test_broken_answer_is_named(change: dict[str, Any], says: str) -> None:
    answer = {name: array for name, array in {**GOOD, **change}.items() if array is not None}
    with pytest.raises(ContractError, match=says):
        checked(answer, 2, SIGNATURE)


def test_no_mapping_is_named() -> None:
    with pytest.raises(ContractError, match="returned ndarray, not named arrays"):
        checked(np.array([1, 2]), 2, SIGNATURE)  # type: ignore[arg-type]


def test_whole_numbers_become_declared_floats() -> None:
    signature = Signature(inputs=(), outputs=(TensorSpec("y", "FP64"),))
    answer = checked({"y": np.array([1, 2], np.int32)}, 2, signature)
    assert answer["y"].dtype == np.float64


def test_nan_is_fine_where_allowed() -> None:
    signature = Signature(inputs=(), outputs=(TensorSpec("y", "FP64", allow_nan=True),))
    checked({"y": np.array([np.nan])}, 1, signature)


@pytest.mark.parametrize("size", [1, 4096, 5000])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_large_numbers_are_finite(size: int, dtype: Any) -> None:
    values = np.full(size, np.finfo(dtype).max, dtype)
    assert finite(values)
    for broken in (np.nan, np.inf, -np.inf):
        values[-1] = broken
        assert not finite(values)


def test_empty_is_finite() -> None:
    assert finite(np.zeros((0, 3)))
