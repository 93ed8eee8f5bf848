"""Named tensors of the Open Inference Protocol, checked against a model's signature, whatever carried them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tidegate.errors import InvalidInput, TooLarge
from tidegate.types import NUMPY_DTYPES, Array, Datatype, Signature, TensorSpec

_MOST_SHOWN = 20
_EXACT_INTEGERS = {"FP16": 2**11, "FP32": 2**24, "FP64": 2**53}
"""Every integer up to this size is exact in the float type."""


class SentTensor(NamedTuple):
    """One input as the client sent it; ``read`` gives its elements, flat, once name and shape are accepted."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    read: Callable[[SentTensor, TensorSpec], Array]
    is_raw: bool = False
    """Whether the elements came as bytes behind the JSON part."""


def bind(signature: Signature, sent: Sequence[SentTensor], max_rows: int) -> tuple[dict[str, Array], int]:
    """The model's inputs and their number of rows. Raises InvalidInput or TooLarge, naming the input and place."""
    inputs: dict[str, Array] = {}
    rows = 0
    for spec, tensor in _pair(signature, sent):
        shape = _fitting_shape(spec, tensor)
        if rows and shape[0] != rows:
            raise InvalidInput(
                f'input "{tensor.name}" has {shape[0]} rows, input "{next(iter(inputs))}" has {rows}', (tensor.name,)
            )
        rows = shape[0]
        if rows > max_rows:
            raise TooLarge(f'input "{tensor.name}": {rows} rows, at most {max_rows} in one request', (tensor.name,))
        inputs[spec.name] = _fit(spec, tensor).reshape(shape)
    if signature.is_matrix and signature.inputs[0].name not in inputs:
        spec = signature.inputs[0]
        columns = [inputs[name].reshape(-1) for name in spec.columns]
        return {spec.name: np.stack(columns, axis=1)}, rows
    return inputs, rows


def _pair(signature: Signature, sent: Sequence[SentTensor]) -> list[tuple[TensorSpec, SentTensor]]:
    """Each sent tensor with the spec of its name. A matrix may come as one tensor per column."""
    specs = {spec.name: spec for spec in signature.inputs}
    by_name = {tensor.name: tensor for tensor in sent}
    if len(by_name) < len(sent):
        seen: set[str] = set()
        name = next(t.name for t in sent if t.name in seen or seen.add(t.name))  # type: ignore[func-returns-value]
        raise InvalidInput(f'input "{name}" is given twice', (name,))
    if signature.is_matrix and not by_name.keys() & specs.keys():
        matrix = signature.inputs[0]
        if matrix.columns and by_name.keys() & set(matrix.columns):
            specs = {
                column: TensorSpec(column, matrix.datatype, (-1,), allow_nan=matrix.allow_nan)
                for column in matrix.columns
            }
    for name in by_name:
        if name not in specs:
            raise InvalidInput(f'unknown input "{name}"; the model takes {_taken(specs)}', (name,))
    for spec in specs.values():
        if spec.required and spec.name not in by_name:
            raise InvalidInput(f'input "{spec.name}" is missing; the model takes {_taken(specs)}', (spec.name,))
    return [(spec, by_name[name]) for name, spec in specs.items() if name in by_name]


def _taken(specs: Mapping[str, TensorSpec]) -> str:
    """The inputs as a client has to declare them."""
    shown = [
        f'"{spec.name}" {spec.datatype} {list(spec.shape)}{"" if spec.required else " (optional)"}'
        for spec in list(specs.values())[:_MOST_SHOWN]
    ]
    more = len(specs) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _fitting_shape(spec: TensorSpec, tensor: SentTensor) -> tuple[int, ...]:
    """The shape the model gets; one column may be sent as [n] or [n, 1], whichever the model declares."""
    have, want = tensor.shape, spec.shape
    if len(have) != len(want):
        if len(want) == 1 and len(have) == 2 and have[1] == 1:
            have = have[:1]
        elif len(have) == 1 and want[1:] == (1,):
            have = (have[0], 1)
    if len(have) != len(want) or any(w not in (-1, h) for h, w in zip(have[1:], want[1:], strict=True)):
        hint = ""
        if have == want[1:]:
            hint = f"; the first dimension counts rows, so send {[1, *have]} for one row"
        raise InvalidInput(
            f'input "{tensor.name}": shape {list(tensor.shape)} does not fit {list(want)}{hint}', (tensor.name,)
        )
    if min(have) < 1:
        raise InvalidInput(
            f'input "{tensor.name}": shape {list(tensor.shape)}; every dimension must be at least 1', (tensor.name,)
        )
    return have


