from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]
import numpy as np
import pytest
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

from tests.unit.protocols.test_v2 import MATRIX, ROWS, TABLE, TEXT, classify, upper
from tests.unit.serving.plane import serving, times
from tidegate import errors
from tidegate.keys import KeyFacts, KnownKey, compose, digest, new_key
from tidegate.protocols.grpc import GrpcServer, code_of, reserve_port
from tidegate.protocols.keyring import Keyring
from tidegate.serving.call import Call
from tidegate.settings import Access, Limits
from tidegate.telemetry import REQUESTS
from tidegate.testing.predictor import FakePredictor
from tidegate.types import Prediction, Signature, Tensors, TensorSpec


@pytest.fixture
def predictor() -> FakePredictor:
    predictor = FakePredictor()
    predictor.live.add("iris", MATRIX, classify, ("3", "4"), max_rows=100)
    predictor.live.add("shout", TEXT, upper)
    predictor.live.add("churn", TABLE, lambda inputs: {"age": inputs["age"]})
    half = Signature((TensorSpec("x", "FP16", (-1, 1)),), (TensorSpec("y", "FP16", (-1, 1)),))
    predictor.live.add("half", half, lambda inputs: {"y": inputs["x"] * 2})
    return predictor


class Client:
    """Calls by method name, with messages made by Triton's generated classes."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel

    async def __call__(self, name: str, message: Any = b"", answer: str = "", **options: Any) -> Any:
        method = self.channel.unary_unary(f"/inference.GRPCInferenceService/{name}")
        body = message if isinstance(message, bytes) else message.SerializeToString()
        raw = await method(body, **options)
        return getattr(service_pb2, answer or f"{name}Response").FromString(raw)

    async def refused(self, name: str, message: Any = b"", **options: Any) -> tuple[str, str]:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await self(name, message, **options)
        return failure.value.code().name, failure.value.details()


async def serve(
    predictor: FakePredictor, access: Access | None = None, keyring: Keyring | None = None
) -> AsyncGenerator[Client]:
    limits = Limits(body_bytes=100_000)
    server = GrpcServer(predictor, access or Access(), limits, keyring=keyring)  # type: ignore[arg-type]
    port = await server.start("127.0.0.1", 0)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Client(channel)
    finally:
        await server.stop(0)


@pytest.fixture
async def client(predictor: FakePredictor) -> AsyncIterator[Client]:
    async for client in serve(predictor):
        yield client


def infer_request(model: str = "iris", **more: Any) -> Any:
    return service_pb2.ModelInferRequest(model_name=model, **more)


def typed(field: str, values: Any, shape: Any = (2, 4), datatype: str = "FP32", name: str = "x") -> Any:
    contents = service_pb2.InferTensorContents(**{field: values})
    tensor = service_pb2.ModelInferRequest.InferInputTensor
    return tensor(name=name, shape=shape, datatype=datatype, contents=contents)


def described(shape: Any = (2, 4), datatype: str = "FP32", name: str = "x") -> Any:
    return service_pb2.ModelInferRequest.InferInputTensor(name=name, shape=shape, datatype=datatype)


FLAT = np.array(ROWS, np.float32).ravel().tolist()
RAW = np.array(ROWS, np.float32).tobytes()


async def test_server_and_model_calls(client: Client, predictor: FakePredictor) -> None:
    assert (await client("ServerLive")).live
    assert (await client("ServerReady")).ready
    assert (await client("ServerMetadata")).name == "tidegate"
    metadata = await client("ModelMetadata", service_pb2.ModelMetadataRequest(name="iris"))
    assert (metadata.versions, metadata.platform) == (["3", "4"], "function")
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [("x", "FP32", [-1, 4])]
    ready = service_pb2.ModelReadyRequest(name="iris", version="4")
    assert (await client("ModelReady", ready)).ready
    predictor.live.endpoints["iris"].versions["candidate-1"].ready = False
    assert not (await client("ModelReady", ready)).ready
    predictor.live.reasons.append("loading")
    assert not (await client("ServerReady")).ready


async def test_typed_contents_get_a_typed_answer(client: Client) -> None:
    answer = await client("ModelInfer", infer_request(id="7", inputs=[typed("fp32_contents", FLAT)]))
    assert (answer.model_name, answer.model_version, answer.id) == ("iris", "3", "7")
    assert list(answer.outputs[0].contents.int64_contents) == [1, 0]
    assert list(answer.outputs[1].contents.fp32_contents) == [10, -10, 0.5, -0.5]
    assert not answer.raw_output_contents


async def test_raw_contents_get_a_raw_answer(client: Client) -> None:
    answer = await client("ModelInfer", infer_request(inputs=[described()], raw_input_contents=[RAW]))
    assert np.frombuffer(answer.raw_output_contents[0], "<i8").tolist() == [1, 0]
    assert [list(output.shape) for output in answer.outputs] == [[2], [2, 2]]
    assert not answer.outputs[0].HasField("contents")


async def test_a_raw_answer_can_be_asked_for_and_outputs_selected(client: Client) -> None:
    output = service_pb2.ModelInferRequest.InferRequestedOutputTensor(name="scores")
    output.parameters["binary_data"].bool_param = True
    answer = await client("ModelInfer", infer_request(inputs=[typed("fp32_contents", FLAT)], outputs=[output]))
    assert [output.name for output in answer.outputs] == ["scores"]
    assert len(answer.raw_output_contents) == 1


async def test_half_precision_is_always_raw(client: Client) -> None:
    raw = np.array([1.5], np.float16).tobytes()
    request = infer_request("half", inputs=[described((1, 1), "FP16")], raw_input_contents=[raw])
    assert np.frombuffer((await client("ModelInfer", request)).raw_output_contents[0], "<f2").tolist() == [3.0]
    request = infer_request("half", inputs=[typed("int_contents", [2], (1, 1), "INT8")])
    assert len((await client("ModelInfer", request)).raw_output_contents) == 1
    request = infer_request("half", inputs=[described((1, 1), "FP16")])
    assert await client.refused("ModelInfer", request) == (
        "INVALID_ARGUMENT",
        'input "x": FP16 goes into raw_input_contents',
    )


async def test_text_and_tables(client: Client, predictor: FakePredictor) -> None:
    request = infer_request("shout", inputs=[typed("bytes_contents", [b"a", "ü".encode()], [2], "BYTES", "text")])
    assert list((await client("ModelInfer", request)).outputs[0].contents.bytes_contents) == [b"A", "Ü".encode()]
    plan = typed("bytes_contents", [b"p"], [1], "BYTES", "plan")
    request = infer_request("churn", inputs=[typed("int64_contents", [7], [1], "INT64", "age"), plan])
    assert list((await client("ModelInfer", request)).outputs[0].contents.int64_contents) == [7]


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (infer_request("none"), "NOT_FOUND", 'no endpoint "none"'),
        (infer_request(model_version="9"), "NOT_FOUND", 'no version "9"'),
        (infer_request(), "INVALID_ARGUMENT", 'input "x" is missing'),
        (infer_request(inputs=[typed("fp32_contents", FLAT[:7])]), "INVALID_ARGUMENT", "7 fp32_contents, but shape"),
        (infer_request(inputs=[typed("fp64_contents", FLAT)]), "INVALID_ARGUMENT", "0 fp32_contents, but shape"),
        (infer_request(inputs=[described()], raw_input_contents=[RAW[1:]]), "INVALID_ARGUMENT", "31 bytes of data"),
        (infer_request(inputs=[described()], raw_input_contents=[RAW] * 2), "INVALID_ARGUMENT", "1 inputs, but 2 raw"),
        (
            infer_request(inputs=[typed("fp32_contents", FLAT)], raw_input_contents=[RAW]),
            "INVALID_ARGUMENT",
            "typed contents beside raw_input_contents",
        ),
        (
            infer_request(inputs=[typed("int_contents", [1, 2, 300, 4], (1, 4), "INT8")]),
            "INVALID_ARGUMENT",
            'input "x", row 0, column "c": 300 is out of the range of INT8',
        ),
        (
            infer_request(inputs=[typed("fp32_contents", [float("nan")] * 4, (1, 4))]),
            "INVALID_ARGUMENT",
            "expected a finite number, got nan",
        ),
        (b"\xff\xff", "INVALID_ARGUMENT", "the message cannot be decoded"),
        (
            infer_request(inputs=[typed("fp32_contents", [0.0] * 404, (101, 4))]),
            "INVALID_ARGUMENT",
            "101 rows, at most",
        ),
    ],
)
async def test_bad_requests_get_a_code_and_a_sentence(client: Client, request_: Any, code: str, message: str) -> None:
    found = await client.refused("ModelInfer", request_)
    assert found[0] == code
    assert message in found[1]


async def test_invalid_calls_are_counted_wherever_the_fault_is_found() -> None:
    """In the tensors, or in the variant's name, which only the router knows."""
    async with serving({"baseline": times(1)}) as plane:
        async for client in serve(plane.predictor):  # type: ignore[arg-type]
            good = typed("fp64_contents", [1.0], (1,), "FP64")
            bad = typed("fp64_contents", [1.0], (2,), "FP64")
            assert (await client("ModelInfer", infer_request("e", inputs=[good]))).model_version == "baseline"
            await client.refused("ModelInfer", infer_request("e", inputs=[bad]))
            await client.refused("ModelInfer", infer_request("e", inputs=[good]), metadata=(("x-canary", "other"),))
        assert plane.counts(REQUESTS) == {("baseline", "grpc", "ok"): 1, ("", "grpc", "invalid"): 2}


