"""Findings: what is broken is broken beyond chance, and named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tidegate.control.monitoring import quality
from tidegate.control.monitoring.profiles import Profile, fold, make_profile
from tidegate.control.monitoring.records import Finding
from tidegate.monitor_plan import QualityPlan

RNG = np.random.default_rng(21)


def table(rows: int, rng: np.random.Generator = RNG) -> dict[str, Any]:
    ages = rng.normal(40, 10, rows)
    ages[rng.random(rows) < 0.02] = np.nan
    return {"age": ages.tolist(), "plan": rng.choice(["basic", "plus", "pro"], rows).tolist()}


REFERENCE = make_profile(table(5000), sample=0)


def broken(window: Profile, plan: QualityPlan | None = None, reference: Profile = REFERENCE) -> dict[str, Finding]:
    found = quality.check_quality(reference, window, plan or QualityPlan())
    return {f"{one.check} {one.column}".strip(): one for one in found if one.broken}


def spoilt(rows: int, column: str, share: float, value: Any) -> Profile:
    found = table(rows)
    found[column] = [value if RNG.random() < share else one for one in found[column]]
    return fold(REFERENCE, None, found)


@pytest.mark.parametrize(
    ("column", "share", "value", "name"),
    [
        ("age", 0.15, None, "missing age"),
        ("plan", 0.15, None, "missing plan"),
        ("plan", 0.05, "gold", "new_categories plan"),
        ("age", 0.05, 900.0, "out_of_range age"),
        ("age", 0.05, float("-inf"), "out_of_range age"),
        ("age", 0.03, "forty", "wrong_type age"),
        ("plan", 0.03, {"name": "basic"}, "wrong_type plan"),
    ],
)
def test_each_check_finds_its_fault_alone(column: str, share: float, value: Any, name: str) -> None:
    found = broken(spoilt(1000, column, share, value))
    assert set(found) == {name}
    one = found[name]
    assert one.value == pytest.approx(one.count / 1000, rel=0.1)
    assert one.value > one.bound


def test_new_categories_have_examples_that_are_short_and_few() -> None:
    names = ["x" * 500, *(f"new {place}" for place in range(50))]
    rows = [*["basic"] * 300, *names * 2]
    found = broken(fold(REFERENCE, None, {"plan": rows, "age": [40.0] * len(rows)}), QualityPlan(max_duplicates=1.0))
    examples = found["new_categories plan"].examples
    assert len(examples) == 5
    assert max(map(len, examples)) <= 64


def test_two_of_twenty_are_chance() -> None:
    rows = table(18)
    window = fold(REFERENCE, None, {"age": [*rows["age"], 900.0, None], "plan": [*rows["plan"], "gold", None]})
    assert broken(window) == {}


def test_windows_without_a_fault_hardly_ever_break_a_bound() -> None:
    rng = np.random.default_rng(22)
    plan = QualityPlan(max_missing=0.0, max_new_categories=0.0, max_out_of_range=0.0)
    alarms = sum(
        bool(broken(fold(REFERENCE, None, table(rows, rng)), plan)) for rows in (50, 200, 1000) for _ in range(60)
    )
    assert alarms <= 8  # of 180, with bounds at 0


def test_repeated_rows() -> None:
    rows = table(100)
    window = fold(REFERENCE, None, {name: values * 10 for name, values in rows.items()})
    found = broken(window)
    assert set(found) == {"duplicates"}
    assert found["duplicates"].value == pytest.approx(0.9, abs=0.01)
    assert "duplicates" not in broken(fold(REFERENCE, None, table(3000)))


def test_columns_that_are_gone_or_new() -> None:
    window = fold(REFERENCE, None, {"age": table(100)["age"], "colour": ["red"] * 100})
    found = broken(window)
    assert set(found) == {"columns"}
    assert found["columns"].examples == ("missing: plan", "new: colour")
    extra = fold(REFERENCE, None, {**table(100), "colour": ["red"] * 100})
    assert broken(extra) == {}
    assert "columns" in {one.check for one in quality.check_quality(REFERENCE, extra, QualityPlan())}


def test_volume() -> None:
    window = fold(REFERENCE, None, table(9))
    assert set(broken(window, QualityPlan(min_rows=10))) == {"volume"}
    assert broken(window, QualityPlan(min_rows=9)) == {}
    assert broken(fold(REFERENCE, None, {}), QualityPlan(min_rows=1)).keys() == {"volume"}


def test_a_long_tail_always_has_new_ones() -> None:
    rng = np.random.default_rng(23)
    frozen = make_profile({"city": rng.zipf(1.3, 3000).astype(str)}, sample=0)
    assert frozen.columns["city"].once > 100
    window = fold(frozen, None, {"city": rng.zipf(1.3, 1000).astype(str)})
    assert window.columns["city"].unseen > 50
    plan = QualityPlan(max_duplicates=1.0)
    assert broken(window, plan, frozen) == {}
    typo = fold(frozen, None, {"city": [f"{value}?" for value in rng.zipf(1.3, 1000)]})
    assert set(broken(typo, plan, frozen)) == {"new_categories city"}


def test_a_small_reference_accuses_nobody() -> None:
    """What is beyond the range of thirty rows, and which categories they have not, is known but roughly."""
    rng = np.random.default_rng(24)

    def some(rows: int) -> dict[str, Any]:
        return {"size": rng.normal(size=rows), "city": rng.zipf(1.5, rows).astype(str)}

    alarms = 0
    for _ in range(60):
        frozen = make_profile(some(30), sample=0)
        alarms += bool(broken(fold(frozen, None, some(500)), QualityPlan(max_duplicates=1.0), frozen))
    assert alarms <= 3
    far = fold(frozen, None, {"size": rng.normal(9, 1, 500), "city": ["1"] * 500})
    assert "out_of_range size" in broken(far, QualityPlan(max_duplicates=1.0), frozen)
