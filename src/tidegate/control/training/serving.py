"""What the data plane makes of a model: how it would be served, and what a version says about rows.

Control imports nothing of the data plane: a model is inspected by the command, in a process of its own, and the champion
is opened by whoever runs the training.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np

from tidegate.errors import ModelError, UserError
from tidegate.types import NUMPY_DTYPES, Array, ModelRef, Signature, Tensors, TensorSpec

if TYPE_CHECKING:
    import pandas

INSPECT_SECONDS = 300.0
ROWS_AT_ONCE = 1000


class Scorer(Protocol):
    """A loaded model."""

    @property
    def predict(self) -> Callable[[Tensors], Tensors]: ...

    @property
    def signature(self) -> Signature: ...


Opening = Callable[[ModelRef], Scorer]


class Inspected(msgspec.Struct, frozen=True, kw_only=True):
    """``compiled``: whether it is served as an ONNX graph that was shown to give the same answers; ``note`` says how
    closely, or why not."""

    signature: Signature
    compiled: bool
    note: str
    single_row_ms: float = 0.0


class _Described(msgspec.Struct):
    """What this reads of ``tidegate model inspect --json``."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...]
    example: dict[str, dict[str, list[Any]]]
    compiled: bool = False
    compile_note: str = ""
    single_row_ms: float = 0.0


def inspect(path: Path) -> Inspected:
    """As a serving process loads it: verified, compiled if the answers agree, warmed. Raises ModelError."""
    command = [sys.executable, "-m", "tidegate", "model", "inspect", str(path), "--json"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=INSPECT_SECONDS, check=False)  # noqa: S603 - our own command
    except subprocess.TimeoutExpired:
        raise ModelError(f"the trained model cannot be served: it did not load in {INSPECT_SECONDS:g} s") from None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        raise ModelError(f"the trained model cannot be served: {lines[-1].removeprefix('error: ')}")
    found = msgspec.json.decode(done.stdout, type=_Described)
    example = {name: values[0] for name, values in found.example["inputs"].items()}
    signature = Signature(found.inputs, found.outputs, found.labels, example)
    return Inspected(
        signature=signature, compiled=found.compiled, note=found.compile_note, single_row_ms=found.single_row_ms
    )


class Said(msgspec.Struct, frozen=True):
    """One prediction a row, as served; ``labels`` names the columns of the scores where the model does."""

    predictions: list[Any]
    scores: Array | None
    labels: tuple[str, ...]


def ask(scorer: Scorer, frame: pandas.DataFrame, features: Sequence[str]) -> Said:
    """What a version says about a table; columns that it does not take are left out. Raises UserError where the table has
    not what it takes, and whatever the model raises."""
    predictions: list[Any] = []
    scores: list[Array] = []
    for start in range(0, len(frame), ROWS_AT_ONCE):
        part = frame.iloc[start : start + ROWS_AT_ONCE]
        outputs = scorer.predict(tensors_of(scorer.signature, part, features))
        if "predictions" not in outputs:
            raise UserError("it gives no predictions by that name")
        predictions += outputs["predictions"].tolist()
        given = outputs.get("scores")
        if given is not None and given.ndim == 2:
            scores.append(given.astype(float))
    whole = np.concatenate(scores) if scores and sum(map(len, scores)) == len(frame) else None
    return Said(predictions, whole, scorer.signature.labels)


def tensors_of(signature: Signature, frame: pandas.DataFrame, features: Sequence[str]) -> Tensors:
    """The table as the model takes it. ``features`` is the order of a matrix whose columns have no names."""
    if signature.is_matrix:
        spec = signature.inputs[0]
        columns = list(spec.columns or features)
        _must_have(frame, columns)
        if spec.shape[1] not in (-1, len(columns)):
            raise UserError(f"it takes {spec.shape[1]} columns, the table has {len(columns)} features")
        return {spec.name: _numbers(frame[columns].to_numpy(), spec)}
    _must_have(frame, [spec.name for spec in signature.inputs if spec.required])
    return {spec.name: _column(frame, spec) for spec in signature.inputs if spec.name in frame.columns}


def _must_have(frame: pandas.DataFrame, columns: Sequence[str]) -> None:
    absent = [name for name in columns if name not in frame.columns]
    if absent:
        raise UserError(f"it takes the column {absent[0]!r}, which the table has not")


def _column(frame: pandas.DataFrame, spec: TensorSpec) -> Array:
    values = frame[spec.name]
    if spec.datatype == "BYTES":
        array = np.empty(len(values), object)
        array[:] = [None if value is None or value != value else str(value) for value in values]
        return array.reshape(-1, *spec.shape[1:])
    return _numbers(values.to_numpy(), spec).reshape(-1, *spec.shape[1:])


def _numbers(values: Array, spec: TensorSpec) -> Array:
    try:
        numbers = values.astype(float)
        if np.isnan(numbers).any() and not spec.allow_nan:
            raise UserError(f"it takes no missing values in {spec.name!r}")
        return numbers.astype(NUMPY_DTYPES[spec.datatype])
    except ValueError as error:
        raise UserError(f"it takes numbers in {spec.name!r}, the table has text") from error
