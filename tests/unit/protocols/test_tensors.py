from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tidegate.errors import InvalidInput, RequestError, TooLarge
from tidegate.protocols.tensors import (
    check,
    from_columns,
    from_frame,
    from_images,
    from_instances,
    from_matrix,
    from_records,
    from_texts,
    rows_of,
)
from tidegate.types import Signature, TensorSpec

MATRIX = Signature((TensorSpec("X", "FP32", (-1, 2), columns=("age", "income")),))
NAMELESS = Signature((TensorSpec("X", "FP64", (-1, 3)),))
GAPS = Signature((TensorSpec("X", "FP32", (-1, 2), columns=("age", "income"), allow_nan=True),))
WHOLE = Signature((TensorSpec("X", "UINT8", (-1, 2)),))
TABLE = Signature(
    (
        TensorSpec("age", "FP64"),
        TensorSpec("city", "BYTES", content="text"),
        TensorSpec("visits", "INT64", (-1, 1)),
        TensorSpec("vip", "BOOL"),
    )
)
OPTIONAL = Signature((TensorSpec("age", "FP64"), TensorSpec("note", "BYTES", required=False, allow_nan=True)))
TEXT = Signature((TensorSpec("text", "BYTES", content="text"),))
IMAGE = Signature((TensorSpec("image", "BYTES", content="image"),))
CUBE = Signature((TensorSpec("cube", "FP32", (-1, 2, 2)), TensorSpec("mask", "INT64", (-1, -1))))


def refused(make: Callable[[], Any]) -> RequestError:
    with pytest.raises(RequestError) as caught:
        make()
    return caught.value


def test_rows_become_one_matrix_of_the_models_type() -> None:
    tensors = from_matrix([[1, 2.5], [3, 4]], MATRIX)
    assert tensors["X"].dtype == np.float32
    assert tensors["X"].tolist() == [[1.0, 2.5], [3.0, 4.0]]
    assert rows_of(tensors) == 2


def test_records_are_ordered_by_name() -> None:
    assert from_records([{"income": 1, "age": 2}], MATRIX)["X"].tolist() == [[2.0, 1.0]]


def test_columns_and_the_tensors_own_name() -> None:
    by_column = from_columns({"income": [1, 2], "age": [3, 4]}, MATRIX)
    assert by_column["X"].tolist() == [[3.0, 1.0], [4.0, 2.0]]
    assert from_columns({"X": [[3, 1]]}, MATRIX)["X"].tolist() == [[3.0, 1.0]]


def test_a_frame_is_ordered_by_name() -> None:
    assert from_frame(["income", "age"], [[1, 2]], MATRIX)["X"].tolist() == [[2.0, 1.0]]


def test_a_frame_for_columns_without_names_goes_by_position() -> None:
    assert from_frame([0, 1, 2], [[1, 2, 3]], NAMELESS)["X"].tolist() == [[1.0, 2.0, 3.0]]


def test_a_table_in_every_form() -> None:
    row = {"age": 41, "city": "Ulm", "visits": 3.0, "vip": True}
    forms = [
        from_records([row], TABLE),
        from_matrix([list(row.values())], TABLE),
        from_columns({name: [value] for name, value in row.items()}, TABLE),
        from_frame(list(row), [list(row.values())], TABLE),
        from_instances([row], TABLE),
    ]
    for tensors in forms:
        assert {name: array.tolist() for name, array in tensors.items()} == {
            "age": [41.0], "city": ["Ulm"], "visits": [[3]], "vip": [True],
        }  # fmt: skip
        assert tensors["visits"].dtype == np.int64


def test_optional_inputs_may_be_left_out() -> None:
    assert list(from_records([{"age": 1}], OPTIONAL)) == ["age"]
    some = from_records([{"age": 1}, {"age": 2, "note": "x"}], OPTIONAL)
    assert some["note"].tolist() == [None, "x"]


def test_texts_in_every_form() -> None:
    assert from_texts("a", TEXT)["text"].tolist() == ["a"]
    for tensors in (
        from_texts(["a", "b"], TEXT),
        from_instances(["a", "b"], TEXT),
        from_matrix([["a"], ["b"]], TEXT),
        from_columns({"text": ["a", "b"]}, TEXT),
        from_records([{"text": "a"}, {"text": "b"}], TEXT),
    ):
        assert tensors["text"].tolist() == ["a", "b"]


