"""Triton's own HTTP client against a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from tritonclient.http import (  # type: ignore[import-untyped]
    InferenceServerClient,
    InferenceServerException,
    InferInput,
    InferRequestedOutput,
)

from tests.contract.conftest import OPERATE_KEY, Served

pytestmark = pytest.mark.slow

ROWS = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [-3, 0, 1, 0]], np.float32)


@pytest.fixture
def client(served: Served) -> Iterator[Any]:
    with InferenceServerClient(served.http) as client:
        yield client


def features(rows: Any = ROWS, binary: bool = True) -> Any:
    tensor = InferInput("features", list(rows.shape), "FP32")
    return tensor.set_data_from_numpy(rows, binary_data=binary)


def expected_scores(rows: Any) -> Any:
    weights = np.array(((1, 0, -1), (0, 1, 1), (-1, 0, 0), (0, -1, 0)), np.float32)
    powers = np.exp(rows @ weights)
    return powers / powers.sum(axis=1, keepdims=True)


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris")
    assert client.is_model_ready("iris", "2")
    assert not client.is_model_ready("iris", "9")
    assert not client.is_model_ready("nothing")
    assert client.get_server_metadata()["name"] == "tidegate"
    metadata = client.get_model_metadata("iris")
    assert metadata["versions"] == ["1", "2"]
    assert metadata["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, 4]}]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("outputs", [None, True, False])
def test_infer_in_every_mix_of_json_and_binary(client: Any, binary_in: bool, outputs: bool | None) -> None:
    asked = None if outputs is None else [InferRequestedOutput(name, outputs) for name in ("scores", "predictions")]
    result = client.infer("iris", [features(binary=binary_in)], outputs=asked, request_id="r-7")
    np.testing.assert_allclose(result.as_numpy("scores"), expected_scores(ROWS), rtol=1e-5)
    assert result.as_numpy("predictions").tolist() == expected_scores(ROWS).argmax(axis=1).tolist()
    assert result.as_numpy("predictions").dtype == np.int64
    response = result.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("r-7", "iris", "1")


def test_one_output_of_two_and_mixed_forms(client: Any) -> None:
    only = client.infer("iris", [features()], outputs=[InferRequestedOutput("scores")])
    assert only.as_numpy("predictions") is None
    mixed = client.infer(
        "iris",
        [features()],
        outputs=[InferRequestedOutput("predictions", binary_data=False), InferRequestedOutput("scores")],
    )
    assert "data" in mixed.get_output("predictions")
    assert "data" not in mixed.get_output("scores")


@pytest.mark.parametrize("binary", [True, False])
def test_text_and_several_inputs(client: Any, binary: bool) -> None:
    amount = InferInput("amount", [2, 1], "FP32").set_data_from_numpy(np.array([[1.5], [2]], np.float32), binary)
    code = InferInput("code", [2, 1], "BYTES").set_data_from_numpy(
        np.array([["grün".encode()], [b""]], dtype=object), binary
    )
    result = client.infer("table", [code, amount])
    assert result.as_numpy("total").tolist() == [[3], [4]]
    assert result.as_numpy("echo").tolist() == [["grün".encode()], [b""]]
    a, b = (InferInput(name, [3, 2], "FP32") for name in "ab")
    a.set_data_from_numpy(np.ones((3, 2), np.float32), binary)
    b.set_data_from_numpy(np.ones((3, 2), np.float32), not binary)
    assert client.infer("two", [a, b]).as_numpy("count").tolist() == [4, 4, 4]


def test_a_large_request_is_answered_in_order(client: Any) -> None:
    """SeldonIO/MLServer#1306: every caller gets its own rows, in order."""
    rows = np.random.default_rng(0).normal(size=(3000, 4)).astype(np.float32)
    result = client.infer("iris", [features(rows)])
    np.testing.assert_allclose(result.as_numpy("scores"), expected_scores(rows), rtol=1e-4)


def test_concurrent_requests(served: Served) -> None:
    with InferenceServerClient(served.http, concurrency=8) as client:
        batches = [np.random.default_rng(n).normal(size=(n % 5 + 1, 4)).astype(np.float32) for n in range(40)]
        pending = [client.async_infer("iris", [features(rows)]) for rows in batches]
        for rows, answer in zip(batches, pending, strict=True):
            np.testing.assert_allclose(answer.get_result().as_numpy("scores"), expected_scores(rows), rtol=1e-4)


def test_a_named_version_answers(client: Any) -> None:
    result = client.infer("iris", [features()], model_version="2")
    assert result.get_response()["model_version"] == "2"


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests(client: Any, algorithm: str) -> None:
    result = client.infer("iris", [features()], request_compression_algorithm=algorithm)
    np.testing.assert_allclose(result.as_numpy("scores"), expected_scores(ROWS), rtol=1e-5)


def test_mistakes_are_the_clients_and_told_clearly(client: Any) -> None:
    """mlflow/mlflow#4897: a wrong shape is a 4xx with words, not a 500."""
    with pytest.raises(InferenceServerException) as failure:
        client.infer("iris", [features(ROWS[:, :3].copy())])
    assert failure.value.status() == "400"
    assert "shape [3, 3] does not fit [-1, 4]" in failure.value.message()
    with pytest.raises(InferenceServerException) as failure:
        client.infer("nothing", [features()])
    assert failure.value.status() == "404"
    with pytest.raises(InferenceServerException) as failure:
        client.infer("iris", [features()], sequence_id=7)
    assert failure.value.status() == "501"


def test_repository_and_statistics(client: Any) -> None:
    index = client.get_model_repository_index()
    assert {(model["name"], model["version"], model["state"]) for model in index} >= {
        ("iris", "1", "READY"),
        ("iris", "2", "READY"),
    }
    before = client.get_inference_statistics("iris", "1")["model_stats"][0]["inference_stats"]["success"]["count"]
    client.infer("iris", [features()])
    after = client.get_inference_statistics("iris", "1")["model_stats"][0]["inference_stats"]["success"]["count"]
    assert after == before + 1
    with pytest.raises(InferenceServerException) as failure:
        client.unload_model("two")
    assert failure.value.status() == "401"
    operator = {"X-API-Key": OPERATE_KEY}
    client.unload_model("two", headers=operator)
    assert not client.is_model_ready("two")
    client.load_model("two", headers=operator)
    assert client.is_model_ready("two")


def test_a_raw_body_is_the_one_input(served: Served) -> None:
    answer = httpx.post(
        f"http://{served.http}/v2/models/iris/infer",
        content=ROWS.tobytes(),
        headers={"Inference-Header-Content-Length": "0"},
    )
    assert answer.status_code == 200
    length = int(answer.headers["Inference-Header-Content-Length"])
    assert len(answer.content) - length == 3 * 8 + 3 * 3 * 4
