from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.unit.serving.plane import loaded
from tidegate.apps.scoring import FileScorer, answers_of
from tidegate.control.jobs.task import Cancelled
from tidegate.errors import InvalidInput
from tidegate.types import Signature, Tensors, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("x", "FP64", (-1, 1)),), (TensorSpec("predictions", "INT64", (-1,)),), ("no", "yes"), {}
)


@pytest.mark.parametrize(
    ("predictions", "labels"), [([1, 0], ["yes", "no"]), ([1, -1, 2], ["yes", None, None]), ([], [])]
)
def test_all_pieces_of_a_file_have_the_same_columns(predictions: list[int], labels: list[str | None]) -> None:
    found = answers_of({"predictions": np.array(predictions, np.int64)}, SIGNATURE)
    assert list(found) == ["predictions", "labels"]
    assert found["labels"].tolist() == labels


@pytest.mark.parametrize("values", [np.array([True, False]), [True, False], [1, 0.0]])
def test_booleans_of_a_file_are_numbers_to_a_model_that_takes_numbers(values: Any) -> None:
    """It was trained on them as such, and the same file must not be refused row by row."""
    specs = (TensorSpec("paid", "FP64", (-1,)), TensorSpec("name", "BYTES", (-1,)))
    scorer = FileScorer(loaded(dict, signature=Signature(specs, (), (), {})), "1")
    found = scorer.inputs(["paid", "name"], [values, ["a", "b"]])
    assert found["paid"].tolist() == [1.0, 0.0]
    with pytest.raises(InvalidInput, match='column "name": expected'):
        scorer.inputs(["paid", "name"], [values, [True, False]])


def test_a_long_piece_tells_how_far_it_is_and_can_be_ended() -> None:
    def double(inputs: Tensors) -> Tensors:
        return {"predictions": inputs["x"] * 2}

    signature = Signature((TensorSpec("x", "FP64", (-1,)),), (TensorSpec("predictions", "FP64", (-1,)),), (), {})
    scorer = FileScorer(loaded(double, signature=signature), "1", rows_at_once=4)
    told: list[int] = []
    scorer.told = told.append
    assert len(scorer.predict({"x": np.arange(10.0)})["predictions"]) == 10
    assert told == [4, 4, 2]

    def end(rows: int) -> None:
        raise Cancelled

    scorer.told = end
    with pytest.raises(Cancelled):
        scorer.predict({"x": np.arange(10.0)})
