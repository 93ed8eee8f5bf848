from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.control.training.tables import as_text, churn, config
from tidegate.control.training.rows import check
from tidegate.errors import UserError


def changed(row: int, column: str, value: Any) -> Any:
    frame = as_text(churn(100))
    frame.loc[row, column] = value
    return frame


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("age", "-3", "is less than 0"),
        ("age", "121", "is greater than 120"),
        ("age", "old", "is no number"),
        ("charges", "inf", "is infinite"),
        ("charges", None, "has no value"),
        ("charges", "  ", "has no value"),
        ("plan", "weekly", "is none of: monthly, yearly"),
        ("churned", "0.5", "is no whole number"),
        ("churned", None, "has no value"),
    ],
)
def test_a_bad_row_is_set_aside_with_its_reason(column: str, value: Any, reason: str) -> None:
    checked = check(changed(7, column, value), config())
    [one] = checked.rejected
    assert (one.row, one.column, one.reason) == (7, column, reason)
    assert 7 not in checked.frame.index
    assert len(checked.frame) == 99


def test_what_may_be_missing_stays() -> None:
    checked = check(changed(7, "plan", None), config())
    assert not checked.rejected
    assert checked.frame.loc[7, "plan"] is None
    assert checked.may_miss == {"plan"}


def test_too_many_bad_rows_end_it_and_say_which() -> None:
    frame = as_text(churn(100))
    frame.loc[1:6, "age"] = "-1"
    with pytest.raises(
        UserError, match=r"6 of 100 rows break the schema.*5.0%: row 1, column 'age': '-1' is less than 0"
    ):
        check(frame, config())
    assert len(check(frame, config(checks={"max_bad": 0.06})).frame) == 94


def test_too_many_missing_values_end_it() -> None:
    frame = as_text(churn(100))
    frame.loc[1:40, "age"] = None
    with pytest.raises(UserError, match=r"column 'age': 40.0% of the rows have no value"):
        check(frame, config())


def test_a_missing_column_is_named() -> None:
    with pytest.raises(UserError, match="column 'plan' is missing; there are: age, charges, churned"):
        check(as_text(churn()).drop(columns="plan"), config())


def test_without_a_schema_types_are_found() -> None:
    frame = as_text(churn(50)).assign(vip=["yes", "no"] * 25)
    checked = check(frame, config(schema=None))
    assert checked.types == {
        "age": "number", "charges": "number", "plan": "category", "churned": "integer", "vip": "boolean",
    }  # fmt: skip
    assert set(checked.frame["vip"]) == {0.0, 1.0}


def test_duplicates_are_counted_and_bounded() -> None:
    import pandas

    twice = pandas.concat([churn(50), churn(50)], ignore_index=True)
    assert check(as_text(twice), config()).duplicates >= 50
    with pytest.raises(UserError, match="are there twice"):
        check(as_text(twice), config(checks={"max_duplicates": 0.4}))


def test_one_class_is_nothing_to_learn() -> None:
    with pytest.raises(UserError, match="one class only, 1"):
        check(as_text(churn(50).assign(churned=1)), config())


@pytest.mark.slow
@settings(max_examples=25)
@given(st.lists(st.one_of(st.none(), st.text(max_size=12), st.integers(), st.floats()), min_size=50, max_size=50))
def test_whatever_a_column_holds_rows_are_kept_or_told_about(values: list[Any]) -> None:
    frame = churn(50).astype(object)
    frame["charges"] = values
    checked = check(frame, config(checks={"max_bad": 1.0})) if _any_good(values) else None
    if checked is not None:
        assert len(checked.frame) + len({one.row for one in checked.rejected}) == 50
        assert (checked.frame["charges"] >= 0).all()


def _any_good(values: list[Any]) -> bool:
    """Whether two rows of different classes are left; else there is nothing to learn."""
    classes = set()
    for value, churned in zip(values, churn(50)["churned"], strict=True):
        try:
            number = float(value) if value is not None else -1.0
        except (TypeError, ValueError, OverflowError):
            continue
        if 0 <= number < float("inf"):
            classes.add(churned)
    return len(classes) == 2
