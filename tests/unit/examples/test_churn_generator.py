"""The customers of ``examples/churn``: seeded, plausible, and drifting as they were told to."""

from __future__ import annotations

import csv
import math
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from churn.generator import (
    COLUMNS,
    FEATURES,
    LABEL,
    LEFT,
    MISSING,
    NUMBERS,
    SHIFTED_SHARE,
    SOUGHT_ABOVE,
    TEXTS,
    Drift,
    Table,
    log_odds,
    main,
    make,
    records,
)

ROWS = 4000


@pytest.fixture(scope="module")
def before() -> Table:
    return make(ROWS, seed=1)


def left(table: Table) -> Any:
    return table[LABEL] == LEFT


def same(one: Table, other: Table) -> bool:
    return all(
        np.array_equal(one[name], other[name], equal_nan=name in NUMBERS) if len(one[name]) else True
        for name in COLUMNS
    )


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 200),
    st.integers(0, 2**31),
    st.builds(Drift, st.booleans(), st.booleans(), st.booleans()),
    st.dates(date(2025, 12, 1), date(2026, 3, 1)),
)
def test_any_table_is_whole_and_the_seed_gives_it_again(rows: int, seed: int, drift: Drift, at: date) -> None:
    table = make(rows, seed=seed, days=60, drift=drift, at=at)
    assert tuple(table) == COLUMNS
    assert {len(values) for values in table.values()} == {rows}
    assert all(table[name].dtype == np.float64 for name in NUMBERS)
    assert len(set(table["customer_id"])) == rows
    assert list(table["seen_on"]) == sorted(table["seen_on"])
    assert same(table, make(rows, seed=seed, days=60, drift=drift, at=at))


def test_another_seed_gives_others(before: Table) -> None:
    assert not same(before, make(ROWS, seed=2))


def test_the_population_is_plausible(before: Table) -> None:
    assert 0.18 < left(before).mean() < 0.28
    assert (np.nanmin(before["age"]) >= 18) & (np.nanmax(before["age"]) <= 92)
    assert 40 < np.nanmean(before["age"]) < 52
    assert 55 < before["monthly_charge"].mean() < 75
    for name in TEXTS:
        shares = np.unique(before[name], return_counts=True)[1] / ROWS
        assert 2 <= len(shares) <= 5, name
        assert shares.min() > 0.01, name


def test_values_are_missing_where_it_is_said(before: Table) -> None:
    for name, share in MISSING.items():
        assert np.isnan(before[name]).mean() == pytest.approx(share, abs=4 * math.sqrt(share / ROWS)), name
    assert np.array_equal(np.isnan(before["total_charge"]), before["tenure_months"] == 0)
    assert np.array_equal(np.isnan(before["data_gb"]), before["internet"] == "none")
    rest = set(NUMBERS) - set(MISSING) - {"total_charge", "data_gb"}
    assert not any(np.isnan(before[name]).any() for name in rest)


def test_features_depend_on_each_other(before: Table) -> None:
    fibre = before["internet"] == "fibre"
    assert before["monthly_charge"][fibre].mean() > before["monthly_charge"][~fibre].mean() + 15
    assert np.nanmean(before["age"][fibre]) < np.nanmean(before["age"][before["internet"] == "none"]) - 5
    calls, mood = before["support_calls"], before["satisfaction"]
    told = ~np.isnan(mood)
    assert np.corrcoef(calls[told], mood[told])[0, 1] < -0.3
    assert before["tenure_months"][before["contract"] == "two_years"].mean() > 25


def test_who_leaves_follows_the_written_model() -> None:
    """In each tenth of the predicted chance about as many leave as the logistic model says."""
    table = dict(make(20_000, seed=3))
    known = ~np.isnan(table["satisfaction"])
    table = {name: values[known] for name, values in table.items()}
    chance = 1 / (1 + np.exp(-log_odds(table)))
    for part in np.array_split(np.argsort(chance), 10):
        assert left(table)[part].mean() == pytest.approx(chance[part].mean(), abs=0.03)


def test_covariate_drift_changes_customers_and_not_why_they_leave(before: Table) -> None:
    after = dict(make(20_000, seed=4, drift=Drift(covariate=True)))
    assert np.nanmean(after["age"]) < np.nanmean(before["age"]) - 5
    assert after["monthly_charge"].mean() > before["monthly_charge"].mean() * 1.2
    known = ~np.isnan(after["satisfaction"])
    after = {name: values[known] for name, values in after.items()}
    chance = 1 / (1 + np.exp(-log_odds(after)))
    assert left(after).mean() == pytest.approx(chance.mean(), abs=0.02)


def test_label_shift_changes_how_many_leave_and_not_who_they_are(before: Table) -> None:
    after = make(ROWS, seed=5, drift=Drift(label=True))
    assert left(after).mean() == pytest.approx(SHIFTED_SHARE, abs=0.001)
    for group in (True, False):
        old, new = before["monthly_charge"][left(before) == group], after["monthly_charge"][left(after) == group]
        assert new.mean() == pytest.approx(old.mean(), abs=5 * old.std() / math.sqrt(min(len(old), len(new))))


def test_concept_drift_changes_why_they_leave_and_not_who_they_are(before: Table) -> None:
    after = make(ROWS, seed=1, drift=Drift(concept=True))
    assert all(np.array_equal(before[name], after[name], equal_nan=name in NUMBERS) for name in FEATURES)
    known = ~np.isnan(after["satisfaction"])
    table = {name: values[known] for name, values in after.items()}
    later = 1 / (1 + np.exp(-log_odds(table, later=True)))
    assert left(table).mean() == pytest.approx(later.mean(), abs=0.03)
    bound = (before["contract"] == "two_years") & (before["monthly_charge"] > SOUGHT_ABOVE)
    assert left(after)[bound].mean() > 0.5 > 0.2 > left(before)[bound].mean()
    spared = before["monthly_charge"] <= SOUGHT_ABOVE
    assert np.array_equal(left(after)[spared], left(before)[spared]), "whoever pays little decides as before"


def test_the_drift_begins_on_its_day() -> None:
    table = make(6000, seed=6, first=date(2026, 1, 1), days=60, drift=Drift(covariate=True), at=date(2026, 2, 1))
    late = table["seen_on"] >= "2026-02-01"
    assert 0.4 < late.mean() < 0.55
    assert table["monthly_charge"][late].mean() > table["monthly_charge"][~late].mean() * 1.2


def test_the_command_writes_what_make_gives(tmp_path: Path) -> None:
    file = tmp_path / "data" / "customers.csv"
    arguments = ["--rows", "50", "--seed", "7", "--from", "2026-05-01", "--concept-drift", "--at", "2026-06-01"]
    done = CliRunner().invoke(main, [*arguments, "--output", str(file)])
    assert done.exit_code == 0, done.output
    assert "50 customers" in done.output
    with file.open(encoding="utf-8", newline="") as lines:
        written = list(csv.DictReader(lines))
    made = make(50, seed=7, first=date(2026, 5, 1), drift=Drift(concept=True), at=date(2026, 6, 1))
    expected = [{name: "" if value is None else str(value) for name, value in row.items()} for row in records(made)]
    assert written == expected
