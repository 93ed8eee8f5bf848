from __future__ import annotations

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.control.training.tables import churn, config
from tidegate.control.training.sources import lines_of
from tidegate.control.training.split import split
from tidegate.errors import UserError

FEATURES = ("age", "charges", "plan")


def lines(frame: pandas.DataFrame) -> set[tuple[object, ...]]:
    return set(frame[list(FEATURES)].itertuples(index=False, name=None))


@pytest.mark.slow
@settings(max_examples=15)
@given(st.integers(0, 1000), st.integers(60, 200))
def test_no_row_is_on_both_sides(seed: int, rows: int) -> None:
    frame = pandas.concat([churn(rows), churn(rows // 2)], ignore_index=True)  # half of them twice
    halves = split(frame, FEATURES, config(seed=seed, gate={"min_rows": 1}, cross_validation={"folds": 2}))
    assert not lines(halves.train) & lines(halves.test)
    assert len(halves.train) + len(halves.test) == len(frame)


def test_a_row_stays_on_its_side_when_the_table_grows_or_is_in_another_order() -> None:
    small, large = churn(200), pandas.concat([churn(300, seed=1), churn(200)], ignore_index=True)
    before = split(small, FEATURES, config())
    after = split(large.sample(frac=1, random_state=3), FEATURES, config())
    assert lines(before.test) <= lines(after.test)
    assert lines(before.train) <= lines(after.train)


def test_one_cell_with_a_line_break_moves_no_other_row() -> None:
    """Nor does it hide a row from the search for its like."""
    frame = churn(200)
    odd = frame.iloc[:2].assign(plan=["year\nly", "month,\nly"])
    before, after = split(frame, FEATURES, config()), split(pandas.concat([frame, odd]), FEATURES, config())
    assert lines(before.test) <= lines(after.test)
    assert lines(before.train) <= lines(after.train)
    assert len(set(lines_of(pandas.concat([frame, odd])))) == len(set(lines_of(frame))) + 2


def test_the_same_rows_in_any_order_give_the_same_table() -> None:
    frame = churn(100)
    plan = config(gate={"min_rows": 5})
    one, two = (split(table, FEATURES, plan).train for table in (frame, frame[::-1]))
    assert one[list(FEATURES)].to_numpy().tolist() == two[list(FEATURES)].to_numpy().tolist()


def test_the_share_is_about_what_was_asked_for() -> None:
    halves = split(churn(5000), FEATURES, config(split={"test": 0.3}))
    assert abs(len(halves.test) / 5000 - 0.3) < 0.03


def test_a_unit_is_on_one_side() -> None:
    frame = churn(400).assign(customer=[str(number % 60) for number in range(400)])
    halves = split(frame, FEATURES, config(split={"unit": "customer"}))
    assert not set(halves.train["customer"]) & set(halves.test["customer"])


def test_by_time_the_newest_are_held_out_and_their_units_not_trained_on() -> None:
    frame = churn(400).assign(when=np.arange(400.0), customer=[str(number % 300) for number in range(400)])
    halves = split(frame, FEATURES, config(split={"by": "time", "time": "when", "unit": "customer"}))
    assert halves.train["when"].max() < halves.since == halves.test["when"].min() == 320
    assert not set(halves.train["customer"]) & set(halves.test["customer"])
    assert halves.excluded == 80
    assert len(halves.train) == 240


@pytest.mark.parametrize(
    ("rows", "changes", "said"),
    [
        (20, {}, "gate.min_rows asks for 30"),
        (50, {"gate": {"min_rows": 5}, "cross_validation": {"folds": 20}}, "cross_validation.folds is 20"),
    ],
)
def test_too_few_rows_say_what_to_change(rows: int, changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        split(churn(rows), FEATURES, config(**changes))
