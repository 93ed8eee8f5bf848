"""R2: a batch gives each row the answer that it gets alone."""

from __future__ import annotations

import numpy as np

from tidegate.serving.runtimes.base import LoadedModel
from tidegate.serving.runtimes.checked import checker
from tidegate.serving.runtimes.load import settle
from tidegate.types import Tensors


def assert_batched_equals_single(loaded: LoadedModel, inputs: Tensors, tolerance: float) -> Tensors:
    """Also checks every answer against the signature. Returns the batch's outputs."""
    check = checker(loaded.signature)
    rows = len(next(iter(inputs.values())))
    batched = check(settle(loaded.runtime.predict(inputs)), rows)
    for row in range(rows):
        one = {name: array[row : row + 1] for name, array in inputs.items()}
        single = check(settle(loaded.runtime.predict(one)), 1)
        for name, array in single.items():
            if array.dtype.kind == "f":
                np.testing.assert_allclose(array[0], batched[name][row], rtol=tolerance, atol=tolerance)
            else:
                assert np.all(array[0] == batched[name][row])
    return batched
