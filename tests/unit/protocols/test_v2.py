from __future__ import annotations

from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import numpy as np
import pytest

from tests.unit.protocols.http import send, send_json
from tidegate.keys import KeyFacts
from tidegate.protocols.base import Route
from tidegate.protocols.v2 import OpenInference
from tidegate.testing.predictor import FakePredictor
from tidegate.types import Signature, Tensors, TensorSpec

MATRIX = Signature(
    (TensorSpec("x", "FP32", (-1, 4), columns=("a", "b", "c", "d")),),
    (TensorSpec("predictions", "INT64"), TensorSpec("scores", "FP32", (-1, 2))),
)
TEXT = Signature((TensorSpec("text", "BYTES", content="text"),), (TensorSpec("upper", "BYTES"),))
TABLE = Signature(
    (
        TensorSpec("age", "INT64"),
        TensorSpec("plan", "BYTES", content="text"),
        TensorSpec("score", "FP64", allow_nan=True, required=False),
    ),
    (TensorSpec("age", "INT64"),),
)


def classify(inputs: Tensors) -> Tensors:
    sums = inputs["x"].sum(axis=1)
    return {"predictions": (sums > 1).astype(np.int64), "scores": np.stack([sums, -sums], axis=1)}


def upper(inputs: Tensors) -> Tensors:
    return {"upper": np.array([text.upper() for text in inputs["text"]], dtype=object)}


@pytest.fixture
def predictor() -> FakePredictor:
    predictor = FakePredictor()
    predictor.live.add("iris", MATRIX, classify, ("3", "4"), max_rows=100)
    predictor.live.add("shout", TEXT, upper)
    predictor.live.add("churn", TABLE, lambda inputs: {"age": inputs["age"]})
    return predictor


@pytest.fixture
def routes(predictor: FakePredictor) -> list[Route]:
    return OpenInference(predictor).routes()  # type: ignore[arg-type]


def tensor(data: Any, shape: list[int] | None = None, datatype: str = "FP32", name: str = "x") -> dict[str, Any]:
    return {
        "name": name,
        "shape": list(np.shape(data)) if shape is None else shape,
        "datatype": datatype,
        "data": data,
    }


async def infer(routes: list[Route], *inputs: Any, model: str = "iris", **more: Any) -> tuple[int, Any]:
    return await send_json(routes, "POST", f"/v2/models/{model}/infer", {"inputs": inputs, **more})


async def refusal(routes: list[Route], *inputs: Any, model: str = "iris", **more: Any) -> str:
    status, answer = await infer(routes, *inputs, model=model, **more)
    assert status in (400, 413), answer
    assert list(answer) == ["error"]
    return str(answer["error"])


async def binary(
    routes: list[Route], header: Any, tail: bytes, model: str = "iris", length: int | None = None
) -> tuple[int, dict[str, Any], bytes]:
    text = header if isinstance(header, bytes) else msgspec.json.encode(header)
    headers = {"Inference-Header-Content-Length": str(len(text) if length is None else length)}
    response = await send(routes, "POST", f"/v2/models/{model}/infer", text + tail, headers)
    size = int(dict(response.headers).get(b"inference-header-content-length", str(len(response.body)).encode()))
    return response.status, msgspec.json.decode(response.body[:size]), response.body[size:]


ROWS = [[1, 2, 3, 4], [0.5, 0, 0, 0]]
BINARY = np.array(ROWS, np.float32).tobytes()


def binary_input(size: int, shape: tuple[int, ...] = (2, 4), datatype: str = "FP32") -> dict[str, Any]:
    return {"name": "x", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}}


async def test_server_metadata_and_health(predictor: FakePredictor, routes: list[Route]) -> None:
    status, answer = await send_json(routes, "GET", "/v2")
    assert status == 200
    assert answer["extensions"] == ["binary_tensor_data", "model_repository", "statistics"]
    assert (await send_json(routes, "GET", "/v2/health/live")) == (200, {"live": True})
    assert (await send_json(routes, "GET", "/v2/health/ready")) == (200, {"ready": True})
    predictor.live.reasons.append("iris is loading")
    assert (await send_json(routes, "GET", "/v2/health/ready"))[0] == 503


