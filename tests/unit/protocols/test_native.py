from __future__ import annotations

import base64
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.unit.protocols.http import send, send_json
from tests.unit.protocols.test_images import picture
from tidegate.keys import KeyFacts
from tidegate.protocols.base import Response, Route
from tidegate.protocols.native import Native
from tidegate.settings import Limits
from tidegate.testing.predictor import FakePredictor
from tidegate.types import Signature, Tensors, TensorSpec

COLUMNS = ("sepal_length", "sepal_width", "petal_length", "petal_width")
IRIS = Signature((TensorSpec("X", "FP32", (-1, 4), columns=COLUMNS),), labels=("setosa", "versicolor", "virginica"))
WIDE = Signature((TensorSpec("X", "FP64", (-1, 2), allow_nan=True),))
TEXT = Signature((TensorSpec("text", "BYTES", content="text"),))
PAIR = Signature((TensorSpec("image", "BYTES", content="image"), TensorSpec("caption", "BYTES", content="text")))
ROW = [5.1, 3.5, 1.4, 0.2]
ARROW = "application/vnd.apache.arrow.stream"


def classify(inputs: Tensors) -> Tensors:
    """The class is the first column, rounded down."""
    classes = inputs["X"][:, 0].astype(np.int64) % 3
    return {"predictions": classes, "scores": np.eye(3)[classes]}


def double(inputs: Tensors) -> Tensors:
    return {"predictions": inputs["X"].sum(axis=1) * 2}


def lengths(inputs: Tensors) -> Tensors:
    first, last = next(iter(inputs.values())), list(inputs.values())[-1]
    return {
        "length": np.array([len(value) for value in first]),
        "shouted": np.array([value.upper() for value in last], object),
    }


@pytest.fixture
def predictor() -> FakePredictor:
    predictor = FakePredictor()
    predictor.live.add("iris", IRIS, classify, max_rows=100)
    predictor.live.add("wide", WIDE, double)
    predictor.live.add("text", TEXT, lengths)
    predictor.live.add("pair", PAIR, lengths)
    return predictor


@pytest.fixture
def routes(predictor: FakePredictor) -> list[Route]:
    return Native(predictor, Limits(image_pixels=10_000)).routes()  # type: ignore[arg-type]


async def test_the_answer_has_the_contracts_shape(routes: list[Route]) -> None:
    status, answer = await send_json(routes, "POST", "/predict", {"features": [[1.5, 0, 0, 0]]})
    assert status == 200
    timing = answer.pop("timing_ms")
    assert timing.keys() == {"queue", "run", "total", "batch_rows"}
    assert timing["batch_rows"] == 1
    assert answer == {
        "predictions": [1],
        "scores": [[0.0, 1.0, 0.0]],
        "labels": ["versicolor"],
        "model": {"endpoint": "iris", "name": "iris", "version": "1", "variant": "baseline"},
        "request_id": "request-1",
        "cached": False,
    }


async def test_headers_name_the_variant(routes: list[Route]) -> None:
    response = await send(routes, "POST", "/predict", msgspec.json.encode({"features": [ROW]}))
    assert (b"x-model-variant", b"baseline") in response.headers
    assert (b"content-type", b"application/json") in response.headers


@pytest.mark.parametrize("path", ["/predict", "/predict/iris", "/api/v1/predict", "/api/v1/predict/iris"])
@pytest.mark.parametrize(
    "body",
    [
        {"features": [ROW, ROW]},
        {"records": [dict(zip(COLUMNS, ROW, strict=True))] * 2},
        {"instances": [ROW, ROW]},
        {"instances": [dict(zip(COLUMNS, ROW, strict=True))] * 2},
        {"inputs": {"X": [ROW, ROW]}},
        {"inputs": [ROW, ROW]},
        {"inputs": {name: [value] * 2 for name, value in zip(COLUMNS, ROW, strict=True)}},
        {"features": [ROW, ROW], "units": ["a", "b"], "params": {}},
    ],
)
async def test_every_form_of_a_matrix_on_every_path(
    routes: list[Route], predictor: FakePredictor, path: str, body: Any
) -> None:
    status, answer = await send_json(routes, "POST", path, body)
    assert (status, answer["labels"]) == (200, ["virginica", "virginica"])
    given = predictor.calls[-1].inputs["X"]
    assert given.dtype == np.float32
    np.testing.assert_array_equal(given, np.array([ROW, ROW], np.float32))