def _fit(spec: TensorSpec, tensor: SentTensor) -> Array:
    """Elements in the model's own type. Only conversions that cannot lose anything are made."""
    datatype, want = tensor.datatype, spec.datatype
    if datatype == want:
        array = tensor.read(tensor, spec)
    else:
        bounds = _conversion(datatype, want, tensor.name)
        array = tensor.read(tensor, spec)
        if bounds is not None:
            _check_range(array, bounds, spec, tensor)
        array = array.astype(NUMPY_DTYPES[want])
    if array.dtype.kind == "f" and not spec.allow_nan and not np.isfinite(array).all():
        index = int(np.flatnonzero(~np.isfinite(array))[0])
        raise refused(spec, tensor, index, f"expected a finite number, got {array[index]}")
    return array


def _conversion(datatype: str, want: Datatype, name: str) -> tuple[int, int] | None:
    """The range within which values convert without loss; None where all do."""
    if datatype not in NUMPY_DTYPES:
        raise InvalidInput(f'input "{name}": datatype "{datatype}" is not one of {", ".join(NUMPY_DTYPES)}', (name,))
    have_kind, want_kind = NUMPY_DTYPES[datatype].kind, NUMPY_DTYPES[want].kind
    if have_kind in "iu" and want_kind in "iu":
        info = np.iinfo(NUMPY_DTYPES[want])
        return int(info.min), int(info.max)
    if have_kind in "iu" and want_kind == "f":
        return -_EXACT_INTEGERS[want], _EXACT_INTEGERS[want]
    if have_kind == "b" and want_kind in "iuf":
        return None
    if have_kind == want_kind == "f" and NUMPY_DTYPES[datatype].itemsize < NUMPY_DTYPES[want].itemsize:
        return None
    raise InvalidInput(
        f'input "{name}": datatype {datatype} cannot be taken as {want} without loss; send {want}', (name,)
    )


def _check_range(array: Array, bounds: tuple[int, int], spec: TensorSpec, tensor: SentTensor) -> None:
    low, high = bounds
    for index in (int(array.argmin()), int(array.argmax())):
        value = int(array[index])
        if not low <= value <= high:
            raise refused(spec, tensor, index, f"{value} does not fit {spec.datatype} without loss")


def refused(spec: TensorSpec, tensor: SentTensor, index: int, problem: str) -> InvalidInput:
    """An error at a flat index, told as row and column."""
    return refused_at(spec, tensor, place_of(index, tensor.shape), problem)


def place_of(index: int, shape: Sequence[int]) -> list[int]:
    """Index by dimension; of a flat index that is past the shape, the index itself. Sizes may be absurd: a client names them."""
    if index >= math.prod(shape):
        return [index]
    place = []
    for size in reversed(shape):
        index, here = divmod(index, size)
        place.append(here)
    return place[::-1]


def refused_at(spec: TensorSpec, tensor: SentTensor, place: Sequence[int], problem: str) -> InvalidInput:
    where = f'input "{tensor.name}"'
    if place:
        where += f", row {place[0]}"
    if len(place) == 2:
        column = place[1]
        where += f', column "{spec.columns[column]}"' if column < len(spec.columns) else f", column {column}"
    elif len(place) > 2:
        where += f", position {list(place[1:])}"
    return InvalidInput(f"{where}: {problem}", (tensor.name, *place))
