"""Signatures in plain data."""

from __future__ import annotations

from typing import Any

import pytest

from tidegate.errors import ContractError
from tidegate.serving.runtimes.signatures import as_plain, example_inputs, overlay, parse_signature, with_example
from tidegate.types import Signature, TensorSpec


def test_short_and_long_forms_say_the_same() -> None:
    short = parse_signature({"inputs": {"x": "float32"}, "outputs": {"y": "text"}}, "here")
    long = parse_signature(
        {
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
            "outputs": [{"name": "y", "datatype": "BYTES", "content": "text"}],
        },
        "here",
    )
    assert short == long


def test_columns_give_the_shape() -> None:
    signature = parse_signature({"inputs": {"x": {"columns": ["a", "b"]}}}, "here")
    assert signature.inputs[0].shape == (-1, 2)
    assert signature.columns == ("a", "b")


def test_plain_form_is_read_back() -> None:
    signature = parse_signature(
        {
            "inputs": {"a": {"datatype": "INT64", "required": False}, "t": "BYTES"},
            "outputs": {"p": {"datatype": "FP32", "shape": [-1, 3], "allow_nan": True}},
            "labels": ["x", "y", "z"],
            "example": {"a": 1, "t": "hi"},
        },
        "here",
    )
    assert parse_signature(as_plain(signature), "there") == signature


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ([1], "a signature is a mapping"),
        ({"input": {}}, "unknown key 'input'"),
        ({"inputs": "x"}, "expected a mapping from name to datatype"),
        ({"inputs": [{"datatype": "FP32"}]}, r"here\.inputs\[0\]: needs a name"),
        ({"inputs": {"x": "FP33"}}, "datatype 'FP33' is not one of"),
        ({"inputs": {"x": 3}}, "expected a datatype or a mapping"),
        ({"inputs": {"x": {"type": "FP32"}}}, r"here\.inputs\.x: unknown key 'type'"),
        ({"inputs": {"x": {"shape": [4]}}}, "must start with -1"),
        ({"inputs": {"x": {"columns": ["a"], "shape": [-1, 2]}}}, "1 columns do not fit"),
        ({"inputs": {"x": {"content": "sound"}}}, "content 'sound'"),
    ],
)
def test_mistakes_name_the_place(raw: Any, says: str) -> None:
    with pytest.raises(ContractError, match=says):
        parse_signature(raw, "here")


def test_overlay_completes_and_overrides_by_name() -> None:
    found = Signature(inputs=(TensorSpec("a", "FP64"), TensorSpec("b", "FP64")), outputs=(TensorSpec("y", "FP64"),))
    merged = overlay(found, {"signature": {"inputs": {"b": {"datatype": "INT64"}}}, "labels": ["n", "p"]})
    assert [spec.datatype for spec in merged.inputs] == ["FP64", "INT64"]
    assert merged.labels == ("n", "p")
    assert merged.outputs == found.outputs


def test_example_is_made_and_repeated() -> None:
    signature = with_example(parse_signature({"inputs": {"x": {"shape": [-1, 2]}, "t": "BYTES"}}, "here"))
    assert signature.example == {"x": [0.0, 0.0], "t": "text"}
    inputs = example_inputs(signature, 3)
    assert inputs["x"].shape == (3, 2)
    assert inputs["t"].tolist() == ["text"] * 3


def test_images_and_blobs_stay_whole_in_an_example() -> None:
    signature = parse_signature({"inputs": {"i": {"datatype": "BYTES", "content": "binary"}}}, "here")
    filled = Signature(inputs=signature.inputs, example={"i": b"\x00abc"})
    assert example_inputs(filled, 2)["i"].tolist() == [b"\x00abc"] * 2