async def test_fast_and_general_decoding_agree(routes: list[Route], predictor: FakePredictor) -> None:
    for body in (b'{"features": [[1, 2.5, -0.0, 1e-3]]}', b'{"features": [[1, 2.5, -0.0, 1e-3]], "params": {}}'):
        await send(routes, "POST", "/predict", body)
    fast, general = (call.inputs["X"] for call in predictor.calls)
    np.testing.assert_array_equal(fast, general)
    assert fast.dtype == general.dtype


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "the body is empty"),
        (b"[]", 400, "must be a JSON object"),
        (b'{"features": [[1, 2, 3, 4]], "features": [[1, 2, 3, 4]]}', 400, "twice"),
        (b'{"features": [[1, 2, 3, 4]], "\\u0066eatures": [[1, 2, 3, 4]]}', 400, "twice"),
        (b'{"features": ' + b"[" * 100_000, 400, "nested too deeply"),
        (b'{"features": [[1, 2, 3, NaN]]}', 400, "send null"),
        (b"{}", 422, "none of the keys that hold rows"),
        (b'{"rows": []}', 422, 'unknown key "rows"'),
        (b'{"features": [[1, 2, 3, 4]], "records": []}', 422, "features and records may not be mixed"),
        (b'{"features": []}', 422, "no rows"),
        (b'{"features": [[1, 2, 3]]}', 422, "row 0: expected 4 values, got 3"),
        (b'{"features": [[1, 2, 3, 4], [1]]}', 422, "row 1: expected 4 values, got 1"),
        (b'{"features": [[1, 2, 3, "4"]]}', 422, 'row 0, column "petal_width": expected number, got "4"'),
        (b'{"features": [[1, 2, 3, null]]}', 422, "missing values are not allowed"),
        (b'{"features": [[1, 2, 3, 1e39]]}', 422, "out of range for FP32"),
        (b'{"features": [[1, 2, 3, 1e999]]}', 422, "no model takes"),
        (b'{"features": [[1, 2, 3, 4]], "params": {"a": 1}}', 422, "takes no parameters"),
        (b'{"features": [[1, 2, 3, 4]], "units": []}', 422, "units: expected one text per row (1), got 0 units"),
        (b'{"features": [[1, 2, 3, 4]], "units": [1]}', 422, "units: row 0"),
        (b'{"text": "x"}', 422, "text does not fit this model"),
    ],
)
async def test_mistakes_are_4xx_and_say_what_to_change(
    routes: list[Route], predictor: FakePredictor, body: bytes, status: int, words: str
) -> None:
    """mlflow/mlflow#3354, #4897: bad input gives a 4xx that names the place."""
    response = await send(routes, "POST", "/predict", body)
    assert response.status == status
    assert words in msgspec.json.decode(response.body)["detail"]
    assert predictor.calls == []


async def test_one_row_too_many(routes: list[Route]) -> None:
    assert (await send_json(routes, "POST", "/predict", {"features": [ROW] * 100}))[0] == 200
    status, problem = await send_json(routes, "POST", "/predict", {"features": [ROW] * 101})
    assert status == 413
    assert "101 rows; this endpoint takes at most 100" in problem["detail"]


async def test_gaps_where_the_model_takes_them(routes: list[Route]) -> None:
    status, answer = await send_json(routes, "POST", "/predict/wide", {"features": [[None, 1], [1, 2]]})
    assert status == 200
    assert answer["predictions"] == [None, 6.0]


async def test_a_number_too_large_is_refused_beside_gaps_too(routes: list[Route], predictor: FakePredictor) -> None:
    gaps = Signature((TensorSpec("X", "FP32", (-1, 2), allow_nan=True),))
    predictor.live.add("gaps", gaps, double)
    assert (await send_json(routes, "POST", "/predict/gaps", {"features": [[None, 1]]}))[0] == 200
    assert (await send_json(routes, "POST", "/predict/gaps", {"features": [[None, 1e39]]}))[0] == 422


async def test_an_unknown_endpoint_names_the_known_ones(routes: list[Route]) -> None:
    status, problem = await send_json(routes, "POST", "/predict/nope", {"features": [ROW]})
    assert status == 404
    assert "iris" in problem["detail"]


async def test_several_outputs_come_by_name(routes: list[Route]) -> None:
    status, answer = await send_json(routes, "POST", "/predict/text", {"texts": ["ab", "c"]})
    assert status == 200
    assert answer["predictions"] == {"length": [2, 1], "shouted": ["AB", "C"]}
    assert "scores" not in answer
    assert "labels" not in answer


async def test_one_text(routes: list[Route]) -> None:
    _, answer = await send_json(routes, "POST", "/predict/text", {"text": "ab"})
    assert answer["predictions"]["length"] == [2]


async def test_a_changed_endpoint_is_seen(routes: list[Route], predictor: FakePredictor) -> None:
    """mlflow/mlflow#1768, #12589: an update needs no restart, also where answers are prepared beforehand."""
    await send_json(routes, "POST", "/predict", {"features": [ROW]})
    predictor.live.add("iris", WIDE, double, versions=("7",))
    _, answer = await send_json(routes, "POST", "/predict", {"features": [[1, 2]]})
    assert answer["predictions"] == [6.0]
    assert answer["model"]["version"] == "7"