async def test_model_metadata(routes: list[Route]) -> None:
    status, answer = await send_json(routes, "GET", "/v2/models/iris")
    assert status == 200
    assert answer == {
        "name": "iris",
        "versions": ["3", "4"],
        "platform": "function",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [
            {"name": "predictions", "datatype": "INT64", "shape": [-1]},
            {"name": "scores", "datatype": "FP32", "shape": [-1, 2]},
        ],
    }
    assert (await send_json(routes, "GET", "/v2/models/iris/versions/4"))[1]["versions"] == ["4"]
    status, answer = await send_json(routes, "GET", "/v2/models/iris/versions/9")
    assert status == 404
    assert answer == {"error": 'model "iris" has no version "9"; it has 3, 4'}
    assert (await send_json(routes, "GET", "/v2/models/none"))[0] == 404


async def test_model_ready_follows_its_version(predictor: FakePredictor, routes: list[Route]) -> None:
    predictor.live.endpoints["iris"].versions["candidate-1"].ready = False
    assert (await send_json(routes, "GET", "/v2/models/iris/ready")) == (200, {"name": "iris", "ready": True})
    assert (await send_json(routes, "GET", "/v2/models/iris/versions/3/ready"))[0] == 200
    assert (await send_json(routes, "GET", "/v2/models/iris/versions/4/ready"))[0] == 503


@pytest.mark.parametrize("data", [ROWS, [1, 2, 3, 4, 0.5, 0, 0, 0]])
async def test_infer_takes_nested_and_flat_json(routes: list[Route], data: Any) -> None:
    status, answer = await infer(routes, tensor(data, [2, 4]), id="42")
    assert status == 200
    assert answer == {
        "model_name": "iris",
        "model_version": "3",
        "id": "42",
        "outputs": [
            {"name": "predictions", "datatype": "INT64", "shape": [2], "data": [1, 0]},
            {"name": "scores", "datatype": "FP32", "shape": [2, 2], "data": [10, -10, 0.5, -0.5]},
        ],
    }


async def test_a_named_version_is_forced(predictor: FakePredictor, routes: list[Route]) -> None:
    status, answer = await send_json(routes, "POST", "/v2/models/iris/versions/4/infer", {"inputs": [tensor(ROWS)]})
    assert (status, answer["model_version"]) == (200, "4")
    assert predictor.calls[0].version == "4"
    assert "id" not in answer


async def test_outputs_are_selected_in_the_order_asked_for(routes: list[Route]) -> None:
    _, answer = await infer(routes, tensor(ROWS), outputs=[{"name": "scores"}])
    assert [output["name"] for output in answer["outputs"]] == ["scores"]
    error = await refusal(routes, tensor(ROWS), outputs=[{"name": "nothing"}])
    assert error == 'unknown output "nothing"; the model gives "predictions", "scores"'


async def test_binary_tensors_in_and_out(routes: list[Route]) -> None:
    status, answer, tail = await binary(
        routes, {"inputs": [binary_input(32)], "parameters": {"binary_data_output": True}}, BINARY
    )
    assert status == 200
    assert [output["parameters"]["binary_data_size"] for output in answer["outputs"]] == [16, 16]
    assert np.frombuffer(tail[:16], "<i8").tolist() == [1, 0]
    assert np.frombuffer(tail[16:], "<f4").tolist() == [10, -10, 0.5, -0.5]


