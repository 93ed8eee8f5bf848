from __future__ import annotations

import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import jsonschema.validators  # type: ignore[import-untyped]
import msgspec
import pytest

from tests.unit.protocols.http import send, send_json
from tests.unit.protocols.test_native import IRIS, PAIR, TEXT, WIDE, classify, double, lengths
from tidegate.metrics import Metrics
from tidegate.protocols.base import Route
from tidegate.protocols.errors import NATIVE
from tidegate.protocols.mlflow import Mlflow
from tidegate.protocols.native import Native
from tidegate.protocols.openapi import MOST_ENDPOINTS, OpenApi
from tidegate.protocols.v2 import OpenInference
from tidegate.serving.events.recorder import Recorder
from tidegate.settings import Limits, Store
from tidegate.testing.predictor import FakePredictor
from tidegate.testing.sink import MemorySink
from tidegate.types import Signature, Tensors, TensorSpec

MIXED = Signature(
    (TensorSpec("age", "INT8"), TensorSpec("city", "BYTES", content="text"), TensorSpec("vip", "BOOL", required=False)),
    example={"age": 41, "city": "Ulm"},
)


def shout(inputs: Tensors) -> Tensors:
    return {"predictions": inputs["city"]}


@pytest.fixture
def predictor(tmp_path: Path) -> FakePredictor:
    predictor = FakePredictor()
    predictor.live.recorder = Recorder(Store(url="memory"), MemorySink(), Metrics(), tmp_path)
    predictor.live.add("iris", IRIS, classify, max_rows=100)
    predictor.live.add("wide", WIDE, double)
    predictor.live.add("text", TEXT, lengths)
    predictor.live.add("pair", PAIR, lengths)
    predictor.live.add("mixed", MIXED, shout)
    return predictor


@pytest.fixture
def routes(predictor: FakePredictor) -> list[Route]:
    made: Any = predictor
    routes = [*Native(made, Limits()).routes(), *Mlflow(made, Limits()).routes(), *OpenInference(made).routes()]
    return [*routes, *OpenApi(made.live, routes).routes()]


async def document_of(routes: list[Route]) -> Any:
    status, document = await send_json(routes, "GET", "/openapi.json")
    assert status == 200
    return document


def validator(document: Any, schema: Any) -> Any:
    """A validator whose references find the document's components."""
    return jsonschema.Draft202012Validator({**schema, "components": document["components"]})


async def test_every_route_is_documented(routes: list[Route]) -> None:
    """Hot calls are plain handlers that no framework documents; none may be left out."""
    paths = (await document_of(routes))["paths"]
    for route in routes:
        operation = paths[route.path][route.method.lower()]
        assert operation["summary"]
        assert operation["responses"]


async def test_the_document_is_valid_openapi(routes: list[Route]) -> None:
    from schemathesis.specs.openapi import definitions

    document = await document_of(routes)
    errors = list(
        jsonschema.validators.validator_for(definitions.OPENAPI_31)(definitions.OPENAPI_31).iter_errors(document)
    )
    assert errors == []
    identifiers = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(identifiers) == len(set(identifiers))
    for path, methods in document["paths"].items():
        for operation in methods.values():
            named = {item["name"] for item in operation.get("parameters", []) if item["in"] == "path"}
            assert named == set(re.findall(r"\{(\w+)\}", path))


async def test_every_schema_is_a_schema_and_every_reference_leads_somewhere(routes: list[Route]) -> None:
    document = await document_of(routes)
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for pointer in re.findall(r'"\$ref":"#/([^"]+)"', msgspec.json.encode(document).decode()):
        node = document
        for name in pointer.split("/"):
            node = node[name]


async def test_every_example_fits_its_schema_and_runs(routes: list[Route]) -> None:
    document = await document_of(routes)
    ran = 0
    for path, methods in document["paths"].items():
        content = methods.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json", {})
        for example in content.get("examples", {}).values():
            validator(document, content["schema"]).validate(example["value"])
            status, answer = await send_json(routes, "POST", path, example["value"])
            assert status == 200, (path, example, answer)
            schema = methods["post"]["responses"]["200"]["content"]["application/json"]["schema"]
            validator(document, schema).validate(answer)
            ran += 1
    assert ran >= 15


