"""The OpenAPI object of ``infer``, as plain data; the other operations of ``/v2`` need no body of their own."""

from __future__ import annotations

from typing import Any

from tidegate.types import NUMPY_DTYPES

Document = dict[str, Any]

_PARAMETERS: Document = {"type": "object", "additionalProperties": True}
_TENSOR: Document = {
    "name": {"type": "string"},
    "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "description": "Rows first."},
    "datatype": {"type": "string", "enum": list(NUMPY_DTYPES)},
    "parameters": {
        **_PARAMETERS,
        "description": "binary_data_size: bytes of this tensor behind the JSON part, in place of data.",
    },
    "data": {"type": "array", "items": {}, "description": "Elements, flat or nested as the shape, row-major."},
}
_REQUEST: Document = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string", "description": "Sent back."},
        "parameters": {**_PARAMETERS, "description": "binary_data_output, timeout (microseconds), priority (1 first)."},
        "inputs": {
            "type": "array",
            "items": {"type": "object", "required": ["name", "shape", "datatype"], "properties": _TENSOR},
        },
        "outputs": {
            "type": "array",
            "description": "All outputs when absent.",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "parameters": _PARAMETERS},
            },
        },
    },
}
_RESPONSE: Document = {
    "type": "object",
    "required": ["model_name", "model_version", "outputs"],
    "properties": {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "outputs": {
            "type": "array",
            "items": {"type": "object", "required": ["name", "shape", "datatype"], "properties": _TENSOR},
        },
    },
}
_LENGTH: Document = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "required": False,
    "description": "Length of the JSON part when bytes of tensors follow it; 0 when the body is the one input itself.",
    "schema": {"type": "integer", "minimum": 0},
}
_BYTES: Document = {"schema": {"type": "string", "format": "binary"}}

INFER: Document = {
    "tags": ["v2"],
    "summary": "Infer; tensors may follow the JSON part in binary form",
    "parameters": [_LENGTH],
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": _REQUEST}, "application/octet-stream": _BYTES},
    },
    "responses": {
        "200": {
            "description": "The outputs; bytes of tensors follow the JSON part where they were asked for.",
            "content": {"application/json": {"schema": _RESPONSE}, "application/octet-stream": _BYTES},
        },
        "default": {
            "description": "An error.",
            "content": {
                "application/json": {
                    "schema": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
                }
            },
        },
    },
}