async def test_json_and_binary_mix(routes: list[Route]) -> None:
    outputs = [{"name": "scores", "parameters": {"binary_data": True}}, {"name": "predictions"}]
    status, answer, tail = await binary(routes, {"inputs": [binary_input(32)], "outputs": outputs}, BINARY)
    assert status == 200
    assert answer["outputs"][1]["data"] == [1, 0]
    assert len(tail) == 16
    response = await send(
        routes,
        "POST",
        "/v2/models/iris/infer",
        msgspec.json.encode({"inputs": [tensor(ROWS)], "parameters": {"binary_data_output": True}}),
    )
    assert dict(response.headers)[b"content-type"] == b"application/octet-stream"
    header = {"inputs": [tensor([7], datatype="INT64", name="age"), binary_input(5, (1,), "BYTES") | {"name": "plan"}]}
    status, answer, _ = await binary(routes, header, b"\x01\0\0\0p", model="churn")
    assert (status, answer["outputs"][0]["data"]) == (200, [7])


async def test_length_zero_makes_the_body_the_input(routes: list[Route]) -> None:
    status, _, tail = await binary(routes, b"", BINARY, length=0)
    assert status == 200
    assert np.frombuffer(tail[:16], "<i8").tolist() == [1, 0]
    _, answer, tail = await binary(routes, b"", b"hello", model="shout", length=0)
    assert tail == b"\x05\0\0\0HELLO"
    status, answer, _ = await binary(routes, b"", BINARY[:-1], length=0)
    assert status == 400
    assert answer["error"] == 'input "x": 31 bytes are not a whole number of rows of 16 bytes'
    status, answer, _ = await binary(routes, b"", BINARY, model="churn", length=0)
    assert status == 400


