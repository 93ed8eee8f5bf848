"""What users of drift detectors complained about, each as a test."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest

from tests.unit.control.monitoring.simulation import COLUMNS, reference, usual
from tidegate.control.monitoring import drift, profiles
from tidegate.control.monitoring.profiles import fold, make_profile, merge
from tidegate.monitor_plan import DriftPlan


@pytest.mark.parametrize("rows", [60, 600, 6000, 60_000])
def test_the_size_of_a_sample_is_no_drift(rows: int) -> None:
    """evidentlyai/evidently#50: the same distribution drifts or not by the number of rows."""
    rng = np.random.default_rng(rows)
    frozen = make_profile({f"c{place}": rng.normal(size=5000) for place in range(COLUMNS)}, sample=0)
    window = fold(frozen, None, {f"c{place}": rng.normal(size=rows) for place in range(COLUMNS)})
    for method in ("auto", "psi", "ks", "js", "wasserstein", "chi2", "linf"):
        assert not drift.is_drifted(drift.check_drift(frozen, window, DriftPlan(method=method)), DriftPlan())


def test_much_data_does_not_make_a_tiny_difference_drift() -> None:
    """evidentlyai/evidently#509: with many rows any p-value is small."""
    rng = np.random.default_rng(1)
    frozen = make_profile({"x": rng.normal(size=100_000)}, sample=0)
    (one,) = drift.check_drift(frozen, fold(frozen, None, {"x": rng.normal(0.05, 1, 100_000)}), DriftPlan(method="ks"))
    assert one.p_value < 1e-9
    assert not one.drifted


def test_a_window_of_a_hundred_thousand_rows_takes_no_time() -> None:
    """evidentlyai/evidently#1526 and #763: reports of 100 000 rows take many seconds."""
    rng = np.random.default_rng(2)
    frozen, rows = reference(), usual(rng, 100_000)
    began = time.process_time()
    drift.check_drift(frozen, fold(frozen, None, rows), DriftPlan())
    assert time.process_time() - began < 3


def test_memory_does_not_grow_with_the_rows() -> None:
    """evidentlyai/evidently#506: the process is killed for memory on large data."""
    frozen = make_profile({"x": np.arange(1000.0)}, sample=0)
    small = fold(frozen, None, {"x": np.arange(100_000.0)})
    rows = np.arange(2_000_000.0)
    tracemalloc.start()
    large = fold(frozen, None, {"x": rows})
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < rows.nbytes / 2
    assert len(profiles.encode(large)) < 2 * len(profiles.encode(small))


def test_windows_need_no_raw_data_of_the_reference() -> None:
    """evidentlyai/evidently#1034: the whole reference has to be there for every check."""
    rng = np.random.default_rng(3)
    text = profiles.encode(make_profile({"x": rng.normal(size=50_000)}))
    assert len(text) < 40_000
    frozen = profiles.decode(text)
    parts = [fold(frozen, None, {"x": rng.normal(1, 1, 100)}) for _ in range(5)]
    window = parts[0]
    for part in parts[1:]:
        window = merge(window, profiles.decode(profiles.encode(part)))
    assert drift.is_drifted(drift.check_drift(frozen, window, DriftPlan()), DriftPlan())


def test_bins_do_not_move_with_the_window() -> None:
    """evidentlyai/evidently#1408: one value far away in the window changes all bins, and with them the statistic."""
    rng = np.random.default_rng(4)
    frozen = make_profile({"x": rng.normal(size=5000)}, sample=0)
    rows = rng.normal(size=1000)
    for method in ("psi", "ks", "js", "chi2", "linf"):
        plan = DriftPlan(method=method)
        (one,) = drift.check_drift(frozen, fold(frozen, None, {"x": rows}), plan)
        (two,) = drift.check_drift(frozen, fold(frozen, None, {"x": [*rows, 1e6]}), plan)
        assert two.statistic == pytest.approx(one.statistic, abs=0.002)
        assert not two.drifted
