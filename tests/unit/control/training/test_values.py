from __future__ import annotations

import datetime
import uuid
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.control.training.tables import churn, config
from tidegate.control.training.rows import check
from tidegate.control.training.values import as_text, numbers, plain, seconds
from tidegate.errors import UserError

ZONES = st.sampled_from([datetime.UTC, ZoneInfo("America/New_York"), datetime.timezone(datetime.timedelta(hours=5))])
DAY = datetime.date(2026, 3, 8)


def column(*values: Any, dtype: Any = object) -> pandas.Series[Any]:
    made: pandas.Series[Any] = pandas.Series(list(values), dtype=dtype)
    return made


def refused(values: pandas.Series[Any], **schema: Any) -> str:
    """What is said of a table with these in the place of ``plan``."""
    frame = churn(len(values))
    frame["plan"] = values.to_numpy() if values.dtype == object else values.array
    with pytest.raises(UserError) as raised:
        check(frame, config(**(schema or {"schema": None})))
    return str(raised.value)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (b"\x00\xff", "is bytes"),
        (memoryview(b"ab"), "is bytes"),
        ([1, 2], "is a list"),
        (np.array([1, 2]), "is a list"),
        (("1", "2"), "is a list"),
        ({"a": 1}, "is an object"),
        (datetime.timedelta(hours=1), "is a duration"),
        (object(), "is a object"),
    ],
)
@pytest.mark.parametrize("kind", ["number", "integer", "category", "boolean", "time", None])
def test_what_no_column_can_hold_is_told_with_its_name(value: Any, what: str, kind: str | None) -> None:
    values = pandas.Series([None] * 100, dtype=object)
    for place in range(100):
        values[place] = value
    schema = {"schema": {"plan": {"type": kind, "missing": 0.5}, "churned": {"type": "integer"}}} if kind else {}
    text = refused(values, **schema)
    assert "100 of 100 rows break the schema" in text
    assert "column 'plan': " in text
    assert f"{what}; a column holds numbers, text, true and false, or times" in text


def test_durations_of_a_column_of_their_own_type_are_no_numbers() -> None:
    text = refused(pandas.Series(pandas.timedelta_range("1h", periods=100, freq="h")))
    assert "column 'plan': '0 days 01:00:00' is a duration" in text


def test_single_values_of_another_type_are_set_aside_alone() -> None:
    frame: Any = churn(100).astype(object)
    frame.at[7, "plan"] = ["monthly"]
    checked = check(frame, config())
    assert [(one.row, one.column, one.value) for one in checked.rejected] == [(7, "plan", "['monthly']")]
    assert len(checked.frame) == 99


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_times_are_no_numbers_whatever_their_unit(unit: Any, zone: str | None) -> None:
    times = pandas.Series(pandas.date_range("2026-03-08", periods=100, freq="h", tz=zone, unit=unit))
    assert numbers(times).isna().all()
    checked = check(churn(100).assign(seen=times.array), config(schema=None))
    assert checked.types["seen"] == "time"
    begin = pandas.Timestamp("2026-03-08", tz=zone or "UTC").timestamp()
    assert checked.frame["seen"].tolist() == [begin + 3600 * place for place in range(100)]


def test_a_time_that_is_missing_is_no_number_long_ago() -> None:
    times = pandas.Series([pandas.NaT, *pandas.date_range("2026-03-08", periods=99)])
    checked = check(churn(100).assign(seen=times.array), config(schema=None))
    assert [(one.row, one.column, one.reason) for one in checked.rejected] == [(1, "seen", "has no value")]


def test_times_as_a_target_are_refused() -> None:
    with pytest.raises(UserError, match="target: seen holds times; predict a number or a class"):
        check(churn(100).assign(seen=pandas.date_range("2026-03-08", periods=100)), config(schema=None, target="seen"))


def test_an_infinite_time_is_set_aside() -> None:
    found = check(churn(100).assign(seen=[np.inf, *range(99)]), config(split={"by": "time", "time": "seen"}))
    assert [(one.column, one.reason) for one in found.rejected] == [("seen", "is infinite")]


@pytest.mark.slow
@settings(max_examples=50)
@given(
    st.lists(
        st.datetimes(datetime.datetime(1970, 1, 1), datetime.datetime(2200, 1, 1), timezones=ZONES),
        min_size=1, max_size=5,
    )
)  # fmt: skip
def test_a_time_is_the_same_as_an_object_a_column_and_a_text(times: list[datetime.datetime]) -> None:
    expected = [(time - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)).total_seconds() for time in times]
    assert seconds(column(*times)).tolist() == expected
    assert seconds(pandas.to_datetime(column(*times), utc=True)).tolist() == expected
    assert seconds(column(*(time.isoformat() for time in times))).tolist() == expected


@pytest.mark.slow
@settings(max_examples=50)
@given(st.lists(st.dates() | st.datetimes(), min_size=1, max_size=5))
def test_times_without_a_zone_are_in_utc_and_reach_every_year(times: list[datetime.date]) -> None:
    naive = [
        time if isinstance(time, datetime.datetime) else datetime.datetime.combine(time, datetime.time())
        for time in times
    ]
    expected = [(time - datetime.datetime(1970, 1, 1)).total_seconds() for time in naive]
    assert seconds(column(*times)).tolist() == expected
    far = seconds(pandas.Series(np.array(naive, "datetime64[us]"))).tolist()
    assert far == pytest.approx(expected, abs=1e-4), "a double has no more digits"


@given(st.integers(-(2**53), 2**53))
def test_a_whole_number_is_one_text_in_every_type(number: int) -> None:
    assert {
        as_text(value) for value in (number, float(number), np.int64(number), Decimal(number), Decimal(f"{number}.00"))
    } == {str(number)}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("2.50"), "2.5"),
        (2.5, "2.5"),
        (Decimal("1E+3"), "1000"),
        (Decimal("Infinity"), "Infinity"),
        (np.True_, "true"),
        (False, "false"),
        (DAY, "2026-03-08"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ("2.50", "2.50"),
    ],
)
def test_texts(value: Any, text: str) -> None:
    assert as_text(value) == text


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, None, 3], "Int64"),
        ([True, None, False], "boolean"),
        (["a", None, "b"], "string"),
        ([1.5, None, 2.0], "Float64"),
        (["a", None, "b"], "category"),
    ],
)
def test_types_of_pandas_become_plain_values(values: list[Any], dtype: str) -> None:
    found, strange = plain(column(*values, dtype=dtype))
    assert found.dtype == object
    assert found.tolist() == values
    assert strange.isna().all()


def test_decimals_and_truth_values_are_numbers() -> None:
    assert numbers(column(Decimal("1.50"), True, None)).fillna(-1).tolist() == [1.5, 1.0, -1.0]
