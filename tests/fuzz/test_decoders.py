"""Whatever bytes arrive, a handler answers or raises RequestError, in bounded time, and a model sees only what fits its signature."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable
from functools import cache
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.protocols.test_arrow import stream
from tests.unit.protocols.test_images import picture
from tests.unit.protocols.test_multipart import form
from tidegate.errors import RequestError
from tidegate.protocols.base import Request, Response
from tidegate.protocols.examples import bodies_of
from tidegate.protocols.images import size_of
from tidegate.protocols.mlflow import Mlflow
from tidegate.protocols.native import Native
from tidegate.serving.call import Call
from tidegate.settings import Limits
from tidegate.testing.predictor import FakePredictor
from tidegate.types import NUMPY_DTYPES, Signature, Tensors, TensorSpec

pytestmark = pytest.mark.slow

MAX_ROWS = 20
SECONDS = 2.0
ARROW = "application/vnd.apache.arrow.stream"
FORM = "multipart/form-data; boundary=XyZ"

SIGNATURES = {
    "matrix": Signature((TensorSpec("x", "FP32", (-1, 2), columns=("a", "b")),), labels=("p", "q")),
    "free": Signature((TensorSpec("x", "FP64", (-1, -1), allow_nan=True),)),
    "half": Signature((TensorSpec("x", "FP16", (-1, 2)),)),
    "bytes": Signature((TensorSpec("x", "UINT8", (-1, 2), columns=("a", "b")),)),
    "table": Signature(
        (
            TensorSpec("a", "FP64", allow_nan=True),
            TensorSpec("b", "BYTES", content="text"),
            TensorSpec("c", "INT64", (-1, 1)),
            TensorSpec("d", "BOOL"),
            TensorSpec("e", "BYTES", content="text", required=False, allow_nan=True),
        )
    ),
    "text": Signature((TensorSpec("t", "BYTES", content="text"),)),
    "image": Signature((TensorSpec("i", "BYTES", content="image"),)),
    "pair": Signature((TensorSpec("i", "BYTES", content="image"), TensorSpec("t", "BYTES", content="text"))),
    "cube": Signature((TensorSpec("x", "FP32", (-1, 2, 2)), TensorSpec("m", "INT32", (-1, -1)))),
}

names = st.sampled_from(["a", "b", "c", "d", "e", "x", "t", "i", "m", "b64", "dtype", "shape", "data", "é", ""])
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.floats(-9, 9)
    | st.integers()
    | st.text(max_size=6)
    | st.sampled_from([1e39, 2**63, 2**64, -(2**70), "AAAA", "FP32", base64.b64encode(picture("PNG")).decode()])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=5), max_leaves=20
)
rows = st.lists(st.lists(scalars, min_size=2, max_size=2), max_size=3)
records = st.lists(st.dictionaries(names, scalars, max_size=5), max_size=3)
columns = st.dictionaries(names, st.lists(scalars, min_size=1, max_size=2) | rows, max_size=5)
frames = st.fixed_dictionaries({}, optional={"columns": st.lists(names | values, max_size=3), "data": rows | values})
shaped = rows | records | columns | frames | st.lists(scalars, max_size=3) | values
keys = st.sampled_from(
    [
        "features", "records", "text", "texts", "instances", "inputs", "images", "units", "params",
        "dataframe_split", "dataframe_records", "more",
    ]
)  # fmt: skip
bodies = st.dictionaries(keys, shaped, min_size=1, max_size=2) | values
endpoints = st.sampled_from(sorted(SIGNATURES))


def model(inputs: Tensors) -> Tensors:
    return {"predictions": np.zeros(len(next(iter(inputs.values()))))}


class Plane:
    """The handlers over all signatures, and what they hand to the model."""

    def __init__(self) -> None:
        self.predictor = FakePredictor()
        for name, signature in SIGNATURES.items():
            self.predictor.live.add(name, signature, model, max_rows=MAX_ROWS)
        made: Any = self.predictor
        self.native = Native(made, Limits(image_pixels=10_000))
        self.mlflow = Mlflow(made, Limits(image_pixels=10_000))

    def native_predict(self, endpoint: str, media: str, body: bytes) -> Response | None:
        request = Request("POST", "", b"", {b"content-type": media.encode()}, body, {"endpoint": endpoint}, "r", 0.0)
        return self._run(self.native.predict, request)

    def invoke(self, endpoint: str, media: str, body: bytes) -> Response | None:
        query = f"endpoint={endpoint}".encode()
        request = Request("POST", "", query, {b"content-type": media.encode()}, body, {}, "r", 0.0)
        return self._run(self.mlflow.invoke, request)

    def _run(self, handler: Callable[[Request], Any], request: Request) -> Response | None:
        """The answer, or None after a RequestError. Handlers over the fake never wait, so no loop is needed."""
        self.predictor.calls.clear()
        started = perf_counter()
        response = None
        with contextlib.suppress(RequestError):
            try:
                handler(request).send(None)
            except StopIteration as stop:
                response = stop.value
        assert perf_counter() - started < SECONDS
        for call in self.predictor.calls:
            check_fits(call)
        if response is not None:
            msgspec.json.decode(response.body)
        return response


@cache
def plane() -> Plane:
    return Plane()


def check_fits(call: Call) -> None:
    """A model sees arrays of its own types and shapes, with 1 to max_rows rows, and nothing missing where it may not be."""
    signature = call.endpoint.signature
    assert 1 <= call.rows <= MAX_ROWS
    for spec in signature.inputs:
        if spec.name not in call.inputs:
            assert not spec.required
            continue
        array = call.inputs[spec.name]
        assert array.dtype == NUMPY_DTYPES[spec.datatype]
        assert array.ndim == len(spec.shape)
        assert array.shape[0] == call.rows
        assert all(wanted in (-1, got) for wanted, got in zip(spec.shape[1:], array.shape[1:], strict=True))
        if array.dtype.kind == "f" and not spec.allow_nan:
            assert np.isfinite(array).all()
        if array.dtype.kind == "O":
            allowed: tuple[type, ...] = (bytes,) if spec.content == "image" else (str,)
            allowed += (type(None),) if spec.allow_nan else ()
            assert all(isinstance(value, allowed) for value in array.ravel())
    assert set(call.inputs) <= {spec.name for spec in signature.inputs}


def valid_bodies() -> list[tuple[str, str, bytes]]:
    """Endpoint, media type and a body that is answered, for mutation."""
    found = [
        (name, "application/json", msgspec.json.encode(body))
        for name, signature in SIGNATURES.items()
        for body in bodies_of(signature).values()
    ]
    packed = {"dtype": "FP32", "shape": [1, 2], "data": b"\0" * 8}
    found.append(("matrix", "application/msgpack", msgspec.msgpack.encode({"features": packed})))
    found.append(
        ("table", "application/msgpack", msgspec.msgpack.encode({"records": [{"a": 1, "b": "x", "c": 1, "d": True}]}))
    )
    table = pa.table({"a": [1.0], "b": pa.array(["x"]).dictionary_encode(), "c": [1], "d": [True]})
    found.append(("table", ARROW, stream(table)))
    found.append(("matrix", ARROW, stream(pa.table({"a": [1.0, 2.0], "b": [1, 2]}))))
    found.append(("pair", FORM, form(("images", picture("PNG")), ("text", b"x"))))
    found.append(("image", FORM, form(("images", picture("GIF")))))
    return found


VALID = valid_bodies()


@st.composite
def mutated(draw: st.DrawFn, body: bytes) -> bytes:
    """A body with a few bytes cut, doubled, overwritten or put in."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, max(len(body) - 1, 0)))
        end = min(start + draw(st.sampled_from([1, 1, 2, 8, 64])), len(body))
        put = draw(
            st.binary(max_size=4)
            | st.sampled_from(
                [b"", body[start:end] * 2, b"\xff" * 4, b"[", b'"', b"}", b"null", b"1e400", b"NaN", b"\\ud800", b"\0"]
            )
        )
        body = body[:start] + put + body[end:]
    return body