@pytest.mark.parametrize(
    ("header", "tail", "length", "message"),
    [
        ({"inputs": [binary_input(32)]}, BINARY, 10_000, "Inference-Header-Content-Length is 10000, but the body has"),
        ({"inputs": [binary_input(32)]}, BINARY[:-4], None, "binary_data_size is 32, but 28 bytes are left"),
        ({"inputs": [binary_input(28)]}, BINARY, None, "4 bytes follow the tensors"),
        ({"inputs": [binary_input(28)]}, BINARY[:-4], None, "28 bytes of data, but shape [2, 4] of FP32 takes 32"),
        ({"inputs": [binary_input(-1)]}, BINARY, None, "binary_data_size must be a number of bytes"),
        ({"inputs": [binary_input(True)]}, BINARY, None, "binary_data_size must be a number of bytes"),
        ({"inputs": [binary_input(32) | {"data": [1]}]}, BINARY, None, 'has both "data" and "binary_data_size"'),
        ({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32"}]}, b"", None, "has neither"),
        (b"{", b"", None, "the JSON part cannot be read"),
    ],
)
async def test_binary_sizes_must_match(
    routes: list[Route], header: Any, tail: bytes, length: int | None, message: str
) -> None:
    status, answer, _ = await binary(routes, header, tail, length=length)
    assert status == 400
    assert message in answer["error"]


@pytest.mark.parametrize("length", ["-1", "1.5", "", "９", "1" * 4000])
async def test_a_length_that_is_no_number(routes: list[Route], length: str) -> None:
    headers = {"Inference-Header-Content-Length": length}
    response = await send(routes, "POST", "/v2/models/iris/infer", b"{}", headers)
    assert response.status == 400


async def test_misaligned_binary_data_reaches_the_model_aligned(predictor: FakePredictor, routes: list[Route]) -> None:
    for padding in range(8):
        header = msgspec.json.encode({"inputs": [binary_input(32)]}) + b" " * padding
        assert (await binary(routes, header, BINARY))[0] == 200
    assert all(call.inputs["x"].flags.aligned for call in predictor.calls)


async def test_text_in_and_out(predictor: FakePredictor, routes: list[Route]) -> None:
    _, answer = await infer(routes, tensor(["grün", ""], datatype="BYTES", name="text"), model="shout")
    assert answer["outputs"] == [{"name": "upper", "datatype": "BYTES", "shape": [2], "data": ["GRÜN", ""]}]
    assert predictor.calls[0].inputs["text"].tolist() == ["grün", ""]


async def test_a_table_takes_columns_and_leaves_optional_ones_out(
    predictor: FakePredictor, routes: list[Route]
) -> None:
    age, plan = tensor([[1], [2]], datatype="INT64", name="age"), tensor(["a", "b"], datatype="BYTES", name="plan")
    assert (await infer(routes, age, plan, model="churn"))[0] == 200
    assert {name: array.shape for name, array in predictor.calls[0].inputs.items()} == {"age": (2,), "plan": (2,)}
    score = tensor([None, 2.5], [2], "FP64", name="score")
    assert (await infer(routes, age, plan, score, model="churn"))[0] == 200
    assert np.isnan(predictor.calls[1].inputs["score"][0])
    assert await refusal(routes, age, model="churn") == (
        'input "plan" is missing; the model takes "age" INT64 [-1], "plan" BYTES [-1], "score" FP64 [-1] (optional)'
    )
    short = tensor(["a"], datatype="BYTES", name="plan")
    assert await refusal(routes, age, short, model="churn") == 'input "plan" has 1 rows, input "age" has 2'


async def test_a_matrix_may_come_as_columns(predictor: FakePredictor, routes: list[Route]) -> None:
    columns = [tensor([1, 2], name=name) for name in "dcba"]
    columns[0]["data"] = [8, 9]
    assert (await infer(routes, *columns))[0] == 200
    assert predictor.calls[0].inputs["x"].tolist() == [[1, 1, 1, 8], [2, 2, 2, 9]]
    assert await refusal(routes, *columns[1:]) == (
        'input "d" is missing; the model takes "a" FP32 [-1], "b" FP32 [-1], "c" FP32 [-1], "d" FP32 [-1]'
    )


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (
            tensor([1, 2, 3, 4]),
            'input "x": shape [4] does not fit [-1, 4]; the first dimension counts rows, so send [1, 4]',
        ),
        (tensor([[1, 2, 3]]), 'input "x": shape [1, 3] does not fit [-1, 4]'),
        (tensor([], [0, 4]), "every dimension must be at least 1"),
        (tensor([], [-1, 4]), "every dimension must be at least 1"),
        (tensor([1], [2**63, 4]), f"{2**63} rows, at most 100 in one request"),
        (tensor([0] * 404, [101, 4]), 'input "x": 101 rows, at most 100 in one request'),
        (tensor([0] * 5, [1, 4]), 'input "x": data has 5 elements, but shape [1, 4] takes 4'),
        (tensor([[0] * 4, [0] * 3], [2, 4]), 'input "x": data[1] has 3 elements, but shape [2, 4] takes 4'),
        (tensor([[[0]]], [1, 4]), 'input "x": data must be a flat array, or nested 2 deep'),
        (tensor(5, [1, 4]), 'input "x": data must be a flat array'),
        (tensor([[0, 0, 0, 0], [0, True, 0, 0]]), 'input "x", row 1, column "b": expected number, got boolean'),
        (tensor([0, 0, 0, 0, 0, 0, "old", 0], [2, 4]), 'input "x", row 1, column "c": expected number, got string'),
        (tensor([[0, 0, None, 0]], [1, 4]), 'input "x", row 0, column "c": expected number, got null'),
        (tensor([[0, 0, 1e39, 0]]), 'input "x", row 0, column "c": 1e+39 is out of the range of FP32'),
        (tensor([[0, 0, 2**24 + 1, 0]], datatype="INT64"), 'column "c": 16777217 does not fit FP32 without loss'),
        (tensor([[0, 0, 300, 0]], datatype="INT8"), 'column "c": 300 is out of the range of INT8'),
        (tensor([[0, 0, 2**80, 0]], datatype="UINT64"), "is out of the range of UINT64"),
        (tensor([[0, 0, 1.5, 0]], datatype="INT8"), 'column "c": expected integer, got number'),
        (tensor([[0, 0, 1, 0]], datatype="BOOL"), 'input "x", row 0, column "a": expected boolean, got integer'),
        (tensor(ROWS, datatype="FP64"), 'input "x": datatype FP64 cannot be taken as FP32 without loss; send FP32'),
        (tensor(ROWS, datatype="BF16"), 'input "x": datatype "BF16" is not one of BOOL,'),
        (tensor([["a"] * 4], datatype="BYTES"), 'input "x": datatype BYTES cannot be taken as FP32'),
        (tensor(ROWS, name="y"), 'unknown input "y"; the model takes "x" FP32 [-1, 4]'),
    ],
)
async def test_a_bad_input_is_refused_with_its_place(routes: list[Route], sent: Any, message: str) -> None:
    """mlflow/mlflow#3354, mlflow/mlflow#4897, mlflow/mlflow#7524: bad input is the client's error; it names row and
    column, or the inputs that the model takes."""
    assert message in await refusal(routes, sent)