async def test_messages_over_the_limit_are_refused(client: Client) -> None:
    big = infer_request(inputs=[described()], raw_input_contents=[bytes(200_000)])
    assert (await client.refused("ModelInfer", big))[0] == "RESOURCE_EXHAUSTED"


async def test_a_failing_model_shows_only_the_request_id(client: Client, predictor: FakePredictor) -> None:
    def explode(inputs: Tensors) -> Tensors:
        raise ZeroDivisionError("secret")

    predictor.live.add("bomb", MATRIX, explode)
    request = infer_request("bomb", inputs=[typed("fp32_contents", FLAT)])
    code, text = await client.refused("ModelInfer", request, metadata=(("x-request-id", "abc-1"),))
    assert code == "INTERNAL"
    assert "abc-1" in text
    assert "secret" not in text


async def test_metadata_becomes_the_calls_routing(client: Client, predictor: FakePredictor) -> None:
    metadata = (
        ("x-request-id", "r-1"),
        ("x-user-id", "u-1"),
        ("x-canary", "candidate-1"),
        ("x-priority", "bulk"),
        ("x-timeout-ms", "500"),
    )
    await client("ModelInfer", infer_request(inputs=[typed("fp32_contents", FLAT)]), metadata=metadata)
    call = predictor.calls[0]
    assert (call.request_id, call.unit, call.forced, call.priority, call.protocol) == (
        "r-1", "u-1", "candidate-1", 2, "grpc"
    )  # fmt: skip
    assert call.deadline - call.received == pytest.approx(0.5)
    assert call.gone is not None
    assert not call.gone()
    code, text = await client.refused(
        "ModelInfer", infer_request(inputs=[typed("fp32_contents", FLAT)]), metadata=(("x-priority", "no"),)
    )
    assert (code, "X-Priority" in text) == ("INVALID_ARGUMENT", True)


