"""Values that the papers' own software gives, and those of STATISTICS' formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import gammaln

from tidegate.control.analysis import band, bins, combine, means, multinomial, quantile, ratio

NULL = [0.1, 0.4, 0.5]


@pytest.fixture(scope="module")
def savvi() -> np.ndarray:
    """Cumulative counts of savvi's own test."""
    return np.random.RandomState(1).multinomial(1, [0.1, 0.3, 0.6], 1000).cumsum(axis=0)


def test_multinomial_stops_where_savvi_does(savvi: np.ndarray) -> None:
    p = multinomial.running_p(savvi, NULL)
    stop = int(np.argmax(p <= 0.05))
    assert stop + 1 == 402
    assert p[stop] == pytest.approx(0.04845591105969517, rel=1e-10)


def test_multinomial_confidence_set_is_savvis(savvi: np.ndarray) -> None:
    found = np.array([multinomial.intervals(list(counts), NULL, 0.05) for counts in savvi[:402]])
    expected = [[0.05668, 0.14940], [0.26090, 0.40283], [0.49712, 0.65176]]
    running = np.stack((found[:, :, 0].max(axis=0), found[:, :, 1].min(axis=0)), axis=1)
    assert running == pytest.approx(np.array(expected), abs=1e-5)


def test_multinomial_says_nothing_about_an_even_split() -> None:
    assert multinomial.running_p([[100, 101]], [0.5, 0.5])[0] == 1.0


def test_multinomial_without_counts_and_with_shares_that_are_none() -> None:
    assert multinomial.log_e([0, 0], [0.5, 0.5]) == 0.0
    assert multinomial.intervals([0, 0], [0.5, 0.5], 0.05) == [(0.0, 1.0), (0.0, 1.0)]
    with pytest.raises(ValueError, match="positive"):
        multinomial.log_e([1, 2], [0.0, 1.0])


def test_log_marginals_are_those_of_ssrm() -> None:
    """ssrm's prior Dirichlet(1, 1, 1): a uniform null of concentration 3 has the same, its own null cancels."""
    null, uniform = np.array([0.4, 0.4, 0.2]), np.full(3, 1 / 3)
    total, seen, found = 0.0, np.zeros(3), []
    for bucket in np.array([[20, 17, 9], [18, 21, 8], [4, 6, 4], [18, 19, 11]], dtype=float):
        before = multinomial.log_e(seen, uniform, 3.0) + seen @ np.log(uniform)
        seen = seen + bucket
        after = multinomial.log_e(seen, uniform, 3.0) + seen @ np.log(uniform)
        total += float(after - before + gammaln(bucket.sum() + 1) - gammaln(bucket + 1).sum())
        found.append(total)
    assert found == pytest.approx([-7.0282, -11.9478, -15.4714, -19.9648], abs=1e-4)
    assert null.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(("p", "offset", "expected"), [(0.5, 70, 0.814704), (0.5, 85, 0.0838055), (0.9, 55, 0.0340463)])
def test_quantiles_have_the_p_value_of_confseq(p: float, offset: int, expected: float) -> None:
    one, other = list(range(1, 1001)), list(range(1 + offset, 1001 + offset))
    assert quantile.p_value(one, other, p, n_opt=100) == pytest.approx(expected, rel=1e-5)
    assert quantile.p_value(other, one, p, n_opt=100) == pytest.approx(expected, rel=1e-5)


def test_band_is_the_closed_form() -> None:
    for n, alpha in ((1000, 0.05), (30_000, 0.01)):
        expected = 0.85 * math.sqrt((math.log(math.log(math.e * n)) + 0.8 * math.log(1612 / alpha)) / n)
        assert band.radius(n, alpha) == pytest.approx(expected)
    assert band.radius(0, 0.05) == math.inf
    assert band.radius(1, 0.05) > 1


def test_means_are_tuned_as_written() -> None:
    assert means.rho_squared(0.05, 1000) == pytest.approx(0.0079362, abs=1e-7)


@pytest.mark.parametrize("n", [100, 1000, 20_000])
def test_means_have_the_boundary_of_gavi(n: int) -> None:
    g = 1 / means.rho_squared(0.05)
    half = math.sqrt((n + g) / n * math.log((n + g) / (g * 0.05**2)))
    assert means.half_width(1.0, n, 0.05) == pytest.approx(half)
    at_bound = means.Difference(half, 1.0, n)
    assert at_bound.log_e(alpha=0.05) == pytest.approx(math.log(1 / 0.05))


@pytest.mark.parametrize("n", [100, 1000, 20_000])
def test_one_sided_means_have_the_boundary_of_the_paper(n: int) -> None:
    """The closed form is a bound of the exact mixture, and nearly as narrow."""
    rho2 = means.rho_squared(0.1)
    rho = math.sqrt(rho2)
    half = math.sqrt(n) * math.sqrt(
        2 * (n * rho2 + 1) / (n * rho) ** 2 * math.log(1 + math.sqrt(n * rho2 + 1) / (2 * 0.05))
    )
    assert means.half_width_one_sided(1.0, n, 0.05) == pytest.approx(half)
    assert math.log(20) <= means.Difference(half, 1.0, n).log_e_above(alpha=0.05) < math.log(20) + 0.2
    assert half < means.half_width(1.0, n, 0.05)


def test_sample_ratio_is_the_multinomial_test_with_a_concentrated_prior() -> None:
    assert ratio.mismatch([5100, 4900], [0.5, 0.5]) == pytest.approx(
        float(multinomial.log_e([5100, 4900], [0.5, 0.5], 10_000))
    )
    assert ratio.mismatch([3, 100], [0.0, 1.0]) == math.inf
    assert ratio.mismatch([0, 100], [0.0, 1.0]) == 0.0
    assert ratio.mismatch_over_steps({0.01: (990, 10), 1.0: (0, 500)}) == ratio.mismatch([990, 10], [0.99, 0.01])


def test_combining() -> None:
    assert combine.log_mean([math.log(4.0), math.log(2.0)]) == pytest.approx(math.log(3.0))
    assert combine.log_mean([800.0, 0.0]) == pytest.approx(800 - math.log(2))
    assert combine.log_mean([math.log(4.0), math.log(2.0)], [0.25, 0.75]) == pytest.approx(math.log(2.5))
    assert combine.log_mean([]) == 0.0
    assert combine.log_mean([-math.inf, -math.inf]) == -math.inf
    assert combine.bonferroni(0.05, 5) == pytest.approx(0.01)
    assert combine.p_of(-3.0) == 1.0
    assert combine.p_of(math.log(20)) == pytest.approx(0.05)


def test_bins_are_those_of_the_data_plane() -> None:
    from tidegate.metrics import BINS, bin_of, edge

    assert bins.UPPER[:-1] == pytest.approx([edge(index) for index in range(BINS - 1)])
    for value in (1e-6, 1.3e-4, 0.0217, 3.0, 99.0, 500.0):
        index = bin_of(value)
        assert (bins.UPPER[index - 1] if index else 0.0) <= value <= bins.UPPER[index]
