from __future__ import annotations

import numpy as np
import pytest

from tidegate.apps.scoring import answers_of
from tidegate.types import Signature, TensorSpec

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
