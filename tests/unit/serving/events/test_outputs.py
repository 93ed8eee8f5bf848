from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.observations import label_of
from tidegate.serving.events.outputs import (
    OTHER,
    OUTPUT_KINDS,
    bin_of,
    bins_of,
    count_outputs,
    name_of_bin,
    output_of,
    predicted,
)
from tidegate.types import Signature, TensorSpec


def counted(*arrays: Any, labels: tuple[str, ...] = ()) -> dict[str, int]:
    kinds: dict[str, int] = {}
    count_outputs(kinds, [predicted(np.asarray(array)) for array in arrays], labels)
    return kinds


def test_classes_are_counted_by_their_label() -> None:
    assert counted([0, 2, 2], [1], labels=("setosa", "versicolor", "virginica")) == {
        "setosa": 1, "versicolor": 1, "virginica": 2,
    }  # fmt: skip
    assert counted([1, 2, 3], labels=("1", "2", "3")) == {"1": 1, "2": 1, "3": 1}
    assert counted([0.0, 1.0], labels=("no", "yes")) == {"no": 1, "yes": 1}
    assert counted([[1], [1]]) == {"1": 2}
    assert counted([True, False, True]) == {"true": 2, "false": 1}
    assert counted(np.array(["a", "b", "a"], object)) == {"a": 2, "b": 1}
    assert counted([-1, 1, 1]) == {"-1": 1, "1": 2}


def test_the_same_class_is_one_label_wherever_it_comes_from() -> None:
    assert {label_of(1), label_of(1.0), label_of("1"), label_of(np.int64(1).item())} == {"1"}
    assert (label_of(True), label_of("true"), label_of(0.5)) == ("true", "true", "0.5")
    assert (label_of(1, ("a", "b")), label_of(5, ("a", "b")), label_of("a", ("a", "b"))) == ("b", "5", "a")


def test_numbers_are_counted_by_bins_that_never_move() -> None:
    assert counted([0.0, 1.0, 1.1, 2.0, -2.0]) == {
        "0": 1, name_of_bin(bin_of(1.0)): 2, name_of_bin(bin_of(2.0)): 1, name_of_bin(bin_of(-2.0)): 1,
    }  # fmt: skip
    assert name_of_bin(bin_of(200.0)) == "177.8..205.4"
    assert name_of_bin(bin_of(-200.0)) == "-205.4..-177.8"
    assert counted([200, 64, 63]) == {"63": 1, name_of_bin(bin_of(64)): 1, name_of_bin(bin_of(200)): 1}


@settings(derandomize=True, max_examples=200, deadline=None, database=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_bins_keep_the_order_of_numbers(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert bin_of(low) <= bin_of(high)
    assert bin_of(-one) == -bin_of(one)


def test_any_number_has_a_bin() -> None:
    assert bins_of(np.array([np.nan, np.inf, -np.inf, 5e-324, 1e300])).tolist()[0] == 0


def test_whatever_a_model_puts_into_one_list_is_counted() -> None:
    """Or one odd answer would keep everything else from being counted, and fail the request that comes with it."""
    odd = [1.0, "a", b"b", None, True, math.nan, 10**400, -(10**400), np.float64(0.3)]
    array = np.empty(len(odd), object)
    array[:] = odd
    assert counted(array) == {
        name_of_bin(bin_of(1.0)): 2, "a": 1, "bytes": 1, "0": 1, name_of_bin(bin_of(1e18)): 1,
        name_of_bin(bin_of(-1e18)): 1, name_of_bin(bin_of(0.3)): 1, "None": 1,
    }  # fmt: skip


def test_a_text_that_no_file_can_hold_is_counted_under_one_that_can() -> None:
    """A window that cannot be written would hold up those beside it."""
    assert counted(np.array(["a\ud800", "a\udfff", "é"], object)) == {"a?": 2, "é": 1}


class Unhashed:
    def __hash__(self) -> int:
        raise RuntimeError("no hash")

    def __str__(self) -> str:
        return "shown"


class Unequal:
    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise ValueError("no truth")


class Unwritten:
    def __str__(self) -> str:
        raise KeyError("no text")


def test_objects_that_can_do_nothing_are_counted_by_what_can_be_told() -> None:
    odd = [Unhashed(), Unhashed(), Unwritten(), "a", [1], 2.0]
    array = np.empty(len(odd), object)
    array[:] = odd
    assert counted(array, ["a"]) == {"shown": 2, "Unwritten": 1, "a": 2, "[1]": 1, name_of_bin(bin_of(2.0)): 1}
    array = np.empty(2, object)
    array[:] = [Unequal(), Unequal()]
    assert sum(counted(array).values()) == 2


def test_kinds_are_bounded() -> None:
    kinds = counted(np.array([f"class {number}" for number in range(500)], object))
    assert len(kinds) == OUTPUT_KINDS
    assert kinds[OTHER] == 500 - (OUTPUT_KINDS - 1)
    assert sum(counted(np.geomspace(1e-6, 1e12, 5000)).values()) == 5000
    assert max(map(len, counted(np.array(["x" * 5000], object)))) == 64


def test_answers_that_are_not_one_value_a_row_are_not_counted() -> None:
    assert counted(np.zeros((2, 3))) == {}
    assert counted(np.zeros((1, 3))) == {}
    assert counted(np.zeros((0,))) == {}


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["predictions", "scores"], "predictions"),
        (["price"], "price"),
        ([], "predictions"),
        (["a", "b"], "predictions"),
    ],
)
def test_which_output_is_counted(names: list[str], found: str) -> None:
    signature = Signature((TensorSpec("x", "FP32"),), tuple(TensorSpec(name, "FP32") for name in names))
    assert output_of(signature) == found