async def test_msgpack_in_and_out(routes: list[Route]) -> None:
    headers = {"content-type": "application/msgpack", "accept": "application/msgpack"}
    response = await send(routes, "POST", "/predict", msgspec.msgpack.encode({"features": [ROW]}), headers)
    assert (b"content-type", b"application/msgpack") in response.headers
    answer = msgspec.msgpack.decode(response.body)
    assert answer["predictions"] == [2]
    assert answer["model"]["variant"] == "baseline"


async def test_msgpack_arrays_in_and_out(routes: list[Route]) -> None:
    headers = {"content-type": "application/msgpack", "accept": "application/msgpack"}
    data = np.array([ROW, ROW], "<f4").tobytes()
    body = {"inputs": {"X": {"dtype": "FP32", "shape": [2, 4], "data": data}}}
    response = await send(routes, "POST", "/predict", msgspec.msgpack.encode(body), headers)
    scores = msgspec.msgpack.decode(response.body)["scores"]
    assert scores["dtype"] == "FP64"
    np.testing.assert_array_equal(np.frombuffer(scores["data"]).reshape(scores["shape"]), [[0, 0, 1], [0, 0, 1]])


async def test_arrow_in_and_out(routes: list[Route]) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]

    from tests.unit.protocols.test_arrow import stream

    table = pa.table({name: [value, value] for name, value in zip(COLUMNS, ROW, strict=True)})
    response = await send(routes, "POST", "/predict", stream(table), {"content-type": ARROW, "accept": ARROW})
    assert response.status == 200
    answer = pa.ipc.open_stream(response.body).read_all().to_pydict()
    assert answer["labels"] == ["virginica", "virginica"]
    assert answer["score_virginica"] == [1.0, 1.0]


@pytest.mark.parametrize("accept", ["*/*", "text/html, */*;q=0.1", "application/json", "application/*", "image/png"])
async def test_json_is_the_answer_when_nothing_else_is_asked_for(routes: list[Route], accept: str) -> None:
    response = await send(routes, "POST", "/predict", msgspec.json.encode({"features": [ROW]}), {"accept": accept})
    assert msgspec.json.decode(response.body)["predictions"] == [2]


async def test_other_media_types(routes: list[Route]) -> None:
    response = await send(routes, "POST", "/predict", b"<a/>", {"content-type": "application/xml"})
    assert response.status == 415
    assert b"application/json, application/msgpack" in response.body


async def test_images_as_base64_beside_text(routes: list[Route], predictor: FakePredictor) -> None:
    blob = picture("PNG")
    body = {"records": [{"image": base64.b64encode(blob).decode(), "caption": "cat"}]}
    status, answer = await send_json(routes, "POST", "/predict/pair", body)
    assert status == 200
    assert answer["predictions"]["length"] == [len(blob)]


async def test_images_are_checked_before_the_model_sees_them(routes: list[Route], predictor: FakePredictor) -> None:
    large = base64.b64encode(picture("PNG", (101, 100))).decode()
    status, problem = await send_json(routes, "POST", "/predict/pair", {"records": [{"image": large, "caption": "x"}]})
    assert (status, predictor.calls) == (413, [])
    assert "101 x 100 pixels" in problem["detail"]


async def test_info_models_and_model(routes: list[Route]) -> None:
    """kserve/kserve#5335, #2130: what is configured is what is served, and info shows the snapshot in force."""
    status, info = await send_json(routes, "GET", "/info")
    assert status == 200
    assert info["snapshot"] == 1
    assert info["endpoints"]["iris"][0]["share"] == 100
    _, models = await send_json(routes, "GET", "/models")
    assert [model["endpoint"] for model in models["models"]] == ["iris", "wide", "text", "pair"]
    status, model = await send_json(routes, "GET", "/models/iris")
    assert status == 200
    assert model["signature"]["inputs"][0]["columns"] == list(COLUMNS)
    assert model["variants"][0]["facts"]["runtime"] == "function"
    assert "uri" not in model["variants"][0]["facts"]
    assert (await send_json(routes, "GET", "/models/nope"))[0] == 404


async def test_a_key_sees_its_endpoints_only(routes: list[Route]) -> None:
    facts = KeyFacts(name="k", endpoints=("iris",))
    assert set((await send_json(routes, "GET", "/info", facts=facts))[1]["endpoints"]) == {"iris"}
    _, models = await send_json(routes, "GET", "/models", facts=facts)
    assert [model["endpoint"] for model in models["models"]] == ["iris"]


async def test_the_example_of_every_endpoint_runs(routes: list[Route], predictor: FakePredictor) -> None:
    for name in predictor.live.endpoints:
        _, model = await send_json(routes, "GET", f"/models/{name}")
        status, answer = await send_json(routes, "POST", f"/predict/{name}", model["example"])
        assert status == 200, answer


async def test_feedback_is_refused_while_there_is_no_store(routes: list[Route]) -> None:
    response: Response = await send(routes, "POST", "/feedback", b'{"request_id": "x"}')
    assert response.status == 503
    assert (b"retry-after", b"60") in response.headers