async def test_the_clients_deadline_is_the_calls(client: Client, predictor: FakePredictor) -> None:
    await client("ModelInfer", infer_request(inputs=[typed("fp32_contents", FLAT)]), timeout=5)
    call = predictor.calls[0]
    assert 4 < call.deadline - call.received < 5.5


class WaitingPredictor(FakePredictor):
    """Answers never; tells when a call is there and when it was given up."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = asyncio.Event()
        self.given_up = asyncio.Event()

    async def predict(self, call: Call) -> Prediction:
        self.calls.append(call)
        self.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.given_up.set()
        raise AssertionError


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_a_call_that_nobody_waits_for_is_given_up(how: str) -> None:
    """Lightning-AI/LitServe#423: cancellation and deadlines reach work that is running."""
    predictor = WaitingPredictor()
    predictor.live.add("iris", MATRIX, classify)
    async with aclosing(serve(predictor)) as clients:
        client = await anext(clients)
        method = client.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        body = infer_request(inputs=[typed("fp32_contents", FLAT)]).SerializeToString()
        call = method(body, timeout=0.2 if how == "deadline" else None)
        await asyncio.wait_for(predictor.entered.wait(), 5)
        if how == "cancel":
            call.cancel()
        await asyncio.wait_for(predictor.given_up.wait(), 5)
        assert (await call.code()).name == ("CANCELLED" if how == "cancel" else "DEADLINE_EXCEEDED")


class RefusingPredictor(FakePredictor):
    async def predict(self, call: Call) -> Prediction:
        raise errors.QueueFull("4096 rows are waiting", retry_after=0.5)


async def test_a_refusal_says_when_to_come_back(caplog: pytest.LogCaptureFixture) -> None:
    """pytorch/serve#2333: a full queue refuses, with a reason."""
    caplog.set_level("INFO", "tidegate.grpc")
    predictor = RefusingPredictor()
    predictor.live.add("iris", MATRIX, classify)
    async with aclosing(serve(predictor)) as clients:
        client = await anext(clients)
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await client("ModelInfer", infer_request(inputs=[typed("fp32_contents", FLAT)]))
        assert failure.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert failure.value.details() == "4096 rows are waiting"
        assert dict(failure.value.trailing_metadata())["grpc-retry-pushback-ms"] == "500"
    assert [record.getMessage() for record in caplog.records if record.name == "tidegate.grpc"] == [
        "ModelInfer: QueueFull"
    ]


