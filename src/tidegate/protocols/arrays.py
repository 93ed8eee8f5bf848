"""Plain values of one input to one array. The common case is a few calls in C; only a failure is walked cell by cell."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, NoReturn

import msgspec
import numpy as np

from tidegate.errors import InvalidInput
from tidegate.types import NUMPY_DTYPES, Array, TensorSpec

Locate = Callable[[tuple[int, ...]], tuple[str, tuple[Any, ...]]]
"""From a cell's index (row first) to words for people and the path in the body."""

_PLACES = 10
"""Most places that one error lists."""

_NONE = type(None)
_NUMBERS = {int, float}
_LISTS = {list, tuple}


def to_array(values: Sequence[Any], spec: TensorSpec, locate: Locate) -> Array:
    """The array of ``spec`` with one row per value. Raises InvalidInput that names the first bad cells.

    Booleans are no numbers; whole floats are integers; null is missing (NaN or None) where ``allow_nan``, else refused.
    """
    dtype = NUMPY_DTYPES[spec.datatype]
    flat, dims = _flatten(values, len(spec.shape), spec, locate)
    if dtype.kind == "f":
        array = _floats(flat, dtype, spec)
    elif dtype.kind == "O":
        array = _objects(flat, spec)
    else:
        array = _integers(flat, dtype)
    if array is None:
        _refuse_cells(flat, dims, spec, locate)
    return array.reshape(dims)


def cast(array: Array, spec: TensorSpec, locate: Locate) -> Array:
    """An array that came typed, in the datatype and shape of ``spec``; refuses what would change a value's meaning."""
    dtype = NUMPY_DTYPES[spec.datatype]
    array = _align(array, spec, locate)
    if dtype.kind == "O":
        if array.dtype.kind not in "OUS":
            raise InvalidInput(f"{_name(locate)}: expected {_wanted(spec)}, got {array.dtype.name}", locate(())[1])
        return to_array(array.tolist(), spec, locate)
    if array.dtype.kind in "OUS" or (array.dtype.kind == "b") != (dtype.kind == "b"):
        raise InvalidInput(f"{_name(locate)}: expected {spec.datatype}, got {_kind(array)}", locate(())[1])
    if dtype.kind in "iu":
        return _cast_integers(array, dtype, spec, locate)
    if dtype.kind == "b":
        return np.ascontiguousarray(array, dtype)
    with np.errstate(over="ignore"):
        result = np.ascontiguousarray(array, dtype)
    if not np.isfinite(result).all():
        bad = ~np.isfinite(result) & np.isfinite(array) if spec.allow_nan else ~np.isfinite(result)
        if bad.any():
            _refuse_array(array, bad, spec, locate)
    return result


def finite(array: Array, largest: float) -> bool:
    """Whether every value of a float64 array is finite and at most ``largest``; one product usually tells."""
    flat = array.ravel()
    return bool(flat.dot(flat) < largest * largest or (np.abs(flat) <= largest).all())


def largest_of(dtype: np.dtype[Any]) -> float:
    return float(np.finfo(dtype).max)


def show(value: Any) -> str:
    """A short form of a client's value."""
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, bytes | bytearray | memoryview):
        return "bytes"
    if isinstance(value, bool | str):
        text = msgspec.json.encode(value[:41] if isinstance(value, str) else value).decode()
        return text if len(text) <= 43 else text[:40] + '…"'
    if isinstance(value, int) and value.bit_length() > 128:
        return "a very large integer"
    return str(value)[:40]


def _flatten(
    values: Sequence[Any], depth: int, spec: TensorSpec, locate: Locate
) -> tuple[Sequence[Any], tuple[int, ...]]:
    """All cells in row-major order, and the shape; refuses ragged or wrongly nested rows."""
    dims = [len(values)]
    flat = values
    for level in range(1, depth):
        if not set(map(type, flat)) <= _LISTS:
            _refuse_nesting(flat, dims, spec, locate)
        lengths = set(map(len, flat))
        wanted = width_of(spec, level)
        if len(lengths) > 1 or (wanted >= 0 and lengths != {wanted}):
            _refuse_lengths(flat, dims, wanted, locate)
        dims.append(lengths.pop() if lengths else max(wanted, 0))
        flat = list(chain.from_iterable(flat))
    return flat, tuple(dims)


