"""Triton's own gRPC client, and the health-checking package, against a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from tritonclient.grpc import (  # type: ignore[import-untyped]
    InferenceServerClient,
    InferenceServerException,
    InferInput,
    InferRequestedOutput,
)

from tests.contract.conftest import OPERATE_KEY, Served
from tests.contract.test_v2_http_client import ROWS, expected_scores

pytestmark = pytest.mark.slow


@pytest.fixture
def client(served: Served) -> Iterator[Any]:
    with InferenceServerClient(served.grpc) as client:
        yield client


def features(rows: Any = ROWS) -> Any:
    return InferInput("features", list(rows.shape), "FP32").set_data_from_numpy(rows)


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris", "2")
    assert client.get_server_metadata().name == "tidegate"
    metadata = client.get_model_metadata("iris", as_json=True)
    assert metadata["versions"] == ["1", "2"]
    assert metadata["inputs"] == [{"name": "features", "datatype": "FP32", "shape": ["-1", "4"]}]


def test_infer(client: Any) -> None:
    result = client.infer("iris", [features()], request_id="r-8")
    np.testing.assert_allclose(result.as_numpy("scores"), expected_scores(ROWS), rtol=1e-5)
    assert result.as_numpy("predictions").tolist() == expected_scores(ROWS).argmax(axis=1).tolist()
    response = result.get_response()
    assert (response.id, response.model_name, response.model_version) == ("r-8", "iris", "1")
    only = client.infer("iris", [features()], outputs=[InferRequestedOutput("scores")])
    assert only.as_numpy("predictions") is None
    assert client.infer("iris", [features()], model_version="2").get_response().model_version == "2"


def test_text_and_several_inputs(client: Any) -> None:
    amount = InferInput("amount", [2, 1], "FP32").set_data_from_numpy(np.array([[1.5], [2]], np.float32))
    code = InferInput("code", [2, 1], "BYTES").set_data_from_numpy(np.array([["grün".encode()], [b""]], dtype=object))
    result = client.infer("table", [code, amount])
    assert result.as_numpy("total").tolist() == [[3], [4]]
    assert result.as_numpy("echo").tolist() == [["grün".encode()], [b""]]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(client: Any, algorithm: str) -> None:
    result = client.infer("iris", [features()], compression_algorithm=algorithm)
    np.testing.assert_allclose(result.as_numpy("scores"), expected_scores(ROWS), rtol=1e-5)


def test_asynchronous_requests_with_a_deadline(client: Any) -> None:
    answers: dict[int, Any] = {}
    done = threading.Semaphore(0)

    def remember(number: int, result: Any, error: Any) -> None:
        answers[number] = error or result
        done.release()

    batches = [np.random.default_rng(n).normal(size=(n % 5 + 1, 4)).astype(np.float32) for n in range(40)]
    for number, rows in enumerate(batches):
        client.async_infer(
            "iris",
            [features(rows)],
            callback=lambda result, error, number=number: remember(number, result, error),
            client_timeout=30,
        )
    for _ in batches:
        assert done.acquire(timeout=30)
    for number, rows in enumerate(batches):
        np.testing.assert_allclose(answers[number].as_numpy("scores"), expected_scores(rows), rtol=1e-4)


def test_mistakes_have_a_code_and_a_sentence(client: Any) -> None:
    with pytest.raises(InferenceServerException) as failure:
        client.infer("iris", [features(ROWS[:, :3].copy())])
    assert failure.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert "shape [3, 3] does not fit [-1, 4]" in failure.value.message()
    with pytest.raises(InferenceServerException) as failure:
        client.infer("nothing", [features()])
    assert failure.value.status() == "StatusCode.NOT_FOUND"


def test_repository_and_statistics(client: Any) -> None:
    index = client.get_model_repository_index()
    assert ("iris", "2", "READY") in {(model.name, model.version, model.state) for model in index.models}
    before = client.get_inference_statistics("iris", "1").model_stats[0].inference_stats.success.count
    client.infer("iris", [features()])
    assert client.get_inference_statistics("iris", "1").model_stats[0].inference_stats.success.count == before + 1
    with pytest.raises(InferenceServerException) as failure:
        client.unload_model("table")
    assert failure.value.status() == "StatusCode.UNAUTHENTICATED"
    operator = {"x-api-key": OPERATE_KEY}
    client.unload_model("table", headers=operator)
    with pytest.raises(InferenceServerException):
        client.is_model_ready("table")
    client.load_model("table", headers=operator)
    assert client.is_model_ready("table")


def test_the_health_service(served: Served) -> None:
    with grpc.insecure_channel(served.grpc) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "iris"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="nothing"), timeout=10)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        watch.cancel()