def test_images_as_bytes_base64_data_url_or_object() -> None:
    blob = b"\x00\x01\xff"
    text = base64.b64encode(blob).decode()
    images = [blob, text, f"data:image/png;base64,{text}", {"b64": text}]
    assert from_images(images, IMAGE)["image"].tolist() == [blob] * 4
    assert from_instances([{"b64": text}], IMAGE)["image"].tolist() == [blob]


def test_wider_tensors_by_name() -> None:
    tensors = from_columns({"cube": [[[1, 2], [3, 4]]], "mask": [[1, 0, 1]]}, CUBE)
    assert tensors["cube"].shape == (1, 2, 2)
    assert tensors["mask"].tolist() == [[1, 0, 1]]


def test_missing_numbers_become_nan_where_allowed() -> None:
    row = from_matrix([[None, 1]], GAPS)["X"]
    assert np.isnan(row[0, 0])
    assert row[0, 1] == 1


@pytest.mark.parametrize(
    ("make", "words", "loc"),
    [
        (lambda: from_matrix([[1, 2], [1, "old"]], MATRIX), 'row 1, column "income": expected number, got "old"', ("features", 1, 1)),
        (lambda: from_matrix([[1, True]], MATRIX), 'row 0, column "income": expected number, got true (send 1)', ("features", 0, 1)),
        (lambda: from_matrix([[None, 1]], MATRIX), 'row 0, column "age": expected number, got null', ("features", 0, 0)),
        (lambda: from_matrix([[1, 1e39]], MATRIX), "1e+39 is out of range for FP32", ("features", 0, 1)),
        (lambda: from_matrix([[None, 1e39]], GAPS), "1e+39 is out of range for FP32", ("features", 0, 1)),
        (lambda: check({"X": np.array([[np.nan, 1e39]])}, GAPS), "1e+39 is out of range for FP32", ("inputs", "X", 0, 1)),
        (lambda: from_matrix([[1, 10**400]], MATRIX), "a very large integer is out of range", ("features", 0, 1)),
        (lambda: from_matrix([[1, float("nan")]], MATRIX), "expected a finite number, got nan", ("features", 0, 1)),
        (lambda: from_matrix([[1, [2]]], MATRIX), "expected number, got a list", ("features", 0, 1)),
        (lambda: from_matrix([[1, 300]], WHOLE), "row 0, column 1: 300 is out of range for UINT8 (0 to 255)", ("features", 0, 1)),
        (lambda: from_matrix([[1, -1]], WHOLE), "-1 is out of range", ("features", 0, 1)),
        (lambda: from_matrix([[1, 1.5]], WHOLE), "expected whole number, got 1.5", ("features", 0, 1)),
        (lambda: from_matrix([[1, 2], [3]], MATRIX), "row 1: expected 2 values, got 1", ("features", 1)),
        (lambda: from_matrix([[1, 2, 3]], MATRIX), "row 0: expected 2 values, got 3", ("features", 0)),
        (lambda: from_matrix([1, 2], MATRIX), "row 0: expected a list of values, got 1", ("features", 0)),
        (lambda: from_matrix([[1, 2], 3], MATRIX), "row 1: expected a list of 2 values, got 3", ("features", 1)),
        (lambda: from_matrix({"a": 1}, MATRIX), "features: expected a list of rows, got an object", ("features",)),
        (lambda: from_records([{"age": 1}], MATRIX), 'row 0: missing column "income"', ("records", 0)),
        (lambda: from_records([{"age": 1, "incom": 2}], MATRIX), 'missing column "income" and unknown column "incom"', ("records", 0)),
        (lambda: from_records([{"age": 1, "income": 2, "x": 3}], MATRIX), 'unknown column "x"', ("records", 0)),
        (lambda: from_records([{"age": 1, "income": 2}, [1]], MATRIX), "row 1: expected an object", ("records", 1)),
        (lambda: from_records([{"a": 1}], NAMELESS), "the columns of this model have no names", ("records",)),
        (lambda: from_records([{"age": "x", "income": 2}], MATRIX), 'row 0, column "age": expected number', ("records", 0, "age")),
        (lambda: from_columns({"age": [1, 2], "income": [1]}, MATRIX), 'column "income" has 1 rows, but column "age" has 2', ("inputs", "income")),
        (lambda: from_columns({"age": 1, "income": [1]}, MATRIX), 'column "age": expected a list', ("inputs", "age")),
        (lambda: from_columns({"age": [1], "income": ["x"]}, MATRIX), 'row 0, column "income"', ("inputs", "income", 0)),
        (lambda: from_columns(3, MATRIX), "inputs: expected an object of arrays, got 3", ("inputs",)),
        (lambda: from_columns({"X": 3}, MATRIX), 'input "X": expected a list of rows', ("inputs", "X")),
        (lambda: from_columns({"cube": [[[1, 2], [3]]], "mask": [[1]]}, CUBE), 'row 0, column "cube", position [1]: expected 2 values, got 1', ("inputs", "cube", 0, 1)),
        (lambda: from_columns({"cube": [[[1, 2], [3, "x"]]], "mask": [[1]]}, CUBE), "position [1, 1]: expected number", ("inputs", "cube", 0, 1, 1)),
        (lambda: from_frame(["age"], [[1]], MATRIX), 'missing column "income"', ("dataframe_split", "columns")),
        (lambda: from_frame(["age", "income"], [[1]], MATRIX), "row 0: expected 2 values, one per column, got 1 values", ("dataframe_split", "data", 0)),
        (lambda: from_frame(["age", "age"], [[1, 2]], MATRIX), 'column "age" is named twice', ("dataframe_split", "columns")),
        (lambda: from_frame(["income", "age"], [[1, "x"]], MATRIX), 'row 0, column "age"', ("dataframe_split", "data", 0, 1)),
        (lambda: from_matrix([[1, "x", 3, 1]], TABLE), "expected true or false, got 1", ("features", 0, 3)),
        (lambda: from_matrix([[1, 4, 3, True]], TABLE), 'row 0, column "city": expected text, got 4', ("features", 0, 1)),
        (lambda: from_matrix([[1, "x"]], TABLE), "row 0: expected 4 values, one per column, got 2 values", ("features", 0)),
        (lambda: from_texts(["a", 3], TEXT), "row 1: expected text, got 3", ("texts", 1)),
        (lambda: from_texts("a", MATRIX), "texts does not fit this model", ("texts",)),
        (lambda: from_images(["?"], IMAGE), "row 0: expected an image as base64 text", ("images", 0)),
        (lambda: from_images([b""], TEXT), "images does not fit this model", ("images",)),
    ],
)  # fmt: skip
def test_mistakes_name_their_place(make: Callable[[], Any], words: str, loc: tuple[Any, ...]) -> None:
    """mlflow/mlflow#3354, #4897: bad input is a 4xx that names row and column, never a 500."""
    error = refused(make)
    assert isinstance(error, InvalidInput)
    assert words in str(error)
    assert error.loc == loc


