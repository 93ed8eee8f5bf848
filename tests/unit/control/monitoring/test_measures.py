"""Measures against published values, and what each keeps to whatever the counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tidegate.control.monitoring import drift, measures
from tidegate.control.monitoring.drift import Sides
from tidegate.control.monitoring.profiles import fold, make_profile
from tidegate.control.monitoring.records import Method
from tidegate.monitor_plan import DriftPlan

few = settings(max_examples=25, deadline=None)
THEN, NOW = [16, 18, 16, 14, 12, 12], [16, 16, 16, 16, 16, 8]
counts = some.lists(some.tuples(some.integers(0, 500), some.integers(0, 500)), min_size=2, max_size=30).filter(
    lambda pairs: sum(a for a, _ in pairs) > 0 and sum(b for _, b in pairs) > 0
)


def test_psi_of_published_counts() -> None:
    assert float(measures.psi(NOW, THEN, plus=0)) == pytest.approx(0.037218, abs=5e-7)


def test_jensen_shannon_of_published_counts() -> None:
    assert float(measures.js(NOW, THEN, plus=0)) == pytest.approx(0.081734, abs=5e-7)


def test_chi_square_of_published_counts() -> None:
    """The published p-value takes the reference for exact: as many rows as make its own chance vanish."""
    exact = np.array(THEN) * 10**9
    statistic = measures.chi2(NOW, exact)
    p = measures.chi_square_p("chi2", statistic, measures.inverse_rows(NOW, exact), measures.freedom(NOW, exact))
    assert float(p) == pytest.approx(0.67309, abs=5e-6)


def test_chi_square_is_that_of_scipy() -> None:
    from scipy.stats import chi2_contingency

    p = measures.chi_square_p(
        "chi2", measures.chi2(NOW, THEN), measures.inverse_rows(NOW, THEN), measures.freedom(NOW, THEN)
    )
    assert float(p) == pytest.approx(chi2_contingency([NOW, THEN], correction=False).pvalue, rel=1e-9)


def test_kolmogorov_smirnov_is_nearly_that_of_scipy() -> None:
    from scipy.stats import ks_2samp

    rng = np.random.default_rng(5)
    then, now = rng.normal(size=5000), rng.normal(0.1, 1, 2000)
    reference = make_profile({"x": then}, sample=0)
    (one,) = drift.check_drift(reference, fold(reference, None, {"x": now}), DriftPlan(method="ks"))
    exact = ks_2samp(then, now)
    assert one.statistic == pytest.approx(exact.statistic, abs=0.01)
    assert one.statistic <= exact.statistic + 1e-12
    assert one.p_value >= exact.pvalue * 0.8


@pytest.mark.parametrize(("shift", "expected"), [(0.0, 0.03), (1.0, 1.01)])
def test_wasserstein_over_sigma(shift: float, expected: float) -> None:
    rng = np.random.default_rng(6)
    reference = make_profile({"x": rng.normal(size=10_000)}, sample=0)
    window = fold(reference, None, {"x": rng.normal(shift, 1, 1000)})
    (one,) = drift.check_drift(reference, window, DriftPlan(method="wasserstein"))
    assert one.statistic == pytest.approx(expected, abs=0.05)
    assert one.drifted == (shift > 0)


@pytest.mark.parametrize(("alpha", "quantile"), [(0.05, 0.5821), (0.01, 0.7518)])
def test_the_chance_of_wasserstein_is_that_of_a_bridge(alpha: float, quantile: float) -> None:
    """Quantiles of the integral of the absolute Brownian bridge: Johnson and Killeen, 1983."""
    counts = np.full(200, 10**6)
    null = measures.wasserstein_null(counts, counts, np.linspace(0, 1, 200), 1.0)
    scaled = float(measures.wasserstein_critical(null, alpha)) / math.sqrt(float(measures.inverse_rows(counts, counts)))
    assert quantile <= scaled <= 1.07 * quantile


def test_wasserstein_sees_how_far_values_went_beyond_all_bins() -> None:
    rng = np.random.default_rng(6)
    reference = make_profile({"x": rng.normal(size=10_000)}, sample=0)
    window = fold(reference, None, {"x": rng.normal(50, 1, 1000)})
    (one,) = drift.check_drift(reference, window, DriftPlan(method="wasserstein"))
    assert one.statistic == pytest.approx(50, rel=0.02)


def test_jensen_shannon_of_two_samples_of_one_distribution() -> None:
    rng = np.random.default_rng(7)
    reference = make_profile({"x": rng.normal(size=10_000)}, sample=0)
    window = fold(reference, None, {"x": rng.normal(size=1000)})
    (one,) = drift.check_drift(reference, window, DriftPlan(method="js"))
    assert one.statistic == pytest.approx(0.05, abs=0.02)
    assert not one.drifted


@few
@given(counts)
def test_equal_shares_are_no_distance_and_distance_has_no_direction(pairs: list[tuple[int, int]]) -> None:
    now, then = (np.array(side) for side in zip(*pairs, strict=True))
    for measure in (measures.js, measures.chi2, measures.linf, measures.ks):
        assert float(measure(now, now)) == 0
        assert float(measure(now, then)) >= 0
    for either in (measures.psi, measures.js, measures.linf, measures.ks):
        assert float(either(now, then)) == pytest.approx(float(either(then, now)), abs=1e-12)
    assert float(measures.js(now, then)) <= 1 + 1e-12


@few
@given(counts, some.sampled_from(("psi", "js", "chi2", "linf")), some.sampled_from((0.05, 0.01, 0.001)))
def test_the_critical_value_is_where_the_p_value_is_alpha(
    pairs: list[tuple[int, int]], method: Method, alpha: float
) -> None:
    now, then = (np.array([*side, 0, 0, 0], np.float64) for side in zip(*pairs, strict=True))
    found = drift.measured(method, "category", Sides(now, then))
    critical = found.critical(alpha)
    if float(found.statistic) > critical * (1 + 1e-6):
        assert float(found.p_value) <= alpha * (1 + 1e-6)
    elif float(found.statistic) < critical * (1 - 1e-6):
        assert float(found.p_value) >= alpha * (1 - 1e-6)


def test_benjamini_and_hochberg_is_that_of_scipy() -> None:
    from scipy.stats import false_discovery_control

    p = np.random.default_rng(8).random(50) ** 3
    assert measures.benjamini_hochberg(p) == pytest.approx(false_discovery_control(p))
    assert len(measures.benjamini_hochberg([])) == 0
