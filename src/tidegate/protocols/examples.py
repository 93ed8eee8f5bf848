"""Bodies that an endpoint really answers, made from its signature's example row: for documents and for error texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from tidegate.types import NUMPY_DTYPES, Signature, TensorSpec

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAD0lEQVR42mNowAEYhpYEAILzYAEllbNjAAAAAElFTkSuQmCC"
"""A PNG of 8 x 8 grey pixels, as base64."""

_FREE_WIDTH = 8
_MOST_VALUES = 64
_LONGEST = 600


def row_of(signature: Signature) -> dict[str, Any]:
    """One row by input name: the signature's example, and something plain for inputs that it leaves out."""
    given: Mapping[str, Any] = signature.example if isinstance(signature.example, Mapping) else {}
    row = {}
    for spec in signature.inputs:
        if spec.name in given and (spec.content not in ("image", "binary") or given[spec.name]):
            row[spec.name] = given[spec.name]
        elif spec.required:
            row[spec.name] = _plain(spec)
    return row


def bodies_of(signature: Signature) -> dict[str, dict[str, Any]]:
    """Native bodies of one row, by form; the handiest form first."""
    row = row_of(signature)
    inputs = {"inputs": {name: [value] for name, value in row.items()}}
    records = {"records": [row]}
    complete = len(row) == len(signature.inputs)
    if signature.is_matrix:
        values = row[signature.inputs[0].name]
        bodies = {"features": {"features": [values]}}
        if len(signature.columns) == len(values):
            bodies["records"] = {"records": [dict(zip(signature.columns, values, strict=True))]}
        return {**bodies, "inputs": inputs}
    if len(signature.inputs) == 1 and signature.inputs[0].datatype == "BYTES":
        spec = signature.inputs[0]
        form = {"image": "images", "binary": ""}.get(spec.content, "texts")
        value = row[spec.name]
        cell = value[0] if isinstance(value, list) and len(value) == 1 else value
        return {form: {form: [cell]}, "inputs": inputs} if form and isinstance(cell, str) else {"inputs": inputs}
    if signature.is_table:
        positions = {"features": {"features": [list(row.values())]}} if complete else {}
        return {"records": records, **positions, "inputs": inputs}
    return {"inputs": inputs, "records": records}


def accepted(signature: Signature) -> str:
    """A sentence with the accepted forms and this model's own columns."""
    if sum(_size(spec) for spec in signature.inputs) > _MOST_VALUES * 4:
        shapes = ", ".join(f'"{spec.name}": array of shape {_shape(spec)}' for spec in signature.inputs[:8])
        return f'This model takes {{"inputs": {{{shapes}}}}}'
    bodies = list(bodies_of(signature).values())
    texts = [msgspec.json.encode(_short(body)).decode() for body in bodies[:2]]
    return "This model takes " + " or ".join(text if len(text) <= _LONGEST else text[:_LONGEST] + "…" for text in texts)


def _plain(spec: TensorSpec) -> Any:
    if NUMPY_DTYPES[spec.datatype].kind == "O":
        value: Any = PIXEL if spec.content == "image" else "AA==" if spec.content == "binary" else "text"
    else:
        value = {"f": 0.5, "b": True}.get(NUMPY_DTYPES[spec.datatype].kind, 1)
    for width in reversed(spec.shape[1:]):
        value = [value] * (width if width >= 0 else len(spec.columns) or _FREE_WIDTH)
    return value


def _short(value: Any) -> Any:
    """The value with base64 and long texts cut, so that an error stays readable."""
    if isinstance(value, str):
        return "<base64>" if value == PIXEL else value if len(value) <= 80 else value[:80] + "…"
    if isinstance(value, dict):
        return {name: _short(item) for name, item in value.items()}
    return [_short(item) for item in value] if isinstance(value, list) else value


def _size(spec: TensorSpec) -> int:
    return math.prod(width if width >= 0 else _FREE_WIDTH for width in spec.shape[1:])


def _shape(spec: TensorSpec) -> str:
    return "[" + ", ".join("n" if width < 0 else str(width) for width in spec.shape) + "]"
