"""The signature that an MLflow folder's MLmodel file holds, read without MLflow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from tidegate.errors import ModelError
from tidegate.types import Content, Datatype, Signature, TensorSpec, datatype_of

_COLUMN_TYPES: Mapping[str, tuple[Datatype, Content]] = {
    "boolean": ("BOOL", "number"), "integer": ("INT32", "number"), "long": ("INT64", "number"),
    "float": ("FP32", "number"), "double": ("FP64", "number"), "string": ("BYTES", "text"),
    "binary": ("BYTES", "binary"), "datetime": ("BYTES", "text"),
}  # fmt: skip


def stored_signature(description: Mapping[str, Any], where: str) -> Signature | None:
    """The signature that MLmodel holds, without importing MLflow; None when there is none that tensors can carry."""
    raw = description.get("signature") or {}
    try:
        inputs = _specs(json.loads(raw["inputs"]), "x") if raw.get("inputs") else ()
        outputs = _specs(json.loads(raw["outputs"]), "predictions") if raw.get("outputs") else ()
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{where}: the signature in MLmodel is not readable: {error}") from error
    if not inputs:
        return None
    return Signature(inputs=inputs, outputs=outputs or ())


def _specs(fields: list[dict[str, Any]], name: str) -> tuple[TensorSpec, ...] | None:
    """Tensor specs keep their names; columns without names are one matrix. None for what tensors cannot carry."""
    specs: list[TensorSpec] = []
    for field in fields:
        if field["type"] == "tensor":
            detail = field["tensor-spec"]
            datatype = datatype_of(np.dtype(detail["dtype"]))
            shape = (-1, *(int(size) for size in detail["shape"][1:]))
            content: Content = "text" if datatype == "BYTES" else "number"
            specs.append(TensorSpec(name=field.get("name") or name, datatype=datatype, shape=shape, content=content))
        elif field["type"] in _COLUMN_TYPES:
            datatype, content = _COLUMN_TYPES[field["type"]]
            required = bool(field.get("required", True))
            floats = datatype in ("FP32", "FP64")
            specs.append(
                TensorSpec(
                    name=field.get("name") or "",
                    datatype=datatype,
                    content=content,
                    required=required,
                    allow_nan=floats and not required,
                )
            )
        else:
            return None
    if specs and all(spec.name == "" for spec in specs):
        if len(specs) == 1 and name != "x":
            return (msgspec.structs.replace(specs[0], name=name),)
        return (TensorSpec(name=name, datatype=specs[0].datatype, shape=(-1, len(specs)), content=specs[0].content),)
    return tuple(specs)
