"""JSON Schemas of requests and answers: the shared ones, and those that a signature implies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tidegate.protocols.examples import bodies_of
from tidegate.types import NUMPY_DTYPES, Signature, TensorSpec

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_ROWS: Schema = {"type": "array", "minItems": 1}
_ANY_FORM: Mapping[str, Schema] = {
    "features": {**_ROWS, "items": {"type": "array"}, "description": "Rows of values in column order."},
    "records": {**_ROWS, "items": {"type": "object"}, "description": "Rows as objects by column name."},
    "text": {**_TEXT, "description": "One text."},
    "texts": {**_ROWS, "items": _TEXT, "description": "One text per row."},
    "instances": {**_ROWS, "description": "Rows as lists, objects or bare values."},
    "inputs": {"type": "object", "description": "Arrays by input or column name."},
    "images": {**_ROWS, "items": _TEXT, "description": "One image file per row, as base64."},
}
_BESIDE: Mapping[str, Schema] = {
    "units": {"type": "array", "items": {"type": "string", "maxLength": 256}, "description": "One unit per row."},
    "params": {"type": "object", "maxProperties": 0, "description": "Reserved; no model here takes parameters."},
}

_VARIANT: Schema = {
    "type": "object",
    "required": ["variant", "share", "shadow", "name", "version", "digest", "runtime", "ready"],
    "properties": {
        "variant": _TEXT,
        "share": {"type": "number", "minimum": 0, "maximum": 100, "description": "Percentage of the traffic."},
        "shadow": {"type": "boolean"},
        "name": _TEXT,
        "version": _TEXT,
        "digest": _TEXT,
        "runtime": _TEXT,
        "ready": {"type": "boolean"},
        "facts": {"type": "object"},
    },
}
_MODEL: Schema = {
    "type": "object",
    "required": ["endpoint", "signature", "example", "variants"],
    "properties": {
        "snapshot": {"type": "integer"},
        "endpoint": _TEXT,
        "signature": {"type": "object"},
        "example": {"type": "object", "description": "A body that this endpoint answers."},
        "variants": {"type": "array", "items": _VARIANT},
    },
}

_NAME: Schema = {"type": ["string", "null"], "maxLength": 256}

_FEEDBACK: Schema = {
    "type": "object",
    "required": ["metric"],
    "additionalProperties": False,
    "properties": {
        "request_id": {**_NAME, "description": "Of the prediction: X-Request-Id of its answer."},
        "row": {
            "type": ["integer", "null"],
            "minimum": 0,
            "exclusiveMaximum": 1_000_000,
            "description": "Of the request, from 0, where it had several.",
        },
        "unit": {**_NAME, "description": "Whose outcome it is, where it belongs to no single prediction."},
        "metric": {"type": "string", "minLength": 1, "maxLength": 256, "description": "What was measured."},
        "value": {"type": ["number", "boolean", "null"], "description": "Binary outcomes are 0 and 1."},
        "label": {"type": ["string", "number", "boolean", "null"], "description": "The true class."},
        "time": {
            "type": ["number", "string", "null"],
            "description": "When it happened: seconds since 1970, or ISO 8601. Now, if it is not said.",
        },
        "endpoint": {**_NAME, "description": "Endpoint that it is about."},
    },
}

SHARED: Mapping[str, Schema] = {
    "PredictRequest": {
        "type": "object",
        "properties": {**_ANY_FORM, **_BESIDE},
        "oneOf": [{"required": [form]} for form in _ANY_FORM],
        "additionalProperties": False,
    },
    "PredictResponse": {
        "type": "object",
        "required": ["predictions", "model", "request_id", "cached", "timing_ms"],
        "properties": {
            "predictions": {"type": ["array", "object"], "description": "One per row; by output name when several."},
            "scores": {"type": "array", "description": "Per row, one score per class."},
            "labels": {"type": "array", "items": _TEXT, "description": "Per row, the name of the class."},
            "model": {
                "type": "object",
                "required": ["endpoint", "name", "version", "variant"],
                "properties": dict.fromkeys(("endpoint", "name", "version", "variant"), _TEXT),
            },
            "request_id": _TEXT,
            "cached": {"type": "boolean"},
            "timing_ms": {
                "type": "object",
                "properties": {
                    "queue": {"type": "number"},
                    "run": {"type": "number"},
                    "total": {"type": "number"},
                    "batch_rows": {"type": "integer", "description": "Rows of the batch that carried the request."},
                },
            },
        },
    },
    "Problem": {
        "type": "object",
        "description": "Problem details (RFC 9457).",
        "required": ["type", "title", "status", "detail", "request_id"],
        "properties": {
            "type": {"type": "string", "format": "uri"},
            "title": _TEXT,
            "status": {"type": "integer"},
            "detail": _TEXT,
            "request_id": _TEXT,
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["loc", "msg"],
                    "properties": {"loc": {"type": "array", "items": {"type": ["string", "integer"]}}, "msg": _TEXT},
                },
            },
        },
    },
    "FeedbackRequest": {"oneOf": [_FEEDBACK, {"type": "array", "items": _FEEDBACK, "minItems": 1, "maxItems": 10_000}]},
    "FeedbackResponse": {
        "type": "object",
        "required": ["accepted", "duplicates"],
        "properties": {"accepted": {"type": "integer"}, "duplicates": {"type": "integer"}},
    },
    "Info": {
        "type": "object",
        "required": ["name", "version", "snapshot", "endpoints"],
        "properties": {
            "name": _TEXT,
            "version": _TEXT,
            "snapshot": {"type": "integer"},
            "default_endpoint": _TEXT,
            "ready": {"type": "boolean"},
            "endpoints": {"type": "object", "additionalProperties": {"type": "array", "items": _VARIANT}},
        },
    },
    "Models": {
        "type": "object",
        "required": ["snapshot", "models"],
        "properties": {"snapshot": {"type": "integer"}, "models": {"type": "array", "items": _MODEL}},
    },
    "Model": _MODEL,
    "InvocationsRequest": {
        "type": "object",
        "properties": {
            "dataframe_split": {
                "type": "object",
                "required": ["columns", "data"],
                "properties": {"columns": {"type": "array"}, "data": {"type": "array", "items": {"type": "array"}}},
            },
            "dataframe_records": {**_ROWS, "items": {"type": "object"}},
            "instances": _ROWS,
            "inputs": {"type": ["object", "array"]},
            "params": {"type": "object"},
        },
        "oneOf": [{"required": [form]} for form in ("dataframe_split", "dataframe_records", "instances", "inputs")],
        "additionalProperties": False,
    },
    "InvocationsResponse": {
        "type": "object",
        "required": ["predictions"],
        "properties": {"predictions": {"type": ["array", "object"]}},
    },
    "MlflowError": {
        "type": "object",
        "required": ["error_code", "message"],
        "properties": {"error_code": _TEXT, "message": _TEXT},
    },
    "V2Error": {"type": "object", "required": ["error"], "properties": {"error": _TEXT}},
}


def request_schema(signature: Signature, max_rows: int) -> Schema:
    """What one endpoint's predict takes as JSON, in the forms that its example shows."""
    rows = {"type": "array", "minItems": 1, "maxItems": max_rows}
    properties = {form: _form(form, signature, rows) for form in bodies_of(signature)}
    return {
        "type": "object",
        "properties": {**properties, **_BESIDE},
        "oneOf": [{"required": [form]} for form in properties],
        "additionalProperties": False,
    }


