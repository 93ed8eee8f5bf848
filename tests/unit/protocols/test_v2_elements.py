from __future__ import annotations

import functools
from typing import Any

import msgspec
import numpy as np
import pytest

from tidegate.errors import InvalidInput, ModelFailed
from tidegate.protocols.v2_elements import as_json, output_datatype, read_json, read_raw, write_raw
from tidegate.protocols.v2_tensors import SentTensor, bind, place_of
from tidegate.types import NUMPY_DTYPES, Signature, TensorSpec


def raw(data: bytes, datatype: str, shape: tuple[int, ...], spec: TensorSpec | None = None) -> Any:
    tensor = SentTensor("x", datatype, shape, functools.partial(read_raw, data))
    return tensor.read(tensor, spec or TensorSpec("x", datatype, shape))  # type: ignore[arg-type]


def bound(value: Any, spec: TensorSpec, datatype: str = "", is_base64: bool = False) -> Any:
    data = msgspec.Raw(msgspec.json.encode(value))
    read = functools.partial(read_json, data, is_base64)
    tensor = SentTensor("x", datatype or spec.datatype, np.shape(value), read)
    return bind(Signature((spec,)), [tensor], 10)[0]["x"]


@pytest.mark.parametrize("datatype", sorted(set(NUMPY_DTYPES) - {"BYTES"}))
def test_numbers_as_bytes_are_read_without_a_copy_and_written_back(datatype: str) -> None:
    array = np.array([0, 1, 1], NUMPY_DTYPES[datatype])
    data = array.tobytes()
    read = raw(data, datatype, (3,))
    assert read.dtype == array.dtype
    assert read.tolist() == array.tolist()
    assert np.shares_memory(read, np.frombuffer(data, np.uint8))
    assert write_raw(read, datatype) == data  # type: ignore[arg-type]


def test_big_endian_and_strided_outputs_are_written_little_endian() -> None:
    array = np.array([[1, 2], [3, 4]], ">i2").T
    assert output_datatype("y", array) == "INT16"
    assert write_raw(array, "INT16") == np.array([1, 3, 2, 4], "<i2").tobytes()
    assert as_json(array, "INT16") == [1, 3, 2, 4]


def test_bool_bytes_are_zero_or_one() -> None:
    assert raw(b"\0\1", "BOOL", (2,)).tolist() == [False, True]
    with pytest.raises(InvalidInput, match='input "x", row 1: a BOOL is the byte 0 or 1, got 2'):
        raw(b"\0\2", "BOOL", (2,))


TEXT = TensorSpec("x", "BYTES", content="text")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\2\0\0\0ab", "6 bytes cannot hold 2 BYTES elements"),
        (b"\2\0\0\0ab\1\0\0\0", "element 1 goes past the end of its 10 bytes"),
        (b"\5\0\0\0ab\0\0\0\0", "element 1 goes past the end"),
        (b"\xff\xff\xff\xffabcdef", "element 0 goes past the end"),
        (b"\2\0\0\0ab\1\0\0\0cd", "1 bytes are left over after 2 elements"),
        (b"\1\0\0\0a\1\0\0\0\xff", 'input "x", row 1: the text is not UTF-8'),
    ],
)
def test_length_prefixes_must_add_up(data: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        raw(data, "BYTES", (2,), TEXT)


def test_text_is_str_and_blobs_are_bytes() -> None:
    data = b"\2\0\0\0\xc3\xbc\0\0\0\0"
    assert raw(data, "BYTES", (2,), TEXT).tolist() == ["ü", ""]
    assert raw(data, "BYTES", (2,), TensorSpec("x", "BYTES", content="binary")).tolist() == [b"\xc3\xbc", b""]
    assert write_raw(np.array(["ü", b""], object), "BYTES") == data


def test_blobs_in_json() -> None:
    image, binary = TensorSpec("x", "BYTES", content="image"), TensorSpec("x", "BYTES", content="binary")
    assert bound(["AQI="], image).tolist() == [b"\1\2"]
    assert bound(["AQI="], binary, is_base64=True).tolist() == [b"\1\2"]
    assert bound(["AQI="], binary).tolist() == [b"AQI="]
    assert bound(["AQI="], TEXT, is_base64=True).tolist() == ["AQI="]
    with pytest.raises(InvalidInput, match='input "x", row 1: expected base64'):
        bound(["AQI=", "no base64!"], image)


def test_null_is_nan_only_where_nan_is_allowed() -> None:
    array = bound([1.5, None], TensorSpec("x", "FP32", allow_nan=True))
    assert array.dtype == np.float32
    assert array[0] == 1.5
    assert np.isnan(array[1])
    with pytest.raises(InvalidInput, match='input "x", row 1: expected number, got null'):
        bound([1.5, None], TensorSpec("x", "FP32"))


@pytest.mark.parametrize(
    ("datatype", "want", "good", "bad"),
    [
        ("INT64", "INT8", [127, -128], 128),
        ("INT64", "UINT64", [0, 2**63 - 1], -1),
        ("UINT64", "INT64", [0, 2**63 - 1], 2**63),
        ("INT32", "FP16", [2048, -2048], 2049),
        ("UINT64", "FP64", [2**53], 2**53 + 1),
    ],
)
def test_integers_convert_where_they_are_exact(datatype: str, want: Any, good: list[int], bad: int) -> None:
    spec = TensorSpec("x", want)
    array = bound(good, spec, datatype)
    assert array.dtype == NUMPY_DTYPES[want]
    assert [int(value) for value in array] == good
    with pytest.raises(InvalidInput, match=f'input "x", row {len(good)}: {bad} does not fit {want}'):
        bound([*good, bad], spec, datatype)


def test_outputs_that_are_no_tensors_are_the_models_fault() -> None:
    with pytest.raises(ModelFailed, match='output "y"'):
        output_datatype("y", np.array(["2026-01-01"], "datetime64[D]"))


def test_places_of_absurd_shapes() -> None:
    assert place_of(5, (2, 3)) == [1, 2]
    assert place_of(7, (1, 10**30, 2)) == [0, 3, 1]
    assert place_of(6, (2, 3)) == [6]
