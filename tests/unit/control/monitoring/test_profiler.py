"""References in one pass, part by part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tidegate.control.monitoring import drift, profiles
from tidegate.control.monitoring.profiler import Profiler
from tidegate.control.monitoring.profiles import Profile, fold, make_profile
from tidegate.errors import InvalidInput
from tidegate.monitor_plan import DriftPlan


def table(rng: np.random.Generator, rows: int) -> dict[str, Any]:
    ages = rng.normal(40, 10, rows)
    ages[rng.random(rows) < 0.1] = np.nan
    return {"age": ages, "plan": rng.choice(["basic", "plus", "pro"], rows).tolist(), "x": rng.random((rows, 2))}


def profiled(parts: list[dict[str, Any]], **options: Any) -> Profile:
    profiler = Profiler(**options)
    for part in parts:
        profiler.add(part)
    return profiler.profile()


def test_what_fits_into_memory_is_profiled_as_a_whole() -> None:
    rng = np.random.default_rng(1)
    parts = [table(rng, rows) for rows in (1, 50, 300)]
    whole: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    whole["plan"] = whole["plan"].tolist()
    one, two = profiled(parts), make_profile(whole)
    assert profiles.encode(one) == profiles.encode(two)


def test_more_rows_than_are_kept() -> None:
    rng = np.random.default_rng(2)
    parts = [table(rng, 2000) for _ in range(10)]
    parts.sort(key=lambda part: float(np.nanmean(part["age"])))  # files are often in some order
    found = profiled(parts, kept=4000)
    age = found.columns["age"]
    exact = np.concatenate([part["age"] for part in parts])
    assert (found.rows, age.rows, age.missing) == (20_000, 20_000, int(np.isnan(exact).sum()))
    assert age.mean == pytest.approx(np.nanmean(exact), rel=1e-9)
    assert (age.low, age.high) == (np.nanmin(exact), np.nanmax(exact))
    assert age.binned == pytest.approx(4000 * 0.9, rel=0.05)
    assert found.repeats.share == 0
    assert set(found.columns) == {"age", "plan", "x[0]", "x[1]"}
    same = fold(found, None, table(rng, 5000))
    results = drift.check_drift(found, same, DriftPlan())
    assert not drift.is_drifted(results, DriftPlan())
    assert results[0].reference_rows == pytest.approx(4000, rel=0.02)


def test_every_row_is_kept_with_the_same_chance() -> None:
    parts = [{"row": np.arange(start, start + 500.0)} for start in range(0, 10_000, 500)]
    kept = profiled(parts, kept=2000, sample=2000).sample["row"]
    assert len(set(kept)) == 2000
    tenths = np.histogram(kept, bins=10, range=(0, 10_000))[0]
    assert tenths.min() > 140
    assert tenths.max() < 260


def test_parts_of_different_columns_are_refused() -> None:
    profiler = Profiler()
    profiler.add({"a": [1]})
    with pytest.raises(InvalidInput, match="column 'b' is in some parts"):
        profiler.add({"a": [1], "b": [2]})