def _form(form: str, signature: Signature, rows: Schema) -> Schema:
    if form == "inputs":
        return _inputs(signature, rows)
    if form == "features":
        return {**rows, "items": _row(signature)}
    return {**rows, "items": _record(signature) if form == "records" else _value(signature.inputs[0], 1)}


def _row(signature: Signature) -> Schema:
    if signature.is_matrix:
        return _value(signature.inputs[0], 1)
    cells = [_cell(spec) for spec in signature.inputs]
    return {"type": "array", "prefixItems": cells, "minItems": len(cells), "maxItems": len(cells)}


def _record(signature: Signature) -> Schema:
    specs = {spec.name: spec for spec in signature.inputs}
    if signature.is_matrix:
        cell = _cell(signature.inputs[0])
        properties, required = dict.fromkeys(signature.columns, cell), list(signature.columns)
    else:
        properties = {name: _value(spec, 1) for name, spec in specs.items()}
        required = [name for name, spec in specs.items() if spec.required]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _inputs(signature: Signature, rows: Schema) -> Schema:
    properties = {spec.name: {**rows, "items": _value(spec, 1)} for spec in signature.inputs}
    required = [spec.name for spec in signature.inputs if spec.required]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _value(spec: TensorSpec, level: int) -> Schema:
    """One row of an input, from the dimension ``level`` on; a dimension of one may be left out."""
    if level >= len(spec.shape) or (level == 1 and spec.shape[1:] == (1,) and not spec.columns):
        return _cell(spec)
    width = spec.shape[level]
    width = len(spec.columns) if width < 0 and level == 1 and spec.columns else width
    bounds = {"minItems": width, "maxItems": width} if width >= 0 else {"minItems": 1}
    return {"type": "array", "items": _value(spec, level + 1), **bounds}


def _cell(spec: TensorSpec) -> Schema:
    dtype = NUMPY_DTYPES[spec.datatype]
    schema: Schema
    if dtype.kind == "O":
        blob = spec.content in ("image", "binary")
        schema = {"type": "string", **({"contentEncoding": "base64"} if blob else {})}
        if spec.content == "image":
            schema["contentMediaType"] = "image/*"
    elif dtype.kind == "b":
        schema = {"type": "boolean"}
    elif dtype.kind == "f":
        largest = float(np.finfo(dtype).max)
        schema = {"type": "number", "minimum": -largest, "maximum": largest}
    else:
        limits = np.iinfo(dtype)
        schema = {"type": "integer", "minimum": int(limits.min), "maximum": int(limits.max)}
    if spec.allow_nan and dtype.kind in "fO":
        schema["type"] = [schema["type"], "null"]
    return schema
