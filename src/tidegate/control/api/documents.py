"""The OpenAPI 3.1 document of the control API, and the page that shows it without the internet.

FastAPI knows paths and parameters; what goes in and out is said once beside each handler, by ``documented``, with the msgspec
types that are really decoded and encoded, and an example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any, TypeVar

import msgspec
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from tidegate import __version__
from tidegate.control.api.calls import caller_of
from tidegate.control.api.errors import PROBLEM
from tidegate.errors import NotFound
from tidegate.keys import KeyRole

Handler = TypeVar("Handler", bound=Callable[..., Any])

_WRITES = {"post", "delete", "put", "patch"}
_PAGES: Mapping[str, str] = {
    "docs.html": "text/html; charset=utf-8",
    "docs.css": "text/css; charset=utf-8",
    "docs.js": "text/javascript; charset=utf-8",
}
TAGS: Mapping[str, str] = {
    "releases": "A new version, let through as far as the evidence allows.",
    "endpoints": "What is served, who gets what, and how it goes.",
    "models": "Registered versions and their aliases.",
    "experiments": "A/B tests with intervals that hold at any time.",
    "monitors": "What is served, compared with what it was made for.",
    "baselines": "What it is compared with.",
    "drift-reports": "What the checks of windows found.",
    "alerts": "What is not right, and since when.",
    "retrainings": "Models trained anew, from what asked for it to what came of it.",
    "reports": "Pages to read about drift and quality.",
    "feedback": "Labels and outcomes of earlier predictions.",
    "snapshots": "What was published to the serving instances.",
    "instances": "The serving instances and what they have in force.",
    "api-keys": "Who may call.",
    "batch-jobs": "Predictions for whole files.",
    "jobs": "Work in the background.",
    "audit-events": "Who changed what.",
    "webhooks": "Signed calls of a model registry.",
    "session": "Sign-in of the console.",
    "operations": "Health, metrics, this document.",
}
STATUSES: Mapping[int, str] = {
    400: "The body cannot be decoded.",
    401: "No valid key.",
    403: "The key does not allow it.",
    404: "There is no such thing, or the key may not see it.",
    409: "Something stands in the way now.",
    413: "The body is too large.",
    415: "Not JSON.",
    422: "Decoded, but not valid.",
    429: "Too many calls; see Retry-After.",
    503: "Not now; see Retry-After.",
}
_PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["loc", "msg"],
                "properties": {
                    "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
                    "msg": {"type": "string"},
                },
            },
        },
    },
    "example": {
        "type": "https://tidegate.dev/errors/not-found",
        "title": "There is no such thing here",
        "status": 404,
        "detail": "there is no release r-20261121-1",
        "request_id": "6d2f0c5f4c1e4b0f9a7c6f3b1d2e4a58",
    },
}


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """``gives`` is a msgspec type, or None for an empty answer; ``many``: a page of them."""

    role: KeyRole | None
    gives: Any = None
    many: bool = False
    takes: Any = None
    body_required: bool = True
    status: int = 200
    example: Any = None
    takes_example: Any = None
    media: str = "application/json"
    problems: tuple[int, ...] = ()


def documented(role: KeyRole | None, gives: Any = None, **more: Any) -> Callable[[Handler], Handler]:
    """Says of a handler what the document needs."""
    document = Document(role=role, gives=gives, **more)

    def attach(handler: Handler) -> Handler:
        handler.document = document  # type: ignore[attr-defined]
        return handler

    return attach


def build(app: FastAPI) -> dict[str, Any]:
    """The whole document as plain data."""
    routes = [route for route in app.routes if isinstance(route, APIRoute) and route.include_in_schema]
    raw = get_openapi(
        title="Tidegate control API",
        version=__version__,
        description="Releases, models, experiments, keys: everything that decides what the data plane serves.",
        routes=routes,
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
    )
    documents = [(route, _document_of(route)) for route in routes]
    types = [kind for _, document in documents for kind in (document.gives, document.takes) if kind is not None]
    refs, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schemas = dict(zip(map(id, types), refs, strict=True))
    for route, document in documents:
        for method in route.methods or ():
            operation = raw["paths"][route.path_format][method.lower()]
            _complete(operation, document, method.lower(), schemas)
    raw["components"] = {
        "schemas": {**components, "Problem": _PROBLEM_SCHEMA},
        "securitySchemes": {
            "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "Bearer": {"type": "http", "scheme": "bearer"},
            "Session": {"type": "apiKey", "in": "cookie", "name": "tidegate_session"},
        },
    }
    return raw


def _document_of(route: APIRoute) -> Document:
    document: Document = route.endpoint.document  # type: ignore[attr-defined]
    return document


def _complete(operation: dict[str, Any], document: Document, method: str, schemas: Mapping[int, Any]) -> None:
    operation["security"] = [] if document.role is None else [{"ApiKey": []}, {"Bearer": []}, {"Session": []}]
    if document.role is not None:
        operation["description"] = f"{operation.get('description', '')}\n\nNeeds the role `{document.role}`.".strip()
    if method in _WRITES and document.role is not None:
        operation.setdefault("parameters", []).append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "A repetition with the same key and body gets the first answer again.",
                "schema": {"type": "string", "pattern": "^[!-~]{1,200}$"},
            }
        )
    if document.takes is not None:
        content: dict[str, Any] = {"schema": schemas[id(document.takes)]}
        if document.takes_example is not None:
            content["example"] = document.takes_example
        operation["requestBody"] = {"required": document.body_required, "content": {"application/json": content}}
    operation["responses"] = _responses(document, method, schemas)


def _responses(document: Document, method: str, schemas: Mapping[int, Any]) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "Good."}
    if document.gives is not None or document.media != "application/json":
        schema = schemas[id(document.gives)] if document.gives is not None else {"type": "string"}
        if document.many:
            schema = {
                "type": "object",
                "required": ["items", "next"],
                "properties": {"items": {"type": "array", "items": schema}, "next": {"type": ["string", "null"]}},
            }
        content: dict[str, Any] = {"schema": schema}
        if document.example is not None:
            content["example"] = {"items": [document.example], "next": None} if document.many else document.example
        good["content"] = {document.media: content}
    statuses = {*document.problems, 503}
    if document.role is not None:
        statuses |= {401, 403, 422, 429}
    if method in _WRITES:
        statuses |= {400, 409, 413, 415, 422}
    problem = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {str(document.status): good} | {
        str(status): {"description": STATUSES[status], "content": problem} for status in sorted(statuses)
    }


router = APIRouter(tags=["operations"])


@router.get("/openapi.json", include_in_schema=False)
def openapi(request: Request) -> Response:
    """For every valid key: the document names no secret, but nobody else needs it."""
    caller_of(request)
    return Response(msgspec.json.encode(request.app.openapi()), media_type="application/json")


@router.get("/docs", include_in_schema=False)
def page() -> Response:
    return _file("docs.html")


@router.get("/docs/{file}", include_in_schema=False)
def page_file(file: str) -> Response:
    return _file(file)


def _file(name: str) -> Response:
    if name not in _PAGES:
        raise NotFound("there is no such file")
    body = files("tidegate.protocols").joinpath("pages", name).read_bytes()
    return Response(body, headers={"Cache-Control": "no-cache"}, media_type=_PAGES[name])