async def test_a_long_hostile_name_still_gets_its_answer(client: Client) -> None:
    code, text = await client.refused("ModelInfer", infer_request(inputs=[described(name="😀" * 9000)]))
    assert code == "INVALID_ARGUMENT"
    assert text.startswith("unknown input")


async def test_repository_and_statistics(predictor: FakePredictor) -> None:
    predictor.live.counts["iris"] = {
        "success": 3, "fail": 1, "queue_seconds": 0.5, "run_seconds": 0.25, "executions": 2, "rows": 9
    }  # fmt: skip
    async with aclosing(serve(predictor, Access(predict_key="p", operate_key="o"))) as clients:
        client = await anext(clients)
        assert (await client.refused("RepositoryIndex"))[0] == "UNAUTHENTICATED"
        may_predict, may_operate = (("x-api-key", "p"),), (("authorization", "Bearer o"),)
        index = await client("RepositoryIndex", metadata=may_predict)
        assert {(m.name, m.state) for m in index.models} >= {("iris", "READY"), ("shout", "READY")}
        unload = service_pb2.RepositoryModelUnloadRequest(model_name="shout")
        assert (await client.refused("RepositoryModelUnload", unload, metadata=may_predict))[0] == "PERMISSION_DENIED"
        await client("RepositoryModelUnload", unload, metadata=may_operate)
        ready = service_pb2.ModelReadyRequest(name="shout")
        assert (await client.refused("ModelReady", ready))[0] == "NOT_FOUND"
        load = service_pb2.RepositoryModelLoadRequest(model_name="shout")
        await client("RepositoryModelLoad", load, metadata=may_operate)
        assert (await client("ModelReady", ready)).ready
        stats = await client(
            "ModelStatistics", service_pb2.ModelStatisticsRequest(name="iris", version="3"), metadata=may_predict
        )
        assert [(s.version, s.inference_count, s.inference_stats.success.ns) for s in stats.model_stats] == [
            ("3", 9, 750_000_000)
        ]


async def test_changes_are_off_without_an_operate_key(client: Client) -> None:
    unload = service_pb2.RepositoryModelUnloadRequest(model_name="shout")
    assert (await client.refused("RepositoryModelUnload", unload))[0] == "PERMISSION_DENIED"


async def test_unknown_methods_are_unimplemented(client: Client) -> None:
    assert (await client.refused("ModelStreamInfer"))[0] == "UNIMPLEMENTED"


async def check(client: Client, service: str) -> int:
    method = client.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    return int((await method(health_pb2.HealthCheckRequest(service=service))).status)


async def test_health_checks_tell_the_truth(client: Client, predictor: FakePredictor) -> None:
    """Lightning-AI/LitServe#663, Lightning-AI/LitServe#347: ready means that the endpoint answers."""
    for service in ("", "inference.GRPCInferenceService", "iris"):
        assert await check(client, service) == health_pb2.HealthCheckResponse.SERVING
    predictor.live.endpoints["iris"].versions["baseline"].ready = False
    assert await check(client, "iris") == health_pb2.HealthCheckResponse.NOT_SERVING
    predictor.live.reasons.append("draining")
    for service in ("", "shout"):
        assert await check(client, service) == health_pb2.HealthCheckResponse.NOT_SERVING
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await check(client, "nothing")
    assert failure.value.code() == grpc.StatusCode.NOT_FOUND


async def test_a_watch_sees_changes_and_the_end(predictor: FakePredictor) -> None:
    server = GrpcServer(predictor, Access(), Limits())  # type: ignore[arg-type]
    port = await server.start("127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        method = channel.unary_stream(
            "/grpc.health.v1.Health/Watch", response_deserializer=health_pb2.HealthCheckResponse.FromString
        )
        watch = method(health_pb2.HealthCheckRequest(service="iris").SerializeToString())
        states = [(await watch.read()).status]
        predictor.live.endpoints["iris"].versions["baseline"].ready = False
        states.append((await watch.read()).status)
        predictor.live.endpoints["iris"].versions["baseline"].ready = True
        states.append((await watch.read()).status)
        stop = asyncio.ensure_future(server.stop(5))
        states.append((await watch.read()).status)
        assert states == [1, 2, 1, 2]
        assert await watch.read() is grpc.aio.EOF
        await asyncio.wait_for(stop, 5)


