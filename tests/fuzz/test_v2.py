"""Whatever bytes arrive, decoding gives tensors that fit the signature or a RequestError: nothing else comes out."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

from tidegate.errors import MalformedBody, RequestError
from tidegate.protocols import grpc_body, v2_body
from tidegate.protocols.grpc_messages import classes
from tidegate.protocols.v2_tensors import bind
from tidegate.types import NUMPY_DTYPES, Signature, TensorSpec

pytestmark = pytest.mark.slow

fuzz = settings(
    derandomize=True, max_examples=400, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)

MAX_ROWS = 50
SIGNATURES = [
    Signature((TensorSpec("x", "FP32", (-1, 2), columns=("a", "b")),)),
    Signature((TensorSpec("x", "FP64", (-1, -1, 2), allow_nan=True),)),
    Signature((TensorSpec("x", "INT8"), TensorSpec("t", "BYTES", content="text", required=False))),
    Signature((TensorSpec("x", "BYTES", (-1, 1), content="image"),)),
    Signature((TensorSpec("x", "BOOL", (-1, 1)), TensorSpec("b", "UINT64"))),
    Signature((TensorSpec("x", "FP16", (-1, 2)),)),
]

names = st.sampled_from(["x", "a", "b", "t", "", "y"])
datatypes = st.sampled_from([*NUMPY_DTYPES, "BF16", "", "fp32"])
shapes = st.lists(st.integers(-1, 4) | st.sampled_from([0, 2**31, 2**63, 10**30]), max_size=4)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-3, 300)
    | st.floats()
    | st.floats(0, 1)
    | st.text(max_size=5)
    | st.sampled_from([2**63, 2**64, -(2**63) - 1, 1e39, "AAAA"])
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(names, inner, max_size=2))
flats = st.lists(scalars, max_size=8) | st.lists(st.floats(0, 9), min_size=2, max_size=2)
parameters = st.dictionaries(
    st.sampled_from(
        ["binary_data_size", "binary_data", "binary_data_output", "content_type", "classification", "timeout", "é"]
    ),
    st.integers(-1, 40) | st.booleans() | st.just("base64") | values,
    max_size=2,
)


def keep_or_drop(fields: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(fields, optional=optional)


inputs = keep_or_drop(
    {"name": names, "shape": shapes, "datatype": datatypes}, {"data": flats | values, "parameters": parameters}
)
documents = keep_or_drop(
    {"inputs": st.lists(inputs, max_size=3)},
    {
        "id": st.text(max_size=3) | st.integers(),
        "parameters": parameters,
        "outputs": st.lists(keep_or_drop({"name": names}, {"parameters": parameters}), max_size=2),
    },
)


def decode(body: bytes, length: bytes | None, signature: Signature) -> bool:
    """True when the body was a request for this signature."""
    try:
        request = v2_body.read_request(body, length, signature)
        tensors, rows = bind(signature, request.inputs, MAX_ROWS)
    except RequestError:
        return False
    check(signature, tensors, rows)
    return True


def check(signature: Signature, tensors: dict[str, Any], rows: int) -> None:
    assert 1 <= rows <= MAX_ROWS
    for spec in signature.inputs:
        if spec.name not in tensors:
            assert not spec.required
            continue
        array = tensors[spec.name]
        assert array.dtype == NUMPY_DTYPES[spec.datatype]
        assert array.flags.aligned
        assert len(array) == rows
        assert array.ndim == len(spec.shape)
        assert all(want in (-1, have) for have, want in zip(array.shape[1:], spec.shape[1:], strict=True))
        if array.dtype.kind == "f" and not spec.allow_nan:
            assert np.isfinite(array).all()
        if spec.datatype == "BYTES":
            wanted = bytes if spec.content == "image" else str
            assert all(type(element) is wanted for element in array.ravel())


@fuzz
@given(st.sampled_from(SIGNATURES), documents)
def test_json_documents(signature: Signature, document: dict[str, Any]) -> None:
    decode(msgspec.json.encode(document), None, signature)


@st.composite
def nearly_right(draw: st.DrawFn) -> tuple[Signature, dict[str, Any]]:
    """A request that fits its signature, but for at most one element."""
    signature = draw(st.sampled_from(SIGNATURES))
    rows = draw(st.integers(1, 3))
    tensors = []
    for spec in signature.inputs:
        shape = (rows, *(2 if size == -1 else size for size in spec.shape[1:]))
        kind = NUMPY_DTYPES[spec.datatype].kind
        array = np.full(shape, "AAAA" if kind == "O" else 1, object)
        if kind == "b":
            array = array.astype(bool)
        if draw(st.booleans()):
            array.ravel()[draw(st.integers(0, array.size - 1))] = draw(scalars)
        data = array.ravel().tolist() if draw(st.booleans()) else array.tolist()
        tensors.append({"name": spec.name, "shape": shape, "datatype": spec.datatype, "data": data})
    return signature, {"inputs": tensors}


@fuzz
@given(nearly_right())
def test_json_that_is_nearly_right(case: tuple[Signature, dict[str, Any]]) -> None:
    signature, document = case
    decode(msgspec.json.encode(document), None, signature)


@fuzz
@given(st.sampled_from(SIGNATURES), st.binary(max_size=60), st.none() | st.binary(max_size=4) | st.just(b"0"))
@example(SIGNATURES[0], b"[" * 100_000, None)
@example(SIGNATURES[0], b'{"inputs":' + b"[" * 100_000, None)
@example(SIGNATURES[0], b'{"x":' * 50_000, None)
@example(SIGNATURES[0], b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":' + b"[" * 100_000, None)
@example(SIGNATURES[0], b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,"\xff"]}]}', None)
@example(SIGNATURES[1], b'{"inputs":[{"name":"x","shape":[1,%d,2],"datatype":"FP64","data":[true]}]}' % 10**30, None)
@example(SIGNATURES[0], b'\xef\xbb\xbf{"inputs":[]}', None)
@example(SIGNATURES[0], b"{}", b"9" * 5000)
def test_any_bytes(signature: Signature, body: bytes, length: bytes | None) -> None:
    decode(body, length, signature)


@fuzz
@given(st.sampled_from(SIGNATURES), documents, st.binary(max_size=40), st.integers(-2, 2))
def test_json_with_bytes_behind_it(signature: Signature, document: dict[str, Any], tail: bytes, off: int) -> None:
    text = msgspec.json.encode(document)
    decode(text + tail, b"%d" % max(0, len(text) + off), signature)


@fuzz
@given(st.data())
def test_a_good_request_with_one_byte_changed(data: st.DataObject) -> None:
    rows = np.array([[1, 2], [3, 4]], np.float32)
    tensor = {"name": "x", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    text = msgspec.json.encode({"inputs": [tensor]})
    body = bytearray(text + rows.tobytes())
    assert decode(bytes(body), b"%d" % len(text), SIGNATURES[0])
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    decode(bytes(body), b"%d" % len(text), SIGNATURES[0])
    cut = data.draw(st.integers(0, len(body) - 1))
    assert not decode(bytes(body[:cut]), b"%d" % len(text), SIGNATURES[0])


@fuzz
@given(st.sampled_from(SIGNATURES), st.integers(1, 3), st.binary(max_size=48), datatypes)
def test_raw_elements(signature: Signature, rows: int, raw: bytes, datatype: str) -> None:
    spec = signature.inputs[0]
    shape = [rows, *(2 if size == -1 else size for size in spec.shape[1:])]
    tensor = {"name": "x", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": len(raw)}}
    text = msgspec.json.encode({"inputs": [tensor]})
    decode(text + raw, b"%d" % len(text), signature)


def decode_grpc(body: bytes, signature: Signature) -> None:
    try:
        try:
            message = classes()["ModelInferRequest"].FromString(body)
        except Exception as error:
            raise MalformedBody("not a message") from error
        request = grpc_body.read_request(message)
        tensors, rows = bind(signature, request.inputs, MAX_ROWS)
    except RequestError:
        return
    check(signature, tensors, rows)


contents = st.one_of(
    st.fixed_dictionaries({"bool_contents": st.lists(st.booleans(), max_size=4)}),
    st.fixed_dictionaries({"int_contents": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4)}),
    st.fixed_dictionaries({"uint64_contents": st.lists(st.integers(0, 2**64 - 1), max_size=4)}),
    st.fixed_dictionaries({"fp32_contents": st.lists(st.floats(width=32), max_size=4)}),
    st.fixed_dictionaries({"fp64_contents": st.lists(st.floats(), max_size=4)}),
    st.fixed_dictionaries({"bytes_contents": st.lists(st.binary(max_size=5), max_size=4)}),
    st.just({}),
)


@fuzz
@given(st.sampled_from(SIGNATURES), st.lists(st.tuples(names, datatypes, shapes, contents), max_size=3), st.data())
def test_grpc_messages(signature: Signature, tensors: list[Any], data: st.DataObject) -> None:
    message = service_pb2.ModelInferRequest(model_name="m")
    for name, datatype, shape, content in tensors:
        sizes = [size for size in shape if size < 2**63]
        tensor = message.inputs.add(name=name, datatype=datatype, shape=sizes)
        if content:
            tensor.contents.CopyFrom(service_pb2.InferTensorContents(**content))
    message.raw_input_contents.extend(data.draw(st.just([]) | st.lists(st.binary(max_size=16), max_size=3)))
    body = bytearray(message.SerializeToString())
    decode_grpc(bytes(body), signature)
    if body:
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
        decode_grpc(bytes(body), signature)


@fuzz
@given(st.sampled_from(SIGNATURES), st.binary(max_size=60))
def test_any_bytes_as_a_grpc_message(signature: Signature, body: bytes) -> None:
    decode_grpc(body, signature)


texts = st.text(max_size=4)
arrays = st.one_of(
    st.lists(st.floats(width=32), min_size=2, max_size=2).map(lambda row: ("FP32", row)),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=2).map(lambda row: ("INT64", row)),
    st.lists(st.booleans(), min_size=2, max_size=2).map(lambda row: ("BOOL", row)),
    st.lists(texts, min_size=2, max_size=2).map(lambda row: ("BYTES", row)),
)


@fuzz
@given(arrays, st.booleans())
def test_what_is_written_reads_back(output: tuple[str, list[Any]], binary: bool) -> None:
    datatype, row = output
    array = np.array(row, NUMPY_DTYPES[datatype])
    request = v2_body.InferRequest("", {"binary_data_output": binary}, (), ())
    answer = v2_body.write_response(request, {"x": array}, "m", "1")
    length = dict(answer.headers).get(v2_body.LENGTH_HEADER)
    text = answer.body if length is None else answer.body[: int(length)]
    document = msgspec.json.decode(text)
    body = msgspec.json.encode({"inputs": document["outputs"]})
    content = "text" if datatype == "BYTES" else "number"
    signature = Signature((TensorSpec("x", datatype, allow_nan=True, content=content),))  # type: ignore[arg-type]
    tail = b"" if length is None else answer.body[int(length) :]
    back = v2_body.read_request(body + tail, None if length is None else b"%d" % len(body), signature)
    tensors, _ = bind(signature, back.inputs, MAX_ROWS)
    if datatype == "FP32" and not binary:
        array = np.where(np.isfinite(array), array, np.float32(np.nan))
    np.testing.assert_array_equal(tensors["x"], array)
