"""The OpenAPI objects of operations, as plain data. ``openapi.py`` adds what depends on the endpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Document = dict[str, Any]


def _ref(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(name: str) -> Document:
    return {"application/json": {"schema": _ref(name)}}


def problems(statuses: Mapping[int, str], schema: str = "Problem", media: str = "application/problem+json") -> Document:
    """Error responses by status."""
    content = {media: {"schema": _ref(schema)}}
    wait = {"Retry-After": {"description": "Seconds to wait before trying again.", "schema": {"type": "integer"}}}
    return {
        str(status): {"description": text, "content": content, **({"headers": wait} if status in (429, 503) else {})}
        for status, text in statuses.items()
    }


def _header(name: str, text: str, schema: Document) -> Document:
    return {"name": name, "in": "header", "required": False, "description": text, "schema": schema}


ENDPOINT_PARAMETER: Document = {
    "name": "endpoint",
    "in": "path",
    "required": True,
    "description": "Name of the endpoint.",
    "schema": {"type": "string"},
}

_HEADERS: Sequence[Document] = (
    _header("X-Request-Id", "Id of the request; made if absent, and sent back.", {"type": "string"}),
    _header("X-User-Id", "Unit that keeps its variant.", {"type": "string", "maxLength": 256}),
    _header("X-Canary", "Variant that must answer.", {"type": "string"}),
    _header("X-Timeout-Ms", "Longest time to wait.", {"type": "number", "exclusiveMinimum": 0}),
    _header("X-Priority", "Who goes first.", {"type": "string", "enum": ["critical", "normal", "bulk"]}),
)

PREDICT_PROBLEMS: Mapping[int, str] = {
    400: "The body cannot be decoded.",
    401: "A valid key is needed.",
    403: "The key does not allow this.",
    404: "No such endpoint.",
    408: "The body did not arrive in time.",
    413: "Too many bytes, rows or pixels.",
    415: "Media type not supported.",
    422: "Wrong shape, type, range, missing or unknown column; the places are listed.",
    429: "Too many rows are waiting, or too many requests.",
    500: "The model failed.",
    503: "Not ready, or overloaded.",
    504: "The deadline passed.",
}

_MULTIPART: Document = {
    "schema": {
        "type": "object",
        "properties": {"images": {"type": "array", "items": {"type": "string", "contentMediaType": "image/*"}}},
        "required": ["images"],
    }
}


def _predict(parameters: Sequence[Document], summary: str) -> Document:
    return {
        "tags": ["predict"],
        "summary": summary,
        "description": "Send exactly one of features, records, text, texts, instances, inputs or images; "
        "n rows in, n rows out, in order. Rows are counted from 0 in errors. MessagePack has the same shapes, and takes "
        '{"dtype", "shape", "data": bin} wherever an array may stand; an Arrow stream has one column per input. '
        "The answer is JSON unless Accept names MessagePack or Arrow.",
        "parameters": [*parameters, *_HEADERS],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _ref("PredictRequest")},
                "application/msgpack": {"schema": _ref("PredictRequest")},
                "application/vnd.apache.arrow.stream": {},
                "multipart/form-data": _MULTIPART,
            },
        },
        "responses": {
            "200": {
                "description": "The predictions.",
                "headers": {"X-Model-Variant": {"description": "Who answered.", "schema": {"type": "string"}}},
                "content": {
                    "application/json": {"schema": _ref("PredictResponse")},
                    "application/msgpack": {"schema": _ref("PredictResponse")},
                    "application/vnd.apache.arrow.stream": {},
                },
            },
            **problems(PREDICT_PROBLEMS),
        },
    }


PREDICT_DEFAULT = _predict([], "Predict with the default endpoint")
PREDICT = _predict([ENDPOINT_PARAMETER], "Predict")

_FEEDBACK_EXAMPLES: Document = {
    "label": {
        "summary": "the true class of one prediction",
        "value": {"request_id": "6f1c…", "metric": "accuracy", "label": "setosa"},
    },
    "rows": {
        "summary": "the true classes of a request with several rows",
        "value": [
            {"request_id": "6f1c…", "row": 0, "metric": "accuracy", "label": "setosa"},
            {"request_id": "6f1c…", "row": 1, "metric": "accuracy", "label": "virginica"},
        ],
    },
    "outcomes": {
        "summary": "what units did later",
        "value": [
            {"unit": "user-7", "metric": "converted", "value": 1, "time": "2026-01-31T12:00:00Z"},
            {"unit": "user-8", "metric": "revenue", "value": 19.9},
        ],
    },
}

FEEDBACK: Document = {
    "tags": ["feedback"],
    "summary": "Send labels and outcomes of earlier predictions",
    "description": "One object, or a list of them. What is answered with 200 is durable; sending it again changes nothing: "
    "request_id, row and metric, or unit and metric, are the key, and of several values the one with the latest time counts. "
    "Rows are counted from 0 in errors.",
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": _ref("FeedbackRequest"), "examples": _FEEDBACK_EXAMPLES}},
    },
    "responses": {
        "200": {"description": "How many are new, and how many were known.", "content": _json("FeedbackResponse")},
        **problems(
            {
                400: "The body cannot be decoded.",
                401: "A valid key is needed.",
                403: "The key does not allow this.",
                408: "The body did not arrive in time.",
                413: "Too many bytes, or too many rows.",
                415: "Media type not supported.",
                422: "A field is missing, unknown or wrong; the places are listed.",
                503: "This server has no store, or it is away: nothing was kept, send it again later.",
            }
        ),
    },
}

_KEY_PROBLEMS = problems({401: "A valid key is needed.", 403: "The key does not allow this."})

INFO: Document = {
    "tags": ["models"],
    "summary": "Version, snapshot in force, endpoints and their variants",
    "responses": {"200": {"description": "What is being served.", "content": _json("Info")}, **_KEY_PROBLEMS},
}

MODELS: Document = {
    "tags": ["models"],
    "summary": "Signature, variants and facts of every endpoint",
    "responses": {"200": {"description": "All endpoints.", "content": _json("Models")}, **_KEY_PROBLEMS},
}

MODEL: Document = {
    "tags": ["models"],
    "summary": "Signature, variants and facts of one endpoint",
    "parameters": [ENDPOINT_PARAMETER],
    "responses": {
        "200": {"description": "One endpoint.", "content": _json("Model")},
        **_KEY_PROBLEMS,
        **problems({404: "No such endpoint."}),
    },
}

_MLFLOW_PROBLEMS = problems(
    {
        400: "The input cannot be read, or does not fit the model.",
        **{s: PREDICT_PROBLEMS[s] for s in PREDICT_PROBLEMS if s not in (400, 422)},
    },
    "MlflowError",
    "application/json",
)

INVOCATIONS: Document = {
    "tags": ["mlflow"],
    "summary": "Predict, in MLflow's scoring protocol",
    "description": "Send exactly one of dataframe_split, dataframe_records, instances or inputs, or CSV whose first line "
    "names the columns. params are left aside: the models here declare none. NaN stands for null.",
    "parameters": [
        {
            "name": "endpoint",
            "in": "query",
            "required": False,
            "description": "Name of the endpoint; the default one when absent.",
            "schema": {"type": "string"},
        },
        *_HEADERS,
    ],
    "requestBody": {
        "required": True,
        "content": {**_json("InvocationsRequest"), "text/csv": {"schema": {"type": "string"}}},
    },
    "responses": {
        "200": {"description": "The predictions.", "content": _json("InvocationsResponse")},
        **_MLFLOW_PROBLEMS,
    },
}

PING: Document = {
    "tags": ["mlflow"],
    "summary": "Whether the server can answer, by status alone",
    "responses": {"200": {"description": "It can."}, "503": {"description": "Not now."}},
}

VERSION: Document = {
    "tags": ["mlflow"],
    "summary": "The server's version as plain text",
    "responses": {"200": {"description": "The version."}},
}

OPENAPI: Document = {
    "tags": ["documents"],
    "summary": "This document",
    "responses": {
        "200": {"description": "OpenAPI 3.1.", "content": {"application/json": {"schema": {"type": "object"}}}},
        **_KEY_PROBLEMS,
    },
}

DOCS: Document = {
    "tags": ["documents"],
    "summary": "A page that shows this document and sends requests",
    "responses": {"200": {"description": "The page.", "content": {"text/html": {}}}},
}

DOCS_FILE: Document = {
    "tags": ["documents"],
    "summary": "Style and script of the page",
    "responses": {
        "200": {"description": "The file.", "content": {"text/css": {}, "text/javascript": {}}},
        **problems({404: "No such file."}),
    },
}

TAGS: Mapping[str, str] = {
    "predict": "Predictions.",
    "models": "What is being served.",
    "feedback": "Labels and outcomes of earlier predictions.",
    "mlflow": "MLflow's scoring protocol.",
    "v2": "The Open Inference Protocol v2.",
    "operations": "Health and metrics.",
    "documents": "This documentation.",
}

SECURITY_SCHEMES: Document = {
    "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "Bearer": {"type": "http", "scheme": "bearer"},
}

SECURITY: Sequence[Document] = ({}, {"ApiKey": []}, {"Bearer": []})
"""Open when the server has no key; else either header."""

_V2_SUMMARIES: Mapping[tuple[str, str], str] = {
    ("GET", "/v2"): "Name, version and extensions of the server",
    ("GET", "/v2/health/live"): "Whether the process lives",
    ("GET", "/v2/health/ready"): "Whether every model can answer",
    ("POST", "/v2/repository/index"): "Models that are configured, and their state",
    ("POST", "/v2/repository/models/{model}/load"): "Load a model",
    ("POST", "/v2/repository/models/{model}/unload"): "Unload a model",
    ("GET", "/v2/models/stats"): "Statistics of all models",
}

_V2_MODEL_SUMMARIES: Mapping[tuple[str, str], str] = {
    ("GET", ""): "Inputs and outputs of a model",
    ("GET", "/ready"): "Whether a model can answer",
    ("GET", "/stats"): "Statistics of a model",
    ("POST", "/infer"): "Infer; tensors may follow the JSON part in binary form",
}


def path_parameter(name: str) -> Document:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def fallback(method: str, path: str) -> Document:
    """The document of a route that brings none."""
    if not path.startswith("/v2"):
        return {"summary": f"{method} {path}", "responses": {"200": {"description": "OK"}}}
    end = path.rsplit("}", 1)[-1]
    summary = _V2_SUMMARIES.get((method, path)) or _V2_MODEL_SUMMARIES.get((method, end), f"{method} {path}")
    document: Document = {
        "tags": ["v2"],
        "summary": summary,
        "responses": {
            "200": {"description": "The answer.", "content": {"application/json": {"schema": {"type": "object"}}}},
            "default": {"description": "An error.", "content": _json("V2Error")},
        },
    }
    if method == "POST":
        document["requestBody"] = {"content": {"application/json": {"schema": {"type": "object"}}}}
    return document
