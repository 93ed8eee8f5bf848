from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow  # type: ignore[import-untyped]
import pytest
from pyarrow import parquet

from tests.unit.control.training.tables import churn, config
from tidegate.control.training.config import Data
from tidegate.control.training.rows import check
from tidegate.control.training.sources import read
from tidegate.errors import UserError

pytestmark = pytest.mark.slow

FILE = Data(parquet="churn.parquet")


def test_columns_that_pandas_kept_as_an_index_are_columns(tmp_path: Path) -> None:
    churn(50).set_index(["plan", "age"]).to_parquet(tmp_path / FILE.parquet)
    frame, origin = read(FILE, tmp_path)
    assert set(frame.columns) == {"age", "charges", "churned", "plan"}
    assert (list(frame.index[:2]), origin.place) == ([1, 2], "churn.parquet")
    churn(50).sample(frac=1, random_state=1).to_parquet(tmp_path / FILE.parquet)
    assert set(read(FILE, tmp_path)[0].columns) == {"age", "charges", "churned", "plan"}, (
        "an index without a name is none"
    )


@pytest.mark.parametrize(
    ("values", "kind", "typed"),
    [
        (pyarrow.array([Decimal("2.00"), Decimal("2.50"), None], pyarrow.decimal128(8, 2)), "number", [2.0, 2.5, None]),
        (pyarrow.array([Decimal("2.00"), Decimal("2.50"), None], pyarrow.decimal128(8, 2)), "category", ["2", "2.5", None]),
        (pyarrow.array([1, 2, None], pyarrow.uint8()), "integer", [1.0, 2.0, None]),
        (pyarrow.array([1, 2, None], pyarrow.uint8()), "category", ["1", "2", None]),
        (pyarrow.array([True, False, None]), "boolean", [1.0, 0.0, None]),
        (pyarrow.array([True, False, None]), "category", ["true", "false", None]),
        (pyarrow.array(["1", "b", None]).dictionary_encode(), "category", ["1", "b", None]),
        (pyarrow.array(["1", "2", None], pyarrow.large_string()), "number", [1.0, 2.0, None]),
    ],
)  # fmt: skip
def test_types_of_parquet(tmp_path: Path, values: Any, kind: str, typed: list[Any]) -> None:
    whole = pyarrow.table({"value": pyarrow.chunked_array([values] * 20), "churned": [0, 1] * 30})
    parquet.write_table(whole, tmp_path / FILE.parquet)
    schema = {"value": {"type": kind, "missing": 0.5}, "churned": {"type": "integer"}}
    found = check(read(FILE, tmp_path)[0], config(schema=schema)).frame["value"]
    assert [None if value != value else value for value in found] == typed * 20


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (pyarrow.array([b"\xff\x00"]), "is bytes"),
        (pyarrow.array([[1, 2]]), "is a list"),
        (pyarrow.array([{"a": 1}]), "is an object"),
        (pyarrow.array([[("a", 1)]], pyarrow.map_(pyarrow.string(), pyarrow.int64())), "is a list"),
        (pyarrow.array([datetime.timedelta(hours=1)]), "is a duration"),
    ],
)
def test_types_of_parquet_that_no_column_can_hold(tmp_path: Path, kind: Any, what: str) -> None:
    whole = pyarrow.table({"value": pyarrow.chunked_array([kind] * 50), "age": range(50), "churned": [0, 1] * 25})
    parquet.write_table(whole, tmp_path / FILE.parquet)
    frame, _ = read(FILE, tmp_path)
    with pytest.raises(UserError, match=rf"column 'value': .* {what}; a column"):
        check(frame, config(schema=None))
    assert check(frame, config(schema=None, features={"drop": ["value"]})).features == ("age",)


def test_times_of_parquet_in_any_unit_zone_and_year(tmp_path: Path) -> None:
    day = datetime.datetime(2026, 11, 1)
    columns = {
        unit: pyarrow.array([day] * 60, pyarrow.timestamp(unit, zone))
        for unit, zone in (("s", None), ("ms", "UTC"), ("us", "America/New_York"), ("ns", "Asia/Kolkata"))
    }
    far = pyarrow.array([datetime.datetime(9999, 12, 31)] * 60, pyarrow.timestamp("us"))
    whole = pyarrow.table({**columns, "day": [day.date()] * 60, "far": far, "churned": [0, 1] * 30})
    parquet.write_table(whole, tmp_path / FILE.parquet)
    checked = check(read(FILE, tmp_path)[0], config(schema=None))
    found = checked.frame.drop(columns="churned").drop_duplicates().to_dict("records")
    seconds = day.replace(tzinfo=datetime.UTC).timestamp()
    assert found == [dict.fromkeys([*columns, "day"], seconds) | {"far": 253402214400.0}]


@pytest.mark.parametrize("content", [b"", b"age,charges\n1,2\n", b"PAR1" + b"\x00" * 40 + b"PAR1"])
def test_a_file_that_is_no_parquet_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE.parquet).write_bytes(content)
    with pytest.raises(UserError, match=r"data: churn\.parquet cannot be read as parquet: "):
        read(FILE, tmp_path)
