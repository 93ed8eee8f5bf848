"""Which columns drifted, by which measure, and how soon what was planted is found."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from tests.unit.control.monitoring.simulation import PLANTED, Table, found, reference
from tidegate.control.monitoring import drift
from tidegate.control.monitoring.profiles import Profile, fold, make_profile
from tidegate.control.monitoring.records import ColumnResult
from tidegate.errors import NotFound
from tidegate.monitor_plan import ColumnDrift, DriftPlan

RNG = np.random.default_rng(11)
FROZEN = make_profile(
    {"x": RNG.normal(size=2000), "kind": RNG.choice(["a", "b", "c"], 2000), "flag": RNG.integers(0, 2, 2000)}, sample=0
)


def window(rows: int, shift: float = 0.0, kinds: tuple[str, ...] = ("a", "b", "c")) -> Profile:
    table = {"x": RNG.normal(shift, 1, rows), "kind": RNG.choice(kinds, rows), "flag": RNG.integers(0, 2, rows)}
    return fold(FROZEN, None, table)


def by_column(one: Profile, plan: DriftPlan | None = None) -> dict[str, ColumnResult]:
    return {result.column: result for result in drift.check_drift(FROZEN, one, plan or DriftPlan())}


def test_what_drifted_is_named_and_the_rest_is_not() -> None:
    results = by_column(window(1000, shift=1.0))
    assert [name for name, one in results.items() if one.drifted] == ["x"]
    assert results["x"].statistic > results["x"].threshold >= results["x"].floor
    assert results["x"].q_value <= 0.01 < results["kind"].q_value
    assert (results["x"].rows, results["x"].reference_rows) == (1000, 2000)


def test_an_effect_below_the_floor_is_no_drift_however_sure_it_is() -> None:
    results = by_column(window(100_000, shift=0.15))
    assert results["x"].q_value < 0.01
    assert not results["x"].drifted


def test_few_rows_take_a_greater_effect() -> None:
    thresholds = [by_column(window(rows), DriftPlan(method="psi"))["x"].threshold for rows in (50, 200, 20_000)]
    assert thresholds[0] > thresholds[1] > thresholds[2] == 0.1


def test_too_few_rows_give_no_verdict_and_say_so() -> None:
    results = drift.check_drift(FROZEN, window(29, shift=5.0), DriftPlan())
    assert not drift.is_drifted(results, DriftPlan())
    assert {one.note for one in results} == {"too few rows: 29 in the window, at least 30 are needed"}


@pytest.mark.parametrize(("rows", "methods"), [(100, ("ks", "chi2", "chi2")), (1000, ("psi", "psi", "psi"))])
def test_auto_chooses_by_kind_and_rows(rows: int, methods: tuple[str, ...]) -> None:
    results = by_column(window(rows))
    assert (results["x"].method, results["kind"].method, results["flag"].method) == methods


def test_many_categories_are_looked_at_one_by_one() -> None:
    names = [f"town {place}" for place in range(60)]
    frozen = make_profile({"town": RNG.choice(names, 6000)}, sample=0)
    (one,) = drift.check_drift(frozen, fold(frozen, None, {"town": RNG.choice(names, 3000)}), DriftPlan())
    assert (one.method, one.drifted) == ("linf", False)
    moved = RNG.choice([*names, *["town 7"] * 20], 3000)
    (one,) = drift.check_drift(frozen, fold(frozen, None, {"town": moved}), DriftPlan())
    assert (one.method, one.drifted) == ("linf", True)


def test_columns_have_measures_and_floors_of_their_own() -> None:
    plan = DriftPlan(
        method="wasserstein", columns={"x": ColumnDrift(method="ks", floor=0.9), "flag": ColumnDrift(method="off")}
    )
    results = by_column(window(1000, shift=1.0), plan)
    assert set(results) == {"x", "kind"}
    assert (results["x"].method, results["x"].floor, results["x"].drifted) == ("ks", 0.9, False)
    assert (results["kind"].method, results["kind"].note) == ("psi", "wasserstein needs numbers")


def test_a_share_of_the_columns_may_drift() -> None:
    results = drift.check_drift(FROZEN, window(1000, shift=1.0), DriftPlan())
    assert drift.is_drifted(results, DriftPlan())
    assert drift.is_drifted(results, DriftPlan(share=0.3))
    assert not drift.is_drifted(results, DriftPlan(share=0.34))
    assert not drift.is_drifted((), DriftPlan())


def test_columns_that_cannot_be_judged_do_not_count_among_the_others() -> None:
    rows = 1000
    kinds: list[Any] = [{}] * 980 + ["a"] * 20
    table: Table = {"x": RNG.normal(1, 1, rows), "kind": kinds, "flag": RNG.integers(0, 2, rows)}
    results = drift.check_drift(FROZEN, fold(FROZEN, None, table), DriftPlan())
    assert [bool(one.note) for one in results] == [False, True, False]
    assert drift.is_drifted(results, DriftPlan(share=0.4))


def test_a_long_tail_of_categories_is_no_drift() -> None:
    """Every window has towns that the reference never had; so would the reference."""
    rng = np.random.default_rng(14)
    towns = rng.zipf(1.3, (21, 3000)).astype(str)
    frozen = make_profile({"town": towns[0]}, sample=0)
    for method in ("psi", "js", "chi2", "linf"):
        plan = DriftPlan(method=method)
        alarms = [drift.check_drift(frozen, fold(frozen, None, {"town": one}), plan)[0].p_value < 0.01 for one in towns]
        assert sum(alarms) <= 2, method


def test_every_result_can_be_kept_as_json() -> None:
    far = fold(FROZEN, None, {"x": [1e308, -1e308, float("inf")] * 20, "kind": [None] * 60, "flag": ["?"] * 60})
    for method in ("auto", "psi", "ks", "js", "wasserstein", "chi2", "linf"):
        results = drift.check_drift(FROZEN, far, DriftPlan(method=method))
        again = msgspec.json.decode(msgspec.json.encode(results), type=tuple[ColumnResult, ...])
        assert again == results, method
        assert results[2].drifted


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("method", ["psi", "ks", "js", "wasserstein", "chi2", "linf"])
def test_the_largest_numbers_there_are_leave_no_hole_in_what_is_kept(method: Any) -> None:
    """One NaN is null as JSON: then nobody can read the report, nor any list that it is in."""
    huge = np.random.default_rng(0).uniform(-1, 1, 500) * 1.7e308
    one = make_profile({"x": huge})
    results = drift.check_drift(one, fold(one, None, {"x": huge}), DriftPlan(method=method))
    assert msgspec.json.decode(msgspec.json.encode(results), type=tuple[ColumnResult, ...]) == results
    bars = drift.histogram(one, fold(one, None, {"x": huge}), "x")
    assert sum(bar.then for bar in bars) == pytest.approx(1.0)


def test_a_histogram_has_all_rows() -> None:
    now = window(500, shift=1.0, kinds=("a", "b", "new"))
    for name in ("x", "kind", "flag"):
        bars = drift.histogram(FROZEN, now, name)
        assert sum(bar.then for bar in bars) == pytest.approx(1)
        assert sum(bar.now for bar in bars) == pytest.approx(1)
    assert {bar.label for bar in drift.histogram(FROZEN, now, "kind")} == {"a", "b", "c", "new"}
    assert [bar.label for bar in drift.histogram(FROZEN, now, "flag")] == ["0", "1"]
    assert {bar.now for bar in drift.histogram(FROZEN, None, "x")} == {0.0}
    with pytest.raises(NotFound, match="no column 'y'"):
        drift.histogram(FROZEN, now, "y")


ROWS_UNTIL_FOUND = {
    "mean + 0.5 σ": 150,
    "mean + 1 σ": 50,
    "scale × 1.5": 200,
    "scale × 2": 200,
    "heavy tail × 2": 500,
    "a category 10 % → 30 %": 100,
    "new category in 5 %": 200,
    "missing in 10 %": 200,
    "a flag 50 % → 70 %": 150,
}
"""As docs/design/monitoring.md has them: rows of a window in which auto finds it nine times of ten, among 20 columns."""


@pytest.mark.slow
def test_what_is_planted_is_found_as_soon_as_the_page_says() -> None:
    rng, frozen = np.random.default_rng(12), reference()
    late = {
        planted: share
        for planted in PLANTED
        if (share := found(rng, frozen, planted, ROWS_UNTIL_FOUND[planted], DriftPlan(), 25)) < 0.75
    }
    assert not late
