"""The check of every answer that a model gives: rows, names, kinds, finite numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from tidegate.errors import ContractError
from tidegate.types import NUMPY_DTYPES, Array, Signature, Tensors

_KINDS: Mapping[str, str] = {"f": "fiub", "i": "iub", "u": "iub", "b": "b", "O": "OUS"}
"""Array kinds that may stand for a declared kind: a whole number is a fine float, not the other way round."""

_FLOATS = ("FP16", "FP32", "FP64")
_DOT_LIMIT = 4096
"""Elements up to which a sum of squares is the cheaper first test of finiteness (0.5 against 1.0 microseconds)."""


def checker(signature: Signature) -> Callable[[Tensors, int], Tensors]:
    """A function ``check(outputs, rows)`` that returns the outputs or raises ContractError naming what is wrong.

    Whole numbers, other precisions and text arrays are brought to the declared datatype. About a
    microsecond for two small outputs.
    """
    specs = tuple(
        (s.name, NUMPY_DTYPES[s.datatype], s.datatype in _FLOATS and not s.allow_nan, len(s.shape))
        for s in signature.outputs
    )
    count = len(specs)

    def check(outputs: Tensors, rows: int) -> Tensors:
        if type(outputs) is not dict and not isinstance(outputs, Mapping):
            raise ContractError(f"the model returned {type(outputs).__name__}, not named arrays")
        changed: dict[str, Array] | None = None
        for name, dtype, must_be_finite, rank in specs:
            array = outputs.get(name)
            if type(array) is not np.ndarray:
                raise ContractError(_missing(name, array, outputs))
            shape = array.shape
            if not shape or shape[0] != rows:
                got = f"{shape[0]} rows" if shape else "a single value"
                raise ContractError(f"output {name!r}: {got} for {rows} rows of input")
            if len(shape) != rank:
                raise ContractError(f"output {name!r}: {len(shape)} dimensions, {rank} declared")
            if array.dtype is not dtype and array.dtype != dtype:
                array = _converted(name, array, dtype)
                changed = dict(outputs) if changed is None else changed
                changed[name] = array
            if must_be_finite and not finite(array):
                raise ContractError(_not_finite(name, array))
        if len(outputs) != count:
            extra = sorted(set(outputs) - {spec[0] for spec in specs})
            raise ContractError(f"output {extra[0]!r} is not in the signature")
        return outputs if changed is None else changed

    return check


def checked(outputs: Tensors, rows: int, signature: Signature) -> Tensors:
    """One check; use ``checker`` where it happens for every batch."""
    return checker(signature)(outputs, rows)


def finite(array: Array) -> bool:
    """True when no element is NaN or infinite. The sum of squares may overflow, so that only "yes" is final there."""
    # vdot, because dot warns when it overflows.
    if array.size <= _DOT_LIMIT and math.isfinite(np.vdot(array, array)):
        return True
    return bool(np.isfinite(array).all())


def _missing(name: str, array: object, outputs: Tensors) -> str:
    if array is None:
        return f"output {name!r} is missing; the model returned {', '.join(map(repr, outputs)) or 'nothing'}"
    return f"output {name!r} is {type(array).__name__}, not an array"


def _converted(name: str, array: Array, dtype: np.dtype[np.generic]) -> Array:
    if array.dtype.kind not in _KINDS[dtype.kind]:
        raise ContractError(f"output {name!r}: {array.dtype} where {dtype} is declared")
    return array.astype(dtype)


def _not_finite(name: str, array: Array) -> str:
    row = int(np.argwhere(~np.isfinite(array))[0][0])
    return f"output {name!r}: not a finite number in row {row}"