def _floats(flat: Sequence[Any], dtype: np.dtype[Any], spec: TensorSpec) -> Array | None:
    kinds = set(map(type, flat))
    if _NONE in kinds and spec.allow_nan:
        kinds.discard(_NONE)
    if not kinds <= _NUMBERS:
        return None
    try:
        wide = np.array(flat, np.float64)
    except OverflowError:
        return None
    if not finite(wide, largest_of(dtype)) and not (spec.allow_nan and _only_gaps(wide, dtype)):
        return None
    return wide.astype(dtype, copy=False)


def _only_gaps(wide: Array, dtype: np.dtype[Any]) -> bool:
    """Whether all finite values fit the type."""
    return bool((~np.isfinite(wide) | (np.abs(wide) <= largest_of(dtype))).all())


def _integers(flat: Sequence[Any], dtype: np.dtype[Any]) -> Array | None:
    kinds = set(map(type, flat))
    if dtype.kind == "b":
        return np.array(flat, dtype) if kinds <= {bool} else None
    if not kinds <= _NUMBERS:
        return None
    if float in kinds:
        if not all(type(value) is int or value.is_integer() for value in flat):
            return None
        flat = [int(value) for value in flat]
    try:
        return np.array(flat, dtype)
    except OverflowError:
        return None


def _objects(flat: Sequence[Any], spec: TensorSpec) -> Array | None:
    wanted, read = (bytes, _blob) if spec.content in ("image", "binary") else (str, _text)
    kinds = set(map(type, flat))
    if spec.allow_nan:
        kinds.discard(_NONE)
    if kinds - {wanted}:
        values = [None if value is None else read(value) for value in flat]
        for value, given in zip(values, flat, strict=True):
            if value is None and not (given is None and spec.allow_nan):
                return None
        flat = values
    array = np.empty(len(flat), object)
    array[:] = flat
    return array


def _blob(value: Any) -> bytes | None:
    """Bytes as they are; text as base64, also as a ``data:`` URL or ``{"b64": text}``; None for anything else."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, dict) and value.keys() == {"b64"}:
        value = value["b64"]
    if not isinstance(value, str):
        return None
    if value.startswith("data:"):
        head, comma, value = value.partition(",")
        if not comma or not head.endswith(";base64"):
            return None
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None


def _text(value: Any) -> str | None:
    """Text as it is; UTF-8 bytes decoded; None for anything else."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None
    return value if isinstance(value, str) else None


def _cast_integers(array: Array, dtype: np.dtype[Any], spec: TensorSpec, locate: Locate) -> Array:
    limits = np.iinfo(dtype)
    if array.dtype.kind == "f":
        wide = array.astype(np.float64)
        bad = ~(np.isfinite(wide) & (np.floor(wide) == wide))
        # The largest 64-bit integers have no exact float, so the upper bound is compared as "less than 2**n".
        bad |= ~((wide >= float(limits.min)) & (wide < float(limits.max) + 1.0))
    elif array.dtype == dtype:
        return np.ascontiguousarray(array)
    else:
        given = np.iinfo(array.dtype)
        low = array < limits.min if given.min < limits.min else False
        high = array > limits.max if given.max > limits.max else False
        bad = np.broadcast_to(np.asarray(low | high), array.shape)
    if bad.any():
        _refuse_array(array, bad, spec, locate)
    return np.ascontiguousarray(array).astype(dtype)


def _align(array: Array, spec: TensorSpec, locate: Locate) -> Array:
    """The array in the spec's rank and widths; (n,) and (n, 1) stand for each other."""
    rank = len(spec.shape)
    if array.ndim == 1 and rank == 2 and spec.shape[1] in (1, -1) and not spec.columns:
        array = array.reshape(-1, 1)
    elif array.ndim == 2 and rank == 1 and array.shape[1] == 1:
        array = array.reshape(-1)
    fits = array.ndim == rank and all(width_of(spec, i) in (-1, array.shape[i]) for i in range(1, rank))
    if not fits:
        wanted = [-1, *(width_of(spec, i) for i in range(1, rank))]
        raise InvalidInput(f"{_name(locate)}: expected shape {wanted}, got {list(array.shape)}", locate(())[1])
    return array


