"""What the domain classifier tells apart, and how often it sees what is not there."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tidegate.control.monitoring.classifier import MOST_NAMED, domain_auc
from tidegate.errors import UserError


def table(rng: np.random.Generator, rows: int, shift: float = 0.0, turn: float = 0.0) -> dict[str, Any]:
    age = rng.normal(40 + 10 * shift, 10, rows)
    income = turn * (age - 40) + math.sqrt(1 - turn**2) * rng.normal(0, 10, rows)
    return {
        "age": [None if one < 0.05 else value for one, value in zip(rng.random(rows), age.tolist(), strict=True)],
        "income": income,
        "plan": rng.choice(["a", "b", "c"], rows, p=[0.5, 0.3, 0.2]).tolist(),
        "odd": [(1, "x", None, True, 2.5)[place] for place in rng.integers(0, 5, rows)],
    }


@pytest.mark.slow
def test_drift_of_a_column_is_seen_and_named() -> None:
    rng = np.random.default_rng(1)
    found = domain_auc(table(rng, 600), table(rng, 400, shift=0.8), seed=3)
    assert found.auc.low > 0.55
    assert found.p_value < 1e-6
    assert (found.columns[0].column, found.columns[0].kind) == ("age", "number")
    assert (found.reference_rows, found.rows) == (600, 400)
    again = np.random.default_rng(1)
    assert domain_auc(table(again, 600), table(again, 400, shift=0.8), seed=3) == found, (
        "the same seed, the same result"
    )


@pytest.mark.slow
def test_what_32_bits_leave_of_a_number_is_no_drift() -> None:
    rng = np.random.default_rng(6)
    then, now = (rng.integers(150, 301, 800) / 300 for _ in range(2))
    rounded = now * (1 + 3e-6 * rng.random(800))
    found = domain_auc({"score": then}, {"score": rounded})
    assert found.auc.low < 0.5 < found.auc.high
    assert domain_auc({"score": then}, {"score": rounded * 1.05}).auc.low > 0.55


@pytest.mark.slow
def test_drift_that_no_single_column_shows_is_seen() -> None:
    rng = np.random.default_rng(2)
    found = domain_auc(table(rng, 1000), table(rng, 1000, turn=0.95))
    assert found.p_value < 1e-6
    assert {one.column for one in found.columns[:2]} == {"age", "income"}


@pytest.mark.slow
def test_a_new_category_is_seen() -> None:
    rng = np.random.default_rng(3)
    new = table(rng, 500)
    new["plan"] = ["new" if place % 4 == 0 else plan for place, plan in enumerate(new["plan"])]
    found = domain_auc(table(rng, 500), new)
    assert (found.columns[0].column, found.columns[0].kind) == ("plan", "category")


@pytest.mark.slow
def test_without_drift_there_are_no_more_alarms_than_there_should_be() -> None:
    rng = np.random.default_rng(4)
    runs = 20
    p_values = [
        domain_auc({"a": rng.normal(size=120)}, {"a": rng.normal(size=100)}, seed=run).p_value for run in range(runs)
    ]
    alarms = sum(one < 0.1 for one in p_values)
    assert alarms <= runs * 0.1 + 3 * math.sqrt(runs * 0.09), sorted(p_values)
    assert min(p_values) < 0.5 < max(p_values)


@pytest.mark.slow
def test_without_drift_no_column_is_named() -> None:
    rng = np.random.default_rng(5)
    found = domain_auc(table(rng, 300), table(rng, 300))
    assert found.p_value > 0.05
    assert found.columns == ()
    assert found.auc.low < 0.5


@pytest.mark.slow
@pytest.mark.slow
def test_a_column_without_a_value_is_no_reason_to_fail() -> None:
    rng = np.random.default_rng(7)
    reference: dict[str, Any] = {"empty": [None] * 100, "seldom": [1.0, *[math.nan] * 99], "age": rng.normal(size=100)}
    found = domain_auc(reference, reference | {"age": rng.normal(3.0, size=100)})
    assert found.columns[0].column == "age"


@pytest.mark.slow
def test_odd_columns() -> None:
    rng = np.random.default_rng(6)
    rows = 120

    def odd() -> dict[str, Any]:
        return {
            "empty": [None] * rows,
            "same": [1] * rows,
            "huge": [10**400, -(10**400), math.inf, math.nan] * (rows // 4),
            "many": [f"id-{one}" for one in rng.integers(0, 10**9, rows)],
            "lists": [[1, 2]] * rows,
            **{f"n{place}": rng.normal(size=rows) for place in range(230)},
        }

    found = domain_auc(odd(), odd() | {"only here": [1] * rows})
    assert 0 <= found.auc.low <= found.auc.value <= found.auc.high <= 1
    assert len(found.columns) <= MOST_NAMED


@pytest.mark.parametrize(
    ("reference", "rows", "words"),
    [
        ({"a": [1] * 100}, {"b": [1] * 100}, "0 columns"),
        ({"a": [1] * 49}, {"a": [1] * 100}, "49 rows of the reference"),
        ({"a": [1] * 100}, {"a": []}, "0 to compare"),
        ({"a": [1] * 100, "b": [1]}, {"a": [1] * 100, "b": [1] * 100}, "one length"),
    ],
)
def test_what_cannot_be_compared(reference: Any, rows: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        domain_auc(reference, rows)