@pytest.mark.parametrize("value", [np.nan, np.inf])
async def test_binary_non_finite_numbers_are_refused(routes: list[Route], value: float) -> None:
    rows = np.array(ROWS, np.float32)
    rows[1, 2] = value
    status, answer, _ = await binary(routes, {"inputs": [binary_input(32)]}, rows.tobytes())
    assert status == 400
    assert answer["error"] == f'input "x", row 1, column "c": expected a finite number, got {value}'


@pytest.mark.parametrize("datatype", ["INT8", "UINT16", "BOOL", "FP16", "INT64"])
async def test_numbers_that_lose_nothing_are_converted(
    predictor: FakePredictor, routes: list[Route], datatype: str
) -> None:
    data = [True, False, True, True] if datatype == "BOOL" else [1, 0, 1, 1]
    assert (await infer(routes, tensor([data], datatype=datatype)))[0] == 200
    array = predictor.calls[0].inputs["x"]
    assert array.dtype == np.float32
    assert array.tolist() == [[1, 0, 1, 1]]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'{"inputs": 1}',
        b'{"inputs": []}',
        b'\xff{"inputs": []}',
        b"[" * 100_000,
        b'{"inputs":[],"x":' + b'{"x":' * 50_000,
        b'{"inputs":[{}]}',
    ],
)
async def test_bodies_that_are_no_request(routes: list[Route], body: bytes) -> None:
    response = await send(routes, "POST", "/v2/models/iris/infer", body)
    assert response.status == 400
    assert list(msgspec.json.decode(response.body)) == ["error"]


async def test_blobs_that_are_no_text_are_base64_in_json(predictor: FakePredictor, routes: list[Route]) -> None:
    predictor.live.add("blob", TEXT, lambda inputs: {"blob": np.array([b"\xff\x00"], dtype=object)})
    _, answer = await infer(routes, tensor(["a"], datatype="BYTES", name="text"), model="blob", outputs=[])
    assert answer["outputs"] == [
        {"name": "blob", "datatype": "BYTES", "shape": [1], "parameters": {"content_type": "base64"}, "data": ["/wA="]}
    ]


async def test_duplicate_inputs_are_refused(routes: list[Route]) -> None:
    assert await refusal(routes, tensor(ROWS), tensor(ROWS)) == 'input "x" is given twice'


@pytest.mark.parametrize(
    "more",
    [
        {"parameters": {"sequence_id": 5}},
        {"outputs": [{"name": "scores", "parameters": {"classification": 3}}]},
        {"outputs": [{"name": "scores", "parameters": {"shared_memory_region": "r"}}]},
    ],
)
async def test_extensions_that_are_not_offered_answer_501(routes: list[Route], more: Any) -> None:
    assert (await infer(routes, tensor(ROWS), **more))[0] == 501


async def test_timeout_and_priority_parameters(predictor: FakePredictor, routes: list[Route]) -> None:
    await infer(routes, tensor(ROWS), parameters={"timeout": 50_000, "priority": 1})
    await infer(routes, tensor(ROWS), parameters={"timeout": 10**12, "priority": 7})
    first, second = predictor.calls
    assert first.deadline - first.received == pytest.approx(0.05)
    assert second.deadline - second.received == pytest.approx(30)
    assert (first.priority, second.priority) == (0, 2)