def _refuse_nesting(flat: Sequence[Any], dims: list[int], spec: TensorSpec, locate: Locate) -> NoReturn:
    for position, value in enumerate(flat):
        if type(value) not in _LISTS:
            words, loc = locate(_unravel(position, dims))
            length = width_of(spec, len(dims))
            many = f"a list of {length} values" if length >= 0 else "a list of values"
            raise InvalidInput(f"{words}: expected {many}, got {show(value)}", loc)
    raise AssertionError


def _refuse_lengths(flat: Sequence[Any], dims: list[int], wanted: int, locate: Locate) -> NoReturn:
    if wanted < 0:
        wanted = len(flat[0])
    for position, value in enumerate(flat):
        if len(value) != wanted:
            words, loc = locate(_unravel(position, dims))
            raise InvalidInput(f"{words}: expected {wanted} values, got {len(value)}", loc)
    raise AssertionError


def _refuse_cells(flat: Sequence[Any], dims: tuple[int, ...], spec: TensorSpec, locate: Locate) -> NoReturn:
    bad = ((_unravel(position, dims), value) for position, value in enumerate(flat) if _fault(value, spec))
    _refuse(bad, spec, locate)


def _refuse_array(array: Array, bad: Array, spec: TensorSpec, locate: Locate) -> NoReturn:
    places = (tuple(int(i) for i in index) for index in np.argwhere(bad))
    _refuse(((index, array[index].item()) for index in places), spec, locate)


def _refuse(bad: Iterator[tuple[tuple[int, ...], Any]], spec: TensorSpec, locate: Locate) -> NoReturn:
    errors: list[dict[str, Any]] = []
    first = ""
    for index, value in bad:
        words, loc = locate(index)
        message = _fault(value, spec)
        first = first or f"{words}: {message}"
        errors.append({"loc": loc, "msg": message})
        if len(errors) == _PLACES:
            break
    raise InvalidInput(
        first or f"{_name(locate)}: expected {_wanted(spec)}", errors[0]["loc"] if errors else (), errors
    )


def _fault(value: Any, spec: TensorSpec) -> str:
    """What is wrong with one cell; empty when nothing is."""
    dtype = NUMPY_DTYPES[spec.datatype]
    if value is None:
        if not spec.allow_nan or dtype.kind in "iub":
            return f"expected {_wanted(spec)}, got null (missing values are not allowed here)"
        return ""
    if dtype.kind == "O":
        good = _blob(value) if spec.content in ("image", "binary") else _text(value)
        return "" if good is not None else f"expected {_wanted(spec)}, got {show(value)}"
    if dtype.kind == "b":
        return "" if type(value) is bool else f"expected true or false, got {show(value)}"
    if type(value) is bool:
        return f"expected {_wanted(spec)}, got {show(value)} (send {int(value)})"
    if type(value) not in _NUMBERS:
        return f"expected {_wanted(spec)}, got {show(value)}"
    if dtype.kind in "iu":
        if type(value) is float and not value.is_integer():
            return f"expected {_wanted(spec)}, got {show(value)}"
        limits = np.iinfo(dtype)
        if not limits.min <= value <= limits.max:
            return f"{show(value)} is out of range for {spec.datatype} ({limits.min} to {limits.max})"
        return ""
    if type(value) is float and not math.isfinite(value):
        return "" if spec.allow_nan else f"expected a finite number, got {show(value)}"
    if abs(value) > float(np.finfo(dtype).max):
        return f"{show(value)} is out of range for {spec.datatype}"
    return ""


def _wanted(spec: TensorSpec) -> str:
    kind = NUMPY_DTYPES[spec.datatype].kind
    if kind == "O":
        return {"image": "an image as base64 text", "binary": "bytes as base64 text"}.get(spec.content, "text")
    return {"b": "true or false", "f": "number"}.get(kind, "whole number")


def _kind(array: Array) -> str:
    return "text" if array.dtype.kind in "OUS" else array.dtype.name


def width_of(spec: TensorSpec, level: int) -> int:
    """Values that a dimension must have; -1 when any number will do."""
    width = spec.shape[level]
    return len(spec.columns) if width < 0 and level == 1 and spec.columns else width


def _name(locate: Locate) -> str:
    return locate(())[0]


def _unravel(position: int, dims: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(position, tuple(dims)))