def test_a_wrong_form_shows_the_right_ones_with_this_models_columns() -> None:
    """mlflow/mlflow#7524: the error shows the accepted forms with this model's columns."""
    text = str(refused(lambda: from_records([{"Age": 1}], MATRIX)))
    assert '{"features":[[0.5,0.5]]}' in text
    assert '{"records":[{"age":0.5,"income":0.5}]}' in text


def test_at_most_ten_places_are_listed() -> None:
    error = refused(lambda: from_matrix([["x", "y"]] * 50, MATRIX))
    assert len(error.errors) == 10
    assert error.errors[0] == {"loc": ("features", 0, 0), "msg": 'expected number, got "x"'}


def test_a_long_value_is_cut() -> None:
    assert len(str(refused(lambda: from_matrix([["x" * 10_000, 1]], MATRIX)))) < 200


@pytest.mark.parametrize("make", [from_matrix, from_records, from_instances])
def test_no_rows(make: Callable[..., Any]) -> None:
    assert "no rows" in str(refused(lambda: make([], MATRIX)))


def test_one_row_too_many() -> None:
    assert rows_of(from_matrix([[1, 2]] * 3, MATRIX, max_rows=3)) == 3
    for make in (
        lambda: from_matrix([[1, 2]] * 4, MATRIX, max_rows=3),
        lambda: from_records([{"age": 1, "income": 2}] * 4, MATRIX, max_rows=3),
        lambda: from_columns({"age": [1] * 4, "income": [1] * 4}, MATRIX, max_rows=3),
        lambda: from_columns({"X": [[1, 2]] * 4}, MATRIX, max_rows=3),
        lambda: from_frame(["age", "income"], [[1, 2]] * 4, MATRIX, max_rows=3),
        lambda: from_texts(["a"] * 4, TEXT, max_rows=3),
        lambda: check({"X": np.zeros((4, 2))}, MATRIX, max_rows=3),
    ):
        error = refused(make)
        assert isinstance(error, TooLarge)
        assert "4 rows; this endpoint takes at most 3" in str(error)