@pytest.mark.parametrize(("endpoint", "media", "body"), VALID)
def test_the_seeds_are_answered(endpoint: str, media: str, body: bytes) -> None:
    assert plane().native_predict(endpoint, media, body) is not None


@given(endpoints, bodies)
@example("matrix", {"features": [[0, 10**400]]})
@example("matrix", {"features": [[True, 1]]})
@example("cube", {"inputs": {"x": [[[]]], "m": [[]]}})
def test_any_json(endpoint: str, body: Any) -> None:
    encoded = json.dumps(body).encode()
    plane().native_predict(endpoint, "application/json", encoded)
    plane().invoke(endpoint, "application/json", encoded)


@given(endpoints, bodies)
def test_any_msgpack(endpoint: str, body: Any) -> None:
    with contextlib.suppress(OverflowError):
        plane().native_predict(endpoint, "application/msgpack", msgspec.msgpack.encode(body))


@given(st.data())
def test_mutated_bodies(data: st.DataObject) -> None:
    endpoint, media, body = data.draw(st.sampled_from(VALID))
    changed = data.draw(mutated(body))
    plane().native_predict(endpoint, media, changed)
    if media == "application/json":
        plane().invoke(endpoint, media, changed)


@given(
    endpoints, st.sampled_from(["application/json", "application/msgpack", ARROW, FORM, ""]), st.binary(max_size=200)
)
def test_any_bytes(endpoint: str, media: str, body: bytes) -> None:
    plane().native_predict(endpoint, media, body)


