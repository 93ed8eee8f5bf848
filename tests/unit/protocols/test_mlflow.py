from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from tests.unit.protocols.http import send, send_json
from tidegate import __version__
from tidegate.protocols.base import Request, Route
from tidegate.protocols.mlflow import Mlflow
from tidegate.settings import Limits
from tidegate.testing.predictor import FakePredictor
from tidegate.types import Signature, Tensors, TensorSpec

MATRIX = Signature((TensorSpec("X", "FP64", (-1, 2), columns=("age", "income")),))
TABLE = Signature(
    (
        TensorSpec("age", "FP64", allow_nan=True),
        TensorSpec("city", "BYTES", content="text"),
        TensorSpec("visits", "INT64"),
        TensorSpec("vip", "BOOL"),
    )
)


def total(inputs: Tensors) -> Tensors:
    return {"predictions": inputs["X"].sum(axis=1)}


def ages(inputs: Tensors) -> Tensors:
    return {"predictions": inputs["age"]}


@pytest.fixture
def predictor() -> FakePredictor:
    predictor = FakePredictor()
    predictor.live.add("matrix", MATRIX, total, max_rows=50)
    predictor.live.add("table", TABLE, ages)
    return predictor


@pytest.fixture
def routes(predictor: FakePredictor) -> list[Route]:
    return Mlflow(predictor, Limits()).routes()  # type: ignore[arg-type]


async def invoke(
    routes: list[Route], body: bytes, media: str = "application/json", query: bytes = b""
) -> tuple[int, Any]:
    """Through the handler itself, since the query belongs to the request."""
    route = routes[0]
    request = Request("POST", "/invocations", query, {b"content-type": media.encode()}, body, {}, "request-1", 0.0)
    try:
        response = await route.handler(request)
    except Exception as error:
        assert route.on_error is not None
        response = route.on_error(error, request)
    return response.status, msgspec.json.decode(response.body)


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": ["income", "age"], "data": [[2, 1], [4, 3]], "index": [0, 1]}},
        {"dataframe_records": [{"age": 1, "income": 2}, {"age": 3, "income": 4}]},
        {"instances": [[1, 2], [3, 4]]},
        {"inputs": [[1, 2], [3, 4]]},
        {"inputs": {"age": [1, 3], "income": [2, 4]}},
        {"inputs": [[1, 2], [3, 4]], "params": {"temperature": 1}},
    ],
)
async def test_every_form(routes: list[Route], body: Any) -> None:
    assert await send_json(routes, "POST", "/invocations", body) == (200, {"predictions": [3.0, 7.0]})


async def test_the_endpoint_is_in_the_query(routes: list[Route], predictor: FakePredictor) -> None:
    body = b'{"dataframe_records": [{"age": 1, "city": "x", "visits": 2, "vip": true}]}'
    assert await invoke(routes, body, query=b"endpoint=table") == (200, {"predictions": [1.0]})
    status, answer = await invoke(routes, body, query=b"endpoint=nope")
    assert (status, answer["error_code"]) == (404, "ENDPOINT_NOT_FOUND")
    assert predictor.calls[-1].protocol == "mlflow"


async def test_csv_is_read_by_the_signature(routes: list[Route], predictor: FakePredictor) -> None:
    body = 'vip,city,visits,age\r\ntrue,"Köln, Süd",3,1.5\r\n0,007,4.0,\r\n'.encode()
    status, answer = await invoke(routes, body, "text/csv; charset=utf-8", b"endpoint=table")
    assert (status, answer) == (200, {"predictions": [1.5, None]})
    inputs = predictor.calls[-1].inputs
    assert inputs["city"].tolist() == ["Köln, Süd", "007"]
    assert inputs["visits"].tolist() == [3, 4]
    assert inputs["vip"].tolist() == [True, False]
    assert np.isnan(inputs["age"][1])


async def test_the_index_that_pandas_writes_is_left_out(routes: list[Route]) -> None:
    assert await invoke(routes, b",age,income\n0,1,2\n1,3,4\n", "text/csv") == (200, {"predictions": [3.0, 7.0]})
    assert await invoke(routes, b"age,income\nTrue,2\nFALSE,4\n", "text/csv") == (200, {"predictions": [3.0, 4.0]})


async def test_nan_as_python_writes_it_is_a_missing_value(routes: list[Route]) -> None:
    row = b'{"age": NaN, "city": "x", "visits": 2, "vip": true}'
    body = b'{"dataframe_records": [' + row + b"]}"
    assert await invoke(routes, body, query=b"endpoint=table") == (200, {"predictions": [None]})
    status, answer = await invoke(routes, b'{"instances": [[1, NaN]]}')
    assert status == 400
    assert 'row 0, column "income": expected number, got null' in answer["message"]


@pytest.mark.parametrize(
    ("body", "media", "words"),
    [
        (b"", "application/json", "the body is empty"),
        (b'{"data": []}', "application/json", 'unknown key "data"'),
        (b'{"inputs": [[1, 2]], "instances": [[1, 2]]}', "application/json", "may not be mixed"),
        (b'{"dataframe_split": [[1, 2]]}', "application/json", 'expected {"columns"'),
        (b'{"dataframe_records": [{"age": "old", "income": 1}]}', "application/json", 'row 0, column "age": expected number, got "old"'),
        (b'{"inputs": [[1, Infinity]]}', "application/json", "expected a finite number, got inf"),
        (b"", "text/csv", "the body is empty"),
        (b"age,income\n", "text/csv", "no rows"),
        (b"age,income\n1,old\n", "text/csv", 'row 0, column "income": expected number, got "old"'),
        (b"age,income\n1\n", "text/csv", "row 0: expected 2 values, one per column, got 1"),
        (b"age,wage\n1,2\n", "text/csv", 'missing column "income" and unknown column "wage"'),
        (b'age,income\n1,"2\n', "text/csv", "not CSV"),
        (b"age,income\n1,1_000\n", "text/csv", "expected number"),
        (b"age,income\n1,inf\n", "text/csv", "expected a finite number, got inf"),
        (b"\xff\xfe", "text/csv", "not UTF-8"),
    ],
)  # fmt: skip
async def test_mistakes_are_400_in_mlflows_shape(routes: list[Route], body: bytes, media: str, words: str) -> None:
    """mlflow/mlflow#3354, #4897, #7524: a 4xx that names row and column, and shows the forms; no stack trace."""
    status, answer = await invoke(routes, body, media)
    assert (status, answer["error_code"]) == (400, "BAD_REQUEST")
    assert words in answer["message"]
    assert answer.keys() == {"error_code", "message"}


async def test_limits(routes: list[Route]) -> None:
    rows = b"age,income\n" + b"1,2\n" * 51
    assert (await invoke(routes, rows, "text/csv"))[0] == 413
    assert (await invoke(routes, b"x", "application/x-parquet"))[0] == 415
    assert (await invoke(routes, b"{}", query=b"&".join([b"endpoint=a"] * 99)))[0] == 400


async def test_ping_and_version(routes: list[Route], predictor: FakePredictor) -> None:
    assert (await send(routes, "GET", "/ping")).status == 200
    predictor.live.reasons.append("draining")
    assert (await send(routes, "GET", "/ping")).status == 503
    assert (await send(routes, "GET", "/version")).body == __version__.encode()