async def test_problems_fit_their_schema(routes: list[Route]) -> None:
    document = await document_of(routes)
    documented = document["paths"]["/predict/iris"]["post"]["responses"]
    for body in (b"", b"{}", b'{"features": [[1]]}', b'{"features": [["x", 1, 1, 1]]}'):
        response = await send(routes, "POST", "/predict/iris", body)
        assert str(response.status) in documented
        problem = msgspec.json.decode(response.body)
        validator(document, document["components"]["schemas"]["Problem"]).validate(problem)


async def test_every_status_of_the_table_is_documented(routes: list[Route]) -> None:
    documented = (await document_of(routes))["paths"]["/predict/{endpoint}"]["post"]["responses"]
    statuses = {str(kind.status) for kind in NATIVE.values()} - {"405", "499"}  # another method; nobody reads it
    assert statuses <= documented.keys()


@pytest.mark.parametrize(
    "body",
    [
        {"features": [[1, 2, 3]]},
        {"features": [[1, 2, 3, "x"]]},
        {"features": [[1, 2, 3, 1e39]]},
        {"features": [[1, 2, 3, None]]},
        {"features": []},
        {"features": [[1, 2, 3, 4]] * 101},
        {"records": [{"sepal_length": 1}]},
        {"features": [[1, 2, 3, 4]], "records": []},
        {"texts": ["x"]},
        {},
    ],
)
async def test_schema_and_server_refuse_the_same(routes: list[Route], body: Any) -> None:
    document = await document_of(routes)
    schema = document["paths"]["/predict/iris"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert not validator(document, schema).is_valid(body)
    assert (await send_json(routes, "POST", "/predict/iris", body))[0] in (413, 422)


async def test_the_document_follows_the_snapshot(predictor: FakePredictor) -> None:
    openapi = OpenApi(predictor.live, Native(predictor, Limits()).routes())  # type: ignore[arg-type]
    before = await document_of(openapi.routes())
    predictor.live.endpoints = {**predictor.live.endpoints, "more": predictor.live.endpoints["iris"]}
    after = await document_of(openapi.routes())
    assert "/predict/more" in after["paths"].keys() - before["paths"].keys()


async def test_many_endpoints_do_not_make_an_endless_document(predictor: FakePredictor) -> None:
    for number in range(MOST_ENDPOINTS + 20):
        predictor.live.add(f"e{number}", WIDE, double)
    routes = Native(predictor, Limits()).routes()  # type: ignore[arg-type]
    document = await document_of(OpenApi(predictor.live, routes).routes())  # type: ignore[arg-type]
    own = [path for path in document["paths"] if re.fullmatch(r"/predict/\w+", path)]
    assert len(own) == MOST_ENDPOINTS


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.inline = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [value for name in ("href", "src") if (value := values.get(name))]
        self.inline += (tag == "script" and "src" not in values) or tag == "style" or "style" in values


async def test_the_page_needs_nothing_from_elsewhere(routes: list[Route]) -> None:
    response = await send(routes, "GET", "/docs")
    policy = dict(response.headers)[b"content-security-policy"]
    assert b"default-src 'none'" in policy
    assert b"unsafe" not in policy
    page = _Links()
    page.feed(response.body.decode())
    assert page.inline == 0
    for link in page.links:
        assert "//" not in link
        if link.startswith("docs/"):
            assert (await send(routes, "GET", f"/{link}")).status == 200


async def test_files_of_the_page(routes: list[Route]) -> None:
    script = await send(routes, "GET", "/docs/docs.js")
    assert dict(script.headers)[b"content-type"].startswith(b"text/javascript")
    assert b"innerHTML" not in script.body
    again = await send(routes, "GET", "/docs/docs.js")
    assert hashlib.sha256(again.body).digest() == hashlib.sha256(script.body).digest()
    for name in ("secret.txt", "..%2F__init__.py"):
        assert (await send(routes, "GET", f"/docs/{name}")).status == 404