@given(endpoints, st.text(max_size=20) | st.binary(max_size=20).map(repr))
def test_any_media_type(endpoint: str, media: str) -> None:
    plane().native_predict(endpoint, media, b'{"features": [[1, 2]]}')


@given(
    endpoints,
    st.lists(st.lists(names | scalars.map(str), max_size=6), max_size=5).map(
        lambda lines: "\n".join(",".join(line) for line in lines).encode("utf-8", "replace")
    )
    | st.text(alphabet='ab,"\n\r\0;é1', max_size=40).map(str.encode)
    | st.binary(max_size=60),
)
@example("table", b"a,b,c,d\n1,x,2,true\n")
def test_any_csv(endpoint: str, body: bytes) -> None:
    plane().invoke(endpoint, "text/csv", body)


@given(
    st.sampled_from(["image", "pair"]),
    st.lists(
        st.tuples(
            st.sampled_from(["images", "i", "text", "texts", "t", "units", "x"]),
            st.binary(max_size=20) | st.just(picture("PNG")),
        ),
        max_size=5,
    ),
)
def test_any_form(endpoint: str, parts: list[tuple[str, bytes]]) -> None:
    plane().native_predict(endpoint, FORM, form(*parts))


PICTURES = [picture(kind) for kind in ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF")]


@given(st.sampled_from(PICTURES).flatmap(mutated) | st.binary(max_size=80))
def test_any_image_header(blob: bytes) -> None:
    found = size_of(blob)
    assert found is None or len(found) == 3


@given(st.sampled_from(PICTURES).flatmap(mutated))
def test_any_image_as_base64(blob: bytes) -> None:
    body = msgspec.json.encode({"images": [base64.b64encode(blob).decode()]})
    plane().native_predict("image", "application/json", body)


@pytest.mark.parametrize(
    ("media", "body"),
    [
        ("application/json", b"[" * 4_000_000),
        ("application/json", b'{"features": [' + b"[1,2]," * 600_000 + b"[1,2]]}"),
        ("application/json", b'{"a":' * 800_000),
        ("application/json", b'{"features": [[' + b"1" * 4_000_000 + b"]]}"),
        ("application/json", b'{"' + b"\\u0061" * 600_000 + b'": 1}'),
        ("application/json", b'{"texts": [' + b'"a:b",' * 400_000 + b'"a"]}'),
        ("application/msgpack", b"\x91" * 4_000_000),
        ("application/msgpack", b"\xdd\xff\xff\xff\xff" * 100_000),
        ("application/msgpack", b"\x81\xa8features\xdd\x00\x3d\x09\x00" + b"\xc0" * 4_000_000),
        (FORM, b"--XyZ\r\n" * 400_000),
        (FORM, b'--XyZ\r\nContent-Disposition: form-data; name="images"\r\n\r\n\r\n' * 60_000),
        ("text/csv", b"a,b\n" + b"1,2\n" * 800_000),
        ("text/csv", b"a," * 1_500_000),
    ],
)  # fmt: skip
def test_large_hostile_bodies_end_soon(media: str, body: bytes) -> None:
    for endpoint in ("matrix", "text", "image"):
        assert plane().native_predict(endpoint, media, body) is None
        assert plane().invoke(endpoint, media, body) is None
