"""The OpenAPI 3.1 document of all routes, with each endpoint's own schema and example, and the page that shows it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import msgspec

from tidegate import __version__
from tidegate.protocols import documents, schemas
from tidegate.protocols.base import Request, Response, Route
from tidegate.protocols.documents import Document
from tidegate.protocols.errors import native_error
from tidegate.protocols.examples import bodies_of
from tidegate.serving.live import Endpoint, Live

MOST_ENDPOINTS = 100
"""Endpoints that get a path of their own; the others share the one with a parameter."""

_NAMES = re.compile(r"\{(\w+)\}")
_JSON = ((b"content-type", b"application/json"), (b"cache-control", b"no-cache"))
_PAGES: Mapping[str, bytes] = {
    "docs.html": b"text/html; charset=utf-8",
    "docs.css": b"text/css; charset=utf-8",
    "docs.js": b"text/javascript; charset=utf-8",
}
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class OpenApi:
    """``routes`` are all others of the server; the document follows the endpoints in force."""

    def __init__(self, live: Live, routes: Sequence[Route]) -> None:
        self._live = live
        self._others = tuple(routes)
        self._made_for: Any = None
        self._body = b""
        self._pages: dict[str, bytes] = {}

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/openapi.json", self.openapi, "predict", documents.OPENAPI, native_error),
            Route("GET", "/docs", self.page, "none", documents.DOCS, native_error),
            Route("GET", "/docs/{file}", self.page, "none", documents.DOCS_FILE, native_error),
        ]

    async def openapi(self, request: Request) -> Response:
        endpoints = self._live.endpoints
        if self._made_for is not endpoints:
            document = build((*self._others, *self.routes()), endpoints, self._live.snapshot.default_endpoint)
            self._body = msgspec.json.encode(document)
            self._made_for = endpoints
        return Response(self._body, 200, _JSON)

    async def page(self, request: Request) -> Response:
        name = request.args.get("file", "docs.html")
        if name not in _PAGES:
            from tidegate.errors import NotFound

            raise NotFound("there is no such file")
        if name not in self._pages:
            self._pages[name] = files("tidegate.protocols").joinpath("pages", name).read_bytes()
        headers = (
            (b"content-type", _PAGES[name]),
            (b"content-security-policy", _POLICY),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cache-control", b"no-cache"),
        )
        return Response(self._pages[name], 200, headers)


def build(routes: Sequence[Route], endpoints: Mapping[str, Endpoint], default_endpoint: str = "") -> Document:
    """The whole document as plain data."""
    paths: dict[str, Document] = {}
    components: dict[str, Any] = dict(schemas.SHARED)
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    default = endpoints.get(default_endpoint) or next(iter(endpoints.values()), None)
    if default is not None:
        for path in ("/predict", "/api/v1/predict"):
            _add_examples(paths.get(path, {}).get("post"), default)
        _add_invocation_examples(paths.get("/invocations", {}).get("post"), default)
    template = paths.get("/predict/{endpoint}", {}).get("post")
    if template is not None:
        for name, endpoint in list(endpoints.items())[:MOST_ENDPOINTS]:
            schema_name = _unused(f"Predict_{name}", components)
            components[schema_name] = schemas.request_schema(endpoint.signature, endpoint.settings.max_rows)
            paths[f"/predict/{name}"] = {"post": _endpoint_operation(template, endpoint, schema_name)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tidegate",
            "version": __version__,
            "description": "Predictions, and what answers them. Rows are counted from 0; n rows in, n rows out.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": name, "description": text} for name, text in documents.TAGS.items()],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": documents.SECURITY_SCHEMES},
    }


def _operation(route: Route) -> Document:
    """The route's document, completed with what every operation must have."""
    document: Document = dict(route.document) or documents.fallback(route.method, route.path)
    document.setdefault("tags", ["operations"])
    document["operationId"] = _identifier(f"{route.method.lower()} {route.path}")
    described = {item["name"] for item in document.get("parameters", ()) if item["in"] == "path"}
    missing = [name for name in _NAMES.findall(route.path) if name not in described]
    if missing:
        document["parameters"] = [*map(documents.path_parameter, missing), *document.get("parameters", ())]
    document.setdefault("responses", {"200": {"description": "OK"}})
    document["security"] = [] if route.role == "none" else documents.SECURITY
    return document


def _endpoint_operation(template: Document, endpoint: Endpoint, schema_name: str) -> Document:
    operation = dict(template)
    operation["operationId"] = _identifier(f"predict {endpoint.name}")
    operation["summary"] = f"Predict with {endpoint.name}"
    operation["parameters"] = [item for item in template["parameters"] if item["in"] != "path"]
    operation["responses"] = {status: item for status, item in template["responses"].items() if status != "404"}
    body = dict(template["requestBody"])
    json_content = {"schema": {"$ref": f"#/components/schemas/{schema_name}"}}
    body["content"] = {**body["content"], "application/json": json_content}
    if not any(spec.content == "image" for spec in endpoint.signature.inputs):
        body["content"].pop("multipart/form-data", None)
    operation["requestBody"] = body
    _add_examples(operation, endpoint)
    return operation


def _add_examples(operation: Document | None, endpoint: Endpoint) -> None:
    """Puts bodies that the endpoint answers into an operation, in place of the shared content object."""
    if operation is None:
        return
    bodies = bodies_of(endpoint.signature)
    examples = {form: {"summary": f"{endpoint.name}: {form}", "value": body} for form, body in bodies.items()}
    _put_examples(operation, examples)


def _add_invocation_examples(operation: Document | None, endpoint: Endpoint) -> None:
    if operation is None:
        return
    bodies = bodies_of(endpoint.signature)
    examples: Document = {"inputs": {"summary": f"{endpoint.name}: inputs", "value": bodies["inputs"]}}
    if "records" in bodies:
        value = {"dataframe_records": bodies["records"]["records"]}
        examples["dataframe_records"] = {"summary": f"{endpoint.name}: dataframe_records", "value": value}
    _put_examples(operation, examples)


def _put_examples(operation: Document, examples: Document) -> None:
    body = dict(operation["requestBody"])
    content = dict(body["content"])
    content["application/json"] = {**content["application/json"], "examples": examples}
    body["content"] = content
    operation["requestBody"] = body


def _identifier(text: str) -> str:
    return re.sub(r"\W+", "_", text).strip("_")


def _unused(name: str, taken: Mapping[str, Any]) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    while name in taken:
        name += "_"
    return name
