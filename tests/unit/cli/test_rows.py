from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.cli.caller import chunks
from tidegate.cli.rows import CHUNK, Row, read_rows

SCALARS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
VALUES = SCALARS | st.lists(SCALARS | st.lists(SCALARS, max_size=3), max_size=3)


def values(content: str) -> list[Any]:
    return [row.value for row in read_rows(io.BytesIO(content.encode()), "json", lambda cells: (cells, ""))]


@given(st.lists(VALUES, max_size=10), st.sampled_from([None, 1]))
def test_an_array_is_read_value_by_value(expected: list[Any], indent: int | None) -> None:
    assert values(json.dumps(expected, indent=indent)) == expected


@pytest.mark.parametrize("shift", range(12))
def test_a_value_may_lie_across_chunks(shift: int) -> None:
    expected = ["x" * (CHUNK - shift), 123456789, True, [1.5]]
    assert values(json.dumps(expected)) == expected


def test_a_chunk_has_rows_of_one_kind() -> None:
    rows = [Row(1, [1]), Row(2, error="bad"), Row(3, [1]), Row(4, {"a": 1}), Row(5, {"a": 1}), Row(6, {"a": 1})]
    assert [[row.line for row in chunk] for chunk in chunks(iter(rows), 2)] == [[1, 2], [3], [4, 5], [6]]