async def test_the_index_shows_a_key_its_endpoints(routes: list[Route]) -> None:
    _, every = await send_json(routes, "POST", "/v2/repository/index")
    name = every[0]["name"]
    _, models = await send_json(routes, "POST", "/v2/repository/index", facts=KeyFacts(name="k", endpoints=(name,)))
    assert models == [model for model in every if model["name"] == name] != every


async def test_repository_index_load_and_unload(routes: list[Route]) -> None:
    status, models = await send_json(routes, "POST", "/v2/repository/index")
    assert status == 200
    assert models[0] == {"name": "iris", "version": "3", "state": "READY", "reason": ""}
    assert len(models) == 4
    assert (await send_json(routes, "POST", "/v2/repository/models/shout/unload", {}))[0] == 200
    assert (await send_json(routes, "GET", "/v2/models/shout/ready"))[0] == 404
    _, models = await send_json(routes, "POST", "/v2/repository/index", {})
    assert {"name": "shout", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"} in models
    _, models = await send_json(routes, "POST", "/v2/repository/index", {"ready": True})
    assert {model["state"] for model in models} == {"READY"}
    assert (await send_json(routes, "POST", "/v2/repository/models/shout/load"))[0] == 200
    assert (await send_json(routes, "GET", "/v2/models/shout/ready"))[0] == 200
    with_config = {"parameters": {"config": "{}"}}
    assert (await send_json(routes, "POST", "/v2/repository/models/shout/load", with_config))[0] == 501
    assert (await send_json(routes, "POST", "/v2/repository/models/none/load"))[0] == 404


async def test_loading_and_unloading_need_the_operator(routes: list[Route]) -> None:
    roles = {route.path: route.role for route in routes}
    assert roles["/v2/repository/models/{model}/load"] == roles["/v2/repository/models/{model}/unload"] == "operate"


async def test_statistics(predictor: FakePredictor, routes: list[Route]) -> None:
    predictor.live.counts["iris"] = {
        "success": 3, "fail": 1, "queue_seconds": 0.5, "run_seconds": 0.25, "executions": 2, "rows": 9
    }  # fmt: skip
    status, answer = await send_json(routes, "GET", "/v2/models/iris/versions/3/stats")
    assert status == 200
    (stats,) = answer["model_stats"]
    assert (stats["name"], stats["version"]) == ("iris", "3")
    assert (stats["inference_count"], stats["execution_count"]) == (9, 2)
    assert stats["inference_stats"]["success"] == {"count": 3, "ns": 750_000_000}
    assert stats["inference_stats"]["fail"]["count"] == 1
    assert len((await send_json(routes, "GET", "/v2/models/iris/stats"))[1]["model_stats"]) == 2
    assert len((await send_json(routes, "GET", "/v2/models/stats"))[1]["model_stats"]) == 2
    other = KeyFacts(name="k", endpoints=("shop",))
    assert (await send_json(routes, "GET", "/v2/models/stats", facts=other))[1]["model_stats"] == []


async def test_requests_and_answers_keep_the_documented_schema(routes: list[Route]) -> None:
    (document,) = {id(route.document): route.document for route in routes if route.path.endswith("/infer")}.values()
    request = {"inputs": [tensor(ROWS)], "id": "1", "outputs": [{"name": "scores"}], "parameters": {"priority": 1}}
    jsonschema.validate(request, document["requestBody"]["content"]["application/json"]["schema"])
    _, answer = await send_json(routes, "POST", "/v2/models/iris/infer", request)
    jsonschema.validate(answer, document["responses"]["200"]["content"]["application/json"]["schema"])
    _, answer = await infer(routes)
    jsonschema.validate(answer, document["responses"]["default"]["content"]["application/json"]["schema"])
