from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from tidegate.errors import InvalidInput, MalformedBody
from tidegate.protocols.bodies import media_type, read_json, read_msgpack, read_object


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is empty"),
        (b'{"a": 1', "cut|truncated"),
        (b'{"a": 1} x', "trailing"),
        (b'{"a": 1, "a": 2}', 'the key "a" is there twice'),
        (b'{"a": [[{"b": {"c": 1, "c": 2}}]]}', 'the key "c" is there twice'),
        (b'{"a": 1, "\\u0061": 2}', 'the key "a" is there twice'),
        (b'{"a": NaN}', "JSON has no NaN or Infinity, send null"),
        (b'{"a": -Infinity}', "JSON has no NaN or Infinity, send null"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
        (b'{"a": "\\ud800"}', "not JSON"),
        ('{"a": 1}'.encode("utf-16"), "not JSON"),
        (nested(33), "deeper than 32 levels"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
    ],
)
def test_what_cannot_be_read_is_refused(body: bytes, words: str) -> None:
    """mlflow/mlflow#3354: a body that cannot be decoded is a 400 that says why."""
    with pytest.raises(MalformedBody, match=words):
        read_json(body, 32)


@pytest.mark.parametrize("number", [b"1e400", b"1" * 5000, b"-1e999"])
def test_numbers_beyond_all_types_are_refused(number: bytes) -> None:
    with pytest.raises(InvalidInput, match="no model takes"):
        read_json(b"[" + number + b"]", 32)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b' \n{"a": 1}\t', {"a": 1}),
        (b'{"a": {"b": 1}, "c": [{"b": 1}, {"b": 2}]}', {"a": {"b": 1}, "c": [{"b": 1}, {"b": 2}]}),
        (b'{"a": "b: c, d: e", "f": "[[[{{{"}', {"a": "b: c, d: e", "f": "[[[{{{"}),
        (b'{"a": "' + b"[" * 100 + b'"}', {"a": "[" * 100}),
        (b'{"a": "\\"' + b"[" * 100 + b'"}', {"a": '"' + "[" * 100}),
        (b"[18446744073709551616]", [2**64]),
    ],
)
def test_what_can_be_read(body: bytes, value: Any) -> None:
    assert read_json(body, 32) == value


@pytest.mark.parametrize(
    "body", [nested(32), b"[" + b",".join([b"[1]"] * 100) + b"]", b'{"a": [{"b": [[]]}]}', b'["' + b"]" * 99 + b'"]']
)
def test_depth_is_depth_and_not_a_count_of_brackets(body: bytes) -> None:
    read_json(body, 32)


@pytest.mark.parametrize("body", [nested(33), b'["]",' * 40 + b"1" + b"]" * 40, b'{"a":' * 33 + b"1" + b"}" * 33])
def test_texts_with_brackets_do_not_confuse_the_depth(body: bytes) -> None:
    with pytest.raises(MalformedBody, match="deeper than 32 levels"):
        read_json(body, 32)


def test_a_body_that_is_no_object() -> None:
    with pytest.raises(MalformedBody, match="must be a JSON object"):
        read_object(b"[1]", 32)


def test_the_words_that_python_writes_are_read_on_request() -> None:
    assert read_json(b'{"a": [NaN, 1], "b": Infinity}', 32, nan=True) == {"a": [None, 1], "b": float("inf")}
    with pytest.raises(MalformedBody, match="twice"):
        read_json(b'{"a": NaN, "a": 1}', 32, nan=True)
    with pytest.raises(MalformedBody):
        read_json(b'{"a": NaN', 32, nan=True)
    with pytest.raises(MalformedBody):
        read_json(b"NaN" + b"[" * 100_000, 32, nan=True)


def pack(value: Any) -> bytes:
    return msgspec.msgpack.encode(value)


def array(dtype: str, shape: list[Any], data: bytes) -> bytes:
    return pack({"a": {"dtype": dtype, "shape": shape, "data": data}})


@pytest.mark.parametrize("dtype", ["FP32", "float32", "<f4", "f4"])
def test_arrays_in_msgpack(dtype: str) -> None:
    data = np.array([[1, 2]], "<f4").tobytes()
    value = read_msgpack(array(dtype, [1, 2], data), 32)["a"]
    assert value.dtype == np.float32
    assert value.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    "body",
    [
        array("FP32", [1, 3], b"\0" * 8),
        array("FP32", [-1], b""),
        array("FP32", [2**40, 2**40], b""),
        array("object", [1], b"\0" * 8),
        array("BYTES", [1], b"\0"),
        array("BOOL", [1], b"\x02"),
        array("FP32", [1.5], b"\0" * 4),
        array("FP32", [0] * 40, b""),
        pack({"a": {"dtype": "FP32", "shape": [1], "data": "text"}}),
        pack({"a": {"dtype": 1, "shape": [1], "data": b""}}),
    ],
)
def test_arrays_that_contradict_themselves(body: bytes) -> None:
    with pytest.raises(InvalidInput, match="array:"):
        read_msgpack(body, 32)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x81\xa1a" * 5000,
        b"\xdd\x00\xff\xff\xff" * 900,
        pack([1]),
        pack({1: 2}),
        pack({"a": {1: 2}}),
        pack({"a": msgspec.msgpack.Ext(5, b"x")}),
        b"\x81\xa1a\xd6\xff\x00\x00\x00\x00",
        b"\x81\xa1\xff\x01",
        b"\x81\xa1a" + b"\x91" * 40 + b"\x01",
    ],
)
def test_msgpack_that_cannot_be_read(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        read_msgpack(body, 32)


@pytest.mark.parametrize(
    ("header", "media"),
    [
        (b"", "application/json"),
        (b"Application/JSON; charset=utf-8", "application/json"),
        (b"text/csv", "text/csv"),
        (b"\xff\xfe", "ÿþ"),
    ],
)
def test_media_types(header: bytes, media: str) -> None:
    assert media_type({b"content-type": header}) == media
    assert media_type({}) == "application/json"
