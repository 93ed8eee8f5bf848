"""A thousand windows in which nothing drifted: each method alarms at most as often as it says, from 50 rows to 100 000.

Beside them two common mistakes, which have to fail the same assertion: the rule of thumb that PSI above 0.1 is drift, and
bins that move with every window.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.control.monitoring.simulation import (
    CATEGORY_METHODS,
    NUMBER_METHODS,
    alarms,
    allowed,
    bare_psi,
    column_with,
    false_alarms,
    moving_bins,
    null_categories,
    null_numbers,
    reference,
)
from tidegate.control.monitoring.records import Method
from tidegate.monitor_plan import DriftPlan

SIZES = (50, 1000, 100_000)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20_261)


@pytest.mark.parametrize("n", SIZES)
def test_numbers(rng: np.random.Generator, n: int) -> None:
    sides = null_numbers(rng, n)
    for method in NUMBER_METHODS:
        if method != "wasserstein":
            assert max(alarms(method, "number", sides)) <= allowed(), method


def test_wasserstein(rng: np.random.Generator) -> None:
    windows = 150
    sides = null_numbers(rng, 50, windows=windows)
    for values in (rng.normal(size=10_000), rng.lognormal(0, 2, 10_000)):
        assert max(alarms("wasserstein", "number", sides, column_with(values))) <= allowed(windows=windows)


@pytest.mark.parametrize("n", SIZES)
def test_categories(rng: np.random.Generator, n: int) -> None:
    for number in (3, 100):
        sides = null_categories(rng, n, number)
        for method in CATEGORY_METHODS:
            assert max(alarms(method, "category", sides)) <= allowed(), (method, number)


def test_the_rule_of_thumb_fails_the_assertion(rng: np.random.Generator) -> None:
    assert bare_psi(null_numbers(rng, 50)) > 10 * allowed()
    assert bare_psi(null_numbers(rng, 200, m=200)) > 10 * allowed()


def test_bins_that_move_with_the_window_fail_the_assertion(rng: np.random.Generator) -> None:
    assert moving_bins(rng, 50, windows=100) > 2 * allowed()


@pytest.mark.slow
@pytest.mark.parametrize("n", SIZES)
def test_wasserstein_with_every_tail(rng: np.random.Generator, n: int) -> None:
    windows = 300
    sides = null_numbers(rng, n, windows=windows)
    for values in (rng.normal(size=10_000), rng.lognormal(0, 2, 10_000), rng.pareto(1.5, 10_000)):
        assert max(alarms("wasserstein", "number", sides, column_with(values))) <= allowed(windows=windows)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["auto", "wasserstein"])
def test_a_check_of_twenty_columns(rng: np.random.Generator, method: Method) -> None:
    """Values, not counts: through profiles and all that is done with them."""
    plan = DriftPlan(method=method, alpha=0.05)
    assert false_alarms(rng, reference(), 60, plan, 100) <= allowed(0.05, 100)
    assert false_alarms(rng, reference(), 500, plan, 100) <= allowed(0.05, 100)