async def test_processes_share_a_port(predictor: FakePredictor) -> None:
    with reserve_port("127.0.0.1", 0) as reserved:
        port = reserved.getsockname()[1]
        servers = [GrpcServer(predictor, Access(), Limits(), share_port=True) for _ in range(2)]  # type: ignore[arg-type]
        assert [await server.start("127.0.0.1", port) for server in servers] == [port, port]
        with pytest.raises(errors.ConfigError):
            reserve_port("127.0.0.1", port)
        for server in servers:
            await server.stop(0)


async def test_a_taken_port_is_one_clear_line(predictor: FakePredictor) -> None:
    first, second = (GrpcServer(predictor, Access(), Limits()) for _ in range(2))  # type: ignore[arg-type]
    port = await first.start("127.0.0.1", 0)
    with pytest.raises(errors.ConfigError, match=f"gRPC cannot listen on 127.0.0.1:{port}"):
        await second.start("127.0.0.1", port)
    await first.stop(0)
    await second.stop(0)


def every_error() -> list[type[BaseException]]:
    found: list[type[BaseException]] = []
    queue: list[type[BaseException]] = [errors.TidegateError]
    while queue:
        found.append(queue.pop())
        queue += found[-1].__subclasses__()
    return found


def test_every_error_has_a_status_code() -> None:
    expected = {
        errors.MalformedBody: "INVALID_ARGUMENT",
        errors.InvalidInput: "INVALID_ARGUMENT",
        errors.TooLarge: "INVALID_ARGUMENT",
        errors.NotFound: "NOT_FOUND",
        errors.NotReady: "UNAVAILABLE",
        errors.Overloaded: "UNAVAILABLE",
        errors.QueueFull: "RESOURCE_EXHAUSTED",
        errors.RateLimited: "RESOURCE_EXHAUSTED",
        errors.DeadlineExceeded: "DEADLINE_EXCEEDED",
        errors.CallerGone: "CANCELLED",
        errors.ModelFailed: "INTERNAL",
    }
    for cls in every_error():
        code = code_of(cls.__new__(cls))
        assert code in grpc.StatusCode.__members__
        assert code == expected.get(cls, code)
        refused_here = issubclass(cls, errors.RequestError | errors.Refused)
        assert (code == "INTERNAL") != (refused_here or cls in (errors.DeadlineExceeded, errors.CallerGone))


def test_grpc_is_imported_when_a_server_starts_and_missed_in_one_line() -> None:
    program = """
import asyncio, sys
from tidegate.protocols.grpc import GrpcServer
from tidegate.settings import Access, Limits
from tidegate.telemetry import REQUESTS
from tidegate.testing.predictor import FakePredictor
from tidegate.errors import MissingExtra
assert not {"grpc", "google.protobuf"} & sys.modules.keys()
sys.modules["grpc"] = None
async def main():
    try:
        await GrpcServer(FakePredictor(), Access(), Limits()).start("127.0.0.1", 0)
    except MissingExtra as error:
        print(error)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == 'tidegate[grpc] is needed for serving over gRPC: pip install "tidegate[grpc]"'


async def test_keys_of_the_store_are_held_to_their_endpoints_and_limits(predictor: FakePredictor) -> None:
    id_, secret, salt = new_key()
    facts = KeyFacts(name="k", roles=("operate",), endpoints=("iris",), requests_per_minute=4, rows=1)
    keyring = Keyring()
    keyring.update((KnownKey(id=id_, salt=salt, digest=digest(salt, secret), facts=facts),))
    metadata = (("x-api-key", compose(id_, secret)),)
    async for client in serve(predictor, Access(keys_required=True), keyring):
        request = infer_request(inputs=[typed("fp32_contents", FLAT)])
        assert (await client.refused("ModelInfer", request))[0] == "UNAUTHENTICATED"
        code, words = await client.refused("ModelInfer", request, metadata=metadata)
        assert (code, "2 rows; this key may send 1" in words) == ("INVALID_ARGUMENT", True)
        one = infer_request(inputs=[typed("fp32_contents", FLAT[:4], shape=(1, 4))])
        assert (await client("ModelInfer", one, metadata=metadata)).model_name == "iris"
        unload = service_pb2.RepositoryModelUnloadRequest(model_name="churn")
        assert (await client.refused("RepositoryModelUnload", unload, metadata=metadata))[0] == "PERMISSION_DENIED"
        assert (await client("ModelInfer", one, metadata=metadata)).model_name == "iris"
        assert (await client.refused("ModelInfer", one, metadata=metadata))[0] == "RESOURCE_EXHAUSTED"
