from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from churn.generator import FEATURES, LABEL, NUMBERS, make, records, write_csv
from churn.preprocess import clean, main

GOOD = {name: "" if value is None else str(value) for name, value in next(iter(records(make(1, seed=1)))).items()}


def one(**changed: str) -> tuple[list[dict[str, str]], Counter[str]]:
    counts: Counter[str] = Counter()
    return list(clean([GOOD | changed], counts)), counts


def test_what_the_generator_made_stays_as_it_is(tmp_path: Path) -> None:
    table = make(80, seed=2)
    write_csv(table, tmp_path / "raw.csv")
    told = tmp_path / "counts.json"
    done = CliRunner().invoke(main, [str(tmp_path / "raw.csv"), str(tmp_path / "new" / "t.csv"), "--counts", str(told)])
    assert done.exit_code == 0, done.output
    with (tmp_path / "new" / "t.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    for row, made in zip(found, records(table), strict=True):
        assert [row[name] for name in NUMBERS] == [
            "" if made[name] is None else f"{made[name]:.0f}" if made[name].is_integer() else repr(made[name])
            for name in NUMBERS
        ]
        assert row[LABEL] == made[LABEL]
    assert json.loads(told.read_text()) == {"kept": 80, "older rows of a customer": 0, "read": 80}


@pytest.mark.parametrize("outcome", ["yes", " YES ", "1", "true"])
def test_outcomes_and_texts_are_written_in_one_way(outcome: str) -> None:
    (row,), _ = one(churn=outcome, contract=" Two Years ", region="NORTH")
    assert (row[LABEL], row["contract"], row["region"]) == ("yes", "two_years", "north")


def test_a_large_number_keeps_its_digits() -> None:
    (row,), _ = one(total_charge="12345678.0")
    assert row["total_charge"] == "12345678"


@pytest.mark.parametrize(
    ("column", "value"),
    [("age", "7"), ("age", "200"), ("minutes", "-1"), ("minutes", "many"), ("minutes", "inf"), ("satisfaction", "11")],
)
def test_an_impossible_number_is_missing_and_counted(column: str, value: str) -> None:
    (row,), counts = one(**{column: value})
    assert (row[column], counts[f"impossible {column}"]) == ("", 1)


def test_rows_without_outcome_are_left_out() -> None:
    rows, counts = one(churn="perhaps")
    assert (rows, counts["without outcome"]) == ([], 1)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), min_size=1, max_size=12))
def test_of_each_customer_the_newest_row_is_kept(seen: list[tuple[str, int]]) -> None:
    rows = [
        GOOD | {"customer_id": name, "seen_on": f"2026-01-0{day}", "minutes": str(number)}
        for number, (name, day) in enumerate(seen)
    ]
    counts: Counter[str] = Counter()
    found = {row["customer_id"]: int(row["minutes"]) for row in clean(rows, counts)}
    newest = {
        name: max((day, number) for number, (other, day) in enumerate(seen) if other == name)[1] for name, _ in seen
    }
    assert found == newest
    assert counts["kept"] + counts["older rows of a customer"] == len(seen)


def test_the_columns_are_those_that_the_training_reads() -> None:
    (row,), _ = one()
    assert tuple(row) == ("customer_id", *FEATURES, LABEL)
