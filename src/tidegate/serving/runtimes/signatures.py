"""Signatures that the configuration or a model declares in plain data, and examples made from a signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import msgspec
import numpy as np

from tidegate.errors import ContractError
from tidegate.types import NUMPY_DTYPES, Array, Content, Datatype, Signature, Tensors, TensorSpec, datatype_of

_DATATYPES = get_args(Datatype)
_CONTENTS = get_args(Content)
_ALIASES: Mapping[str, str] = {
    "float": "FP64", "float32": "FP32", "float64": "FP64", "float16": "FP16", "double": "FP64",
    "int": "INT64", "int32": "INT32", "int64": "INT64", "bool": "BOOL",
    "str": "BYTES", "text": "BYTES", "string": "BYTES", "bytes": "BYTES",
}  # fmt: skip
_FREE_DIMENSION = 8
"""Size that an example takes for a dimension that the signature leaves open."""


def parse_signature(raw: Any, where: str) -> Signature:
    """Reads ``{"inputs": ..., "outputs": ..., "labels": ..., "example": ...}``; inputs and outputs are a list of
    ``{name, datatype, shape, ...}`` or a mapping from name to that or to a bare datatype. Raises ContractError."""
    if isinstance(raw, Signature):
        return raw
    if not isinstance(raw, Mapping):
        raise ContractError(f"{where}: a signature is a mapping with inputs and outputs, got {type(raw).__name__}")
    unknown = set(raw) - {"inputs", "outputs", "labels", "example"}
    if unknown:
        raise ContractError(f"{where}: unknown key {min(unknown)!r}; a signature has inputs, outputs, labels, example")
    return Signature(
        inputs=_specs(raw.get("inputs", ()), f"{where}.inputs"),
        outputs=_specs(raw.get("outputs", ()), f"{where}.outputs"),
        labels=tuple(str(label) for label in raw.get("labels") or ()),
        example=raw.get("example"),
    )


def _specs(raw: Any, where: str) -> tuple[TensorSpec, ...]:
    if isinstance(raw, Mapping):
        entries = [(str(name), spec) for name, spec in raw.items()]
    elif isinstance(raw, Sequence) and not isinstance(raw, str):
        entries = []
        for position, spec in enumerate(raw):
            if isinstance(spec, TensorSpec):
                entries.append((spec.name, spec))
            elif isinstance(spec, Mapping) and "name" in spec:
                entries.append((str(spec["name"]), {k: v for k, v in spec.items() if k != "name"}))
            else:
                raise ContractError(f"{where}[{position}]: needs a name")
    else:
        raise ContractError(f"{where}: expected a mapping from name to datatype, or a list")
    return tuple(_spec(name, spec, f"{where}.{name}") for name, spec in entries)


def _spec(name: str, raw: Any, where: str) -> TensorSpec:
    if isinstance(raw, TensorSpec):
        return raw
    if isinstance(raw, str):
        raw = {"datatype": raw}
    if not isinstance(raw, Mapping):
        raise ContractError(f"{where}: expected a datatype or a mapping, got {raw!r}")
    unknown = set(raw) - {"datatype", "shape", "content", "required", "allow_nan", "columns"}
    if unknown:
        raise ContractError(f"{where}: unknown key {min(unknown)!r}")
    given = str(raw.get("datatype", "FP64"))
    datatype = _ALIASES.get(given.lower(), given.upper())
    if datatype not in _DATATYPES:
        raise ContractError(f"{where}: datatype {given!r} is not one of {', '.join(_DATATYPES)}")
    shape = tuple(-1 if size is None else int(size) for size in raw.get("shape", (-1,)))
    columns = tuple(str(column) for column in raw.get("columns", ()))
    if columns and "shape" not in raw:
        shape = (-1, len(columns))
    if not shape or shape[0] != -1:
        raise ContractError(f"{where}: shape {list(shape)} must start with -1, the rows")
    if columns and shape[1:] not in ((len(columns),), (-1,)):
        raise ContractError(f"{where}: {len(columns)} columns do not fit shape {list(shape)}")
    content = str(raw.get("content", "text" if datatype == "BYTES" else "number"))
    if content not in _CONTENTS:
        raise ContractError(f"{where}: content {content!r} is not one of {', '.join(_CONTENTS)}")
    return TensorSpec(
        name=name,
        datatype=datatype,  # type: ignore[arg-type]
        shape=shape,
        content=content,  # type: ignore[arg-type]
        required=bool(raw.get("required", True)),
        allow_nan=bool(raw.get("allow_nan", False)),
        columns=columns,
    )


def as_plain(signature: Signature) -> dict[str, Any]:
    """The signature in the form that ``parse_signature`` reads, as plain JSON values."""

    def plain(spec: TensorSpec) -> dict[str, Any]:
        fields: dict[str, Any] = msgspec.to_builtins(spec)
        fields["shape"] = list(spec.shape)
        return fields

    return {
        "inputs": [plain(spec) for spec in signature.inputs],
        "outputs": [plain(spec) for spec in signature.outputs],
        "labels": list(signature.labels),
        "example": signature.example,
    }


def declared(options: Mapping[str, Any]) -> Signature | None:
    """What ``options`` says of the signature under ``signature``, ``labels``, ``columns`` and ``example``."""
    if not options.keys() & {"signature", "labels", "columns", "example"}:
        return None
    signature = parse_signature(options.get("signature", {}), "options.signature")
    if "labels" in options:
        signature = msgspec.structs.replace(signature, labels=tuple(str(label) for label in options["labels"]))
    if "example" in options:
        signature = msgspec.structs.replace(signature, example=options["example"])
    return signature


def overlay(found: Signature, options: Mapping[str, Any]) -> Signature:
    """The model's own signature, completed and overridden by what the configuration declares.

    Raises ContractError when the configuration names an input that the model does not have.
    """
    said = declared(options)
    if said is None:
        return found
    inputs = _overlay_specs(found.inputs, said.inputs, "input") if found.inputs else said.inputs
    outputs = _overlay_specs(found.outputs, said.outputs, "output") if found.outputs else said.outputs
    columns = tuple(str(column) for column in options.get("columns", ()))
    if columns:
        inputs = _name_columns(inputs, columns)
    example = said.example if said.example is not None else found.example
    return Signature(inputs=inputs, outputs=outputs, labels=said.labels or found.labels, example=example)


def _overlay_specs(found: tuple[TensorSpec, ...], said: tuple[TensorSpec, ...], kind: str) -> tuple[TensorSpec, ...]:
    by_name = {spec.name: spec for spec in said}
    strange = by_name.keys() - {spec.name for spec in found}
    if strange:
        known = ", ".join(spec.name for spec in found)
        raise ContractError(f"options.signature: the model has no {kind} {min(strange)!r}; it has {known}")
    return tuple(by_name.get(spec.name, spec) for spec in found)


def _name_columns(inputs: tuple[TensorSpec, ...], columns: tuple[str, ...]) -> tuple[TensorSpec, ...]:
    if len(inputs) != 1 or len(inputs[0].shape) != 2 or inputs[0].shape[1] not in (-1, len(columns)):
        raise ContractError(f"columns: {len(columns)} names do not fit the model's inputs")
    return (msgspec.structs.replace(inputs[0], columns=columns, shape=(-1, len(columns))),)


def with_example(signature: Signature) -> Signature:
    """The signature with an example row: the given one, else one of zeros and short texts."""
    if signature.example is not None:
        return signature
    return msgspec.structs.replace(signature, example={s.name: _sample(s) for s in signature.inputs if s.required})


def _sample(spec: TensorSpec) -> Any:
    shape = tuple(_FREE_DIMENSION if size < 0 else size for size in spec.shape[1:])
    if spec.datatype == "BYTES":
        return np.full(shape, "text" if spec.content == "text" else "", object).tolist()
    return np.zeros(shape, NUMPY_DTYPES[spec.datatype]).tolist()


def example_inputs(signature: Signature, rows: int) -> dict[str, Array]:
    """The example row ``rows`` times, as a runtime takes it. Raises ContractError when it does not fit."""
    example = signature.example
    if not isinstance(example, Mapping):
        raise ContractError(f"the example must map input names to one row's values, got {type(example).__name__}")
    tensors: dict[str, Array] = {}
    for spec in signature.inputs:
        if spec.name not in example:
            if spec.required:
                raise ContractError(f"the example has no value for input {spec.name!r}")
            continue
        tensors[spec.name] = rows_of(spec, [example[spec.name]] * rows)
    return tensors


def rows_of(spec: TensorSpec, values: Sequence[Any]) -> Array:
    """An array from one plain value per row. Raises ContractError when they do not fit the spec."""
    try:
        if spec.datatype == "BYTES":
            flat = np.empty(len(values), object)
            flat[:] = values
            array = flat if len(spec.shape) == 1 else np.array(values, object)
        else:
            array = np.array(values, NUMPY_DTYPES[spec.datatype])
        shape = tuple(max(size, 0) or -1 for size in spec.shape[1:])
        return array if array.ndim == len(spec.shape) else array.reshape((len(values), *shape))
    except (TypeError, ValueError) as error:
        raise ContractError(
            f"the example of input {spec.name!r} does not fit {spec.datatype} {list(spec.shape)}"
        ) from error


def specs_of(outputs: Tensors) -> tuple[TensorSpec, ...]:
    """Describes outputs by what came out; every dimension after the rows is taken as fixed."""
    return tuple(
        TensorSpec(
            name=name,
            datatype=datatype_of(array.dtype),
            shape=(-1, *array.shape[1:]),
            content="text" if array.dtype.kind in "OUS" else "number",
        )
        for name, array in outputs.items()
    )
