"""Any table becomes one that can be drawn, or the reason why not is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.control.monitoring.frames import MOST_CATEGORIES, numbers_among, prepare, safe
from tidegate.errors import UserError

ROWS = 40


def table(**columns: Any) -> dict[str, Any]:
    return {"age": [float(place % 7) for place in range(ROWS)], **columns}


def notes(reference: dict[str, Any] | None, production: dict[str, Any], **more: Any) -> str:
    return "\n".join(prepare(reference, production, **more).notes)


def test_numbers_and_categories_of_both_tables() -> None:
    plans = ["basic", "pro"] * (ROWS // 2)
    found = prepare(table(plan=plans), table(plan=[*plans[:-1], None]))
    assert found.kinds == {"age": "number", "plan": "category"}
    assert found.production["plan"][-2:] == ["basic", None]
    assert found.notes == ()
    assert found.rows == {"reference": ROWS, "production": ROWS}


def test_columns_that_only_one_has_are_named_and_left_out() -> None:
    found = prepare(table(city=["a"] * ROWS), table(town=["a"] * ROWS))
    assert set(found.kinds) == {"age"}
    assert "not in production, and so left out: city" in found.notes
    assert "not in the reference, and so left out: town" in found.notes


def test_no_column_in_common_is_an_error_that_names_both() -> None:
    with pytest.raises(UserError, match=r"the reference has a, production has b"):
        prepare({"a": [1, 2]}, {"b": [1, 2]})


@pytest.mark.parametrize(
    ("reference", "production", "words"),
    [
        ({"a": []}, {"a": [1, 2]}, "reference: no rows"),
        ({"a": [1, 2]}, {}, "production: no rows"),
        ({"a": [1]}, {"a": [1, 2]}, "reference: 1 row; a comparison needs 2"),
        ({"a": [1, 2]}, {"a": [1]}, "production: 1 row"),
        ({"a": [None, None]}, {"a": [1, 2]}, "no column is left to report on: a: no values in reference"),
        ({"a": [1, 2], "b": [1]}, {"a": [1, 2]}, "different lengths"),
    ],
)
def test_what_cannot_be_compared_is_said(reference: dict[str, Any], production: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        prepare(reference, production)


def test_a_column_without_values_is_left_out_of_a_comparison_and_kept_in_a_look() -> None:
    gone = table(city=[None] * ROWS)
    assert "city: no values in reference and production" in notes(gone, gone)
    assert "city" in prepare(None, gone, whole=True).kinds


def test_texts_among_numbers_count_as_missing_and_are_counted() -> None:
    cells = numbers_among({"age": ["1", "2", "old", "4"] * 10})
    found = prepare(cells, cells)
    assert found.kinds == {"age": "number"}
    assert np.isnan(found.production["age"]).sum() == 10
    assert "age: 10 of 40 values in production are no numbers; they count as missing" in found.notes


def test_numbers_among_texts_are_compared_as_categories() -> None:
    mixed = table(code=["a", 1] * (ROWS // 2))
    found = prepare(mixed, mixed)
    assert found.kinds["code"] == "category"
    assert "code: numbers and texts are mixed in production; they are compared as categories" in found.notes


def test_texts_that_are_all_different_are_compared_by_length() -> None:
    prose = table(note=[f"{'x' * place}{place}" for place in range(ROWS * 2)][:ROWS])
    prose = {name: [*values] * 2 for name, values in prose.items()} | {"note": [f"text {at}" for at in range(ROWS * 2)]}
    found = prepare(prose, prose)
    assert found.kinds["note.length"] == "number"
    assert found.production["note.length"][0] == len("text 0")


def test_of_many_categories_the_most_frequent_are_kept() -> None:
    many = {"city": [f"c{place % 100}" for place in range(1000)]}
    found = prepare(many, many)
    assert len(set(found.production["city"])) == MOST_CATEGORIES + 1
    assert found.production["city"].count("(all others)") == 1000 - 10 * MOST_CATEGORIES


def test_infinite_and_huge_numbers_count_as_missing() -> None:
    odd = table(income=[1e308, -np.inf, *[1.0] * (ROWS - 2)])
    found = prepare(table(income=[1.0] * ROWS), odd)
    assert np.isnan(found.production["income"]).sum() == 2
    assert "income: 2 values in production are infinite or huge; they count as missing" in found.notes


def test_many_rows_become_the_same_sample_each_time() -> None:
    many: dict[str, Any] = {"a": np.arange(1000.0), "b": [str(place) for place in range(1000)]}
    one, two = (prepare(many, many, most_rows=100, seed=3) for _ in range(2))
    assert one.production["a"].tolist() == two.production["a"].tolist()
    assert len(one.production["a"]) == 100
    assert "production: a random sample of 100 of 1,000 rows (seed 3)" in one.notes
    other = prepare(many, many, most_rows=100, seed=4)
    assert other.production["a"].tolist() != one.production["a"].tolist()


def test_nothing_that_is_shown_can_be_markup() -> None:
    evil = "</script><script>alert(1)</script>"
    found = prepare(table(**{evil: ["a", evil] * (ROWS // 2)}), table(**{evil: ["a", evil] * (ROWS // 2)}))
    shown = "".join(found.kinds) + "".join(found.notes) + "".join(map(str, found.production[safe(evil)]))
    assert "<" not in shown


def test_names_that_look_alike_stay_two() -> None:
    found = prepare(None, table(**{"a<": [1.0] * ROWS, "a\u2039": [2.0] * ROWS}), whole=True)
    assert len(found.kinds) == 3


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.lists(st.integers(), max_size=2)
)


@given(st.lists(st.tuples(VALUES, VALUES), min_size=2, max_size=30), st.booleans())
def test_any_values_are_prepared_or_refused_in_words(pairs: list[tuple[Any, Any]], whole: bool) -> None:
    reference = {"x": [one for one, _ in pairs]}
    production = {"x": [two for _, two in pairs]}
    try:
        found = prepare(numbers_among(reference), numbers_among(production), whole=whole)
    except UserError as error:
        assert str(error)  # noqa: PT017
        return
    for columns in (found.reference, found.production):
        for name, kind in found.kinds.items():
            assert len(columns[name]) == len(pairs)
            if kind == "number":
                assert columns[name].dtype == np.float64
                assert not np.isinf(columns[name]).any()
            else:
                assert all(value is None or (isinstance(value, str) and "<" not in value) for value in columns[name])