def test_typed_arrays_are_cast() -> None:
    tensors = check({"X": np.array([[1, 2]], np.int32)}, MATRIX)
    assert tensors["X"].dtype == np.float32
    columns = check({"age": np.array([1.0]), "income": np.array([2], np.int8)}, MATRIX)
    assert columns["X"].tolist() == [[1.0, 2.0]]
    table = check(
        {
            "age": np.array([[1.0]]),
            "city": np.array([b"Ulm"], object),
            "visits": np.array([2.0]),
            "vip": np.array([True]),
        },
        TABLE,
    )
    assert table["city"].tolist() == ["Ulm"]
    assert table["visits"].tolist() == [[2]]
    assert table["age"].shape == (1,)


@pytest.mark.parametrize(
    ("arrays", "signature", "words"),
    [
        ({"X": np.zeros((2, 3))}, MATRIX, 'input "X": expected shape [-1, 2], got [2, 3]'),
        ({"X": np.zeros(2)}, MATRIX, "expected shape [-1, 2], got [2]"),
        ({"X": np.zeros(())}, MATRIX, "got []"),
        ({"X": np.array([["a", "b"]])}, MATRIX, "expected FP32, got text"),
        ({"X": np.array([[True, False]])}, MATRIX, "expected FP32, got bool"),
        ({"X": np.array([[1.0, np.inf]])}, MATRIX, 'row 0, column "income": expected a finite number, got inf'),
        ({"X": np.array([[1.0, 1e39]])}, MATRIX, "1e+39 is out of range for FP32"),
        ({"X": np.array([[1.0, 2.5]])}, WHOLE, "row 0, column 1: expected whole number, got 2.5"),
        ({"X": np.array([[1.0, np.nan]])}, WHOLE, "expected whole number, got nan"),
        ({"X": np.array([[1, -1]])}, WHOLE, "-1 is out of range for UINT8"),
        ({"Y": np.zeros((1, 2))}, MATRIX, 'unknown column "Y"'),
        ({"text": np.array([b"\xff"], object)}, TEXT, "row 0: expected text, got bytes"),
        ({"text": np.array([1.0])}, TEXT, "expected text, got float64"),
    ],
)
def test_typed_arrays_that_do_not_fit(arrays: Any, signature: Signature, words: str) -> None:
    assert words in str(refused(lambda: check(arrays, signature)))


def test_the_largest_integers_survive() -> None:
    signature = Signature((TensorSpec("n", "INT64"),))
    assert check({"n": np.array([2**63 - 1], np.uint64)}, signature)["n"].tolist() == [2**63 - 1]
    assert "out of range" in str(refused(lambda: check({"n": np.array([2**63], np.uint64)}, signature)))
    assert "out of range" in str(refused(lambda: check({"n": np.array([2.0**63])}, signature)))
    assert from_matrix([2**63 - 1], signature)["n"].tolist() == [2**63 - 1]


def test_gaps_in_typed_arrays_pass_where_allowed() -> None:
    assert np.isnan(check({"X": np.array([[np.nan, 1]])}, GAPS)["X"][0, 0])
