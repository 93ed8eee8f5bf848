"""2 000 runs in which nothing is wrong, looked at after every window: each test alarms at most as often as it says.

The repeated z-test stands beside them: it has to fail the same assertion, or the assertion shows nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from tests.unit.control.analysis.simulation import ALPHA, RUNS, Floats, alarms, holds
from tidegate.control.analysis import band, binomial, means, multinomial, quantile, ramp, ratio
from tidegate.control.analysis.distance import Arm, distance

pytestmark = pytest.mark.slow

WINDOWS = 60


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20_260)


def naive_z(counts: Floats, share: float) -> Floats:
    """The broken variant: a test for one look, at every look. "log E" is the logarithm of 1/p."""
    from scipy.special import ndtr

    n = counts.sum(axis=-1)
    z = (counts[..., 1] - n * share) / np.sqrt(np.maximum(n, 1) * share * (1 - share))
    return np.asarray(-np.log(2 * ndtr(-np.abs(z))))


def failures_by_arm(rng: np.random.Generator, share: float, per_window: float = 10.0) -> Floats:
    """Cumulative failures (runs, windows, 2) of arms that fail equally often."""
    totals = rng.poisson(per_window, (RUNS, WINDOWS))
    candidate = rng.binomial(totals, share)
    return np.stack((totals - candidate, candidate), axis=-1).cumsum(axis=1).astype(np.float64)


def test_a_repeated_z_test_fails_the_assertion(rng: np.random.Generator) -> None:
    share = alarms(naive_z(failures_by_arm(rng, 0.5), 0.5))
    assert not holds(share)
    assert share > 4 * ALPHA


@pytest.mark.parametrize(("share", "concentration"), [(0.5, 10.0), (0.1, 100.0), (0.05, 100.0)])
def test_multinomial(rng: np.random.Generator, share: float, concentration: float) -> None:
    counts = failures_by_arm(rng, share)
    assert holds(alarms(multinomial.log_e(counts, [1 - share, share], concentration)))


def test_sample_ratio(rng: np.random.Generator) -> None:
    counts = failures_by_arm(rng, 0.05, 2000.0)
    assert holds(alarms(multinomial.log_e(counts, [0.95, 0.05], ratio.CONCENTRATION)))
    assert not holds(alarms(naive_z(counts, 0.05)))


def ramped(rng: np.random.Generator, times: float) -> tuple[Floats, Floats]:
    """Failures (runs, windows, shares, 2) while the share goes through four steps; the candidate's rate is ``times``."""
    shares = np.array([0.01, 0.05, 0.25, 0.5])
    failures = np.zeros((RUNS, WINDOWS, 4, 2))
    for window in range(WINDOWS):
        step = window * 4 // WINDOWS
        theta = shares[step] * times / (shares[step] * times + 1 - shares[step])
        totals = rng.poisson(15.0, RUNS)
        candidate = rng.binomial(totals, theta)
        failures[:, window, step] = np.stack((totals - candidate, candidate), axis=-1)
    return shares, failures.cumsum(axis=1)


@pytest.mark.parametrize("times", [1.0, 0.8])
def test_ramp_rolls_back(rng: np.random.Generator, times: float) -> None:
    shares, failures = ramped(rng, times)
    assert holds(alarms(ramp.log_e_of(shares, failures, 0.0, ramp.ROLL_BACK)))
    pooled = failures.sum(axis=2)
    assert alarms(naive_z(pooled, 0.2)) > 0.9, "at the mean share of the steps, the ramp itself is an alarm"


@pytest.mark.parametrize("times", [1.5, 2.0])
def test_ramp_promotes(rng: np.random.Generator, times: float) -> None:
    shares, failures = ramped(rng, times)
    null = math.log(1.5)
    grid = [point for point in ramp.PROMOTE if point < null - 1e-9]
    assert holds(alarms(ramp.log_e_of(shares, failures, null, grid)))


@pytest.mark.parametrize("rate", [0.01, 0.013])
def test_failure_rate(rng: np.random.Generator, rate: float) -> None:
    failures = rng.binomial(100, rate, (RUNS, WINDOWS)).cumsum(axis=1)
    assert holds(alarms(binomial.log_e(failures, 100 * np.arange(1, WINDOWS + 1), 0.01)))


def cumulative(rng: np.random.Generator, per_look: int, shares: list[float]) -> Floats:
    """Counts up to each edge (runs, looks, bins)."""
    return rng.multinomial(per_look, shares, (RUNS, 30)).cumsum(axis=1).cumsum(axis=2).astype(np.float64)


def before(counts: Floats) -> Floats:
    """Counts up to the edge before."""
    return np.concatenate((np.zeros_like(counts[..., :1]), counts[..., :-1]), axis=-1)


@pytest.mark.parametrize("p", [0.5, 0.9, 0.99])
def test_quantiles_in_bins(rng: np.random.Generator, p: float) -> None:
    """Both arms have the same continuous distribution, whose quantile lies within a bin."""
    shares = [1 / 21] * 21 if p < 0.99 else [0.93 / 10] * 10 + [0.07 / 11] * 11
    base, cand = cumulative(rng, 200, shares), cumulative(rng, 50, shares)
    assert holds(alarms(paths(p, cand, before(base))))


def test_counts_at_the_same_edge_take_the_width_of_a_bin_for_a_difference(rng: np.random.Generator) -> None:
    """The broken variant of the test above, with wide bins."""
    base, cand = cumulative(rng, 200, [0.2] * 5), cumulative(rng, 50, [0.2] * 5)
    assert holds(alarms(paths(0.5, cand, before(base))))
    assert not holds(alarms(paths(0.5, cand[..., :-1], base[..., :-1])))


def paths(p: float, candidate: Floats, baseline: Floats) -> Floats:
    """log E (runs, looks) of counts (runs, looks, bins) that grow by 50 and 200 a look."""
    looks = range(1, candidate.shape[1] + 1)
    cand, base = quantile.Prior.of(p), quantile.Prior.of(p, 4000)
    logs = [
        quantile.least((cand, candidate[:, look - 1], 50.0 * look), (base, baseline[:, look - 1], 200.0 * look))
        for look in looks
    ]
    return np.stack(logs, axis=1)


def streams(rng: np.random.Generator, draw: Callable[[tuple[int, ...]], Floats], windows: int) -> tuple[Floats, Floats]:
    """Difference of means and its standard error (runs, windows), 100 rows per arm and window."""
    sums = np.zeros((2, 2, RUNS, windows))
    for arm in range(2):
        rows = draw((RUNS, windows, 100))
        sums[arm, 0], sums[arm, 1] = rows.sum(axis=-1).cumsum(axis=1), (rows**2).sum(axis=-1).cumsum(axis=1)
    n = 100.0 * np.arange(1, windows + 1)
    mean = sums[:, 0] / n
    variance = (sums[:, 1] / n - mean**2) * n / (n - 1)
    return mean[1] - mean[0], np.sqrt(variance.sum(axis=0) / n)


def test_means(rng: np.random.Generator) -> None:
    effect, error = streams(rng, lambda shape: rng.standard_exponential(shape), 25)
    sizes = [200 * window for window in range(1, 26)]
    half = np.array([means.half_width(1.0, n) for n in sizes])
    assert holds(float((np.abs(effect) >= half * error).any(axis=1).mean()))
    half = np.array([means.half_width_one_sided(1.0, n) for n in sizes])
    assert holds(float((effect >= half * error).any(axis=1).mean()))
    scores = np.array([boundary(n) for n in sizes])
    share = float((effect >= scores * error).any(axis=1).mean())
    assert holds(share)
    assert share > 0.003, "the boundary is so wide that it could not see anything"
    assert not holds(float((np.abs(effect) >= 1.96 * error).any(axis=1).mean()))


def boundary(n: int) -> float:
    """The score at which the one-sided e-value reaches 1/alpha."""
    low, high = 0.0, 10.0
    for _ in range(40):
        middle = 0.5 * (low + high)
        reached = means.Difference(middle, 1.0, n).log_e_above(alpha=ALPHA) >= -math.log(ALPHA)
        low, high = (low, middle) if reached else (middle, high)
    return high


EVEN = [1 / 16] * 16


@pytest.mark.parametrize(
    ("wanted", "limit", "base", "cand"),
    [
        ("above", 0.2, [0.5, 0.3, 0.2], [0.3, 0.4, 0.3]),
        ("within", 0.2, [0.5, 0.3, 0.2], [0.3, 0.4, 0.3]),
        ("within", 0.2, [0.5, 0.3, 0.2], [0.1, 0.4, 0.5]),
        ("above", 0.0, EVEN, EVEN),
    ],
)
def test_distance(rng: np.random.Generator, wanted: str, limit: float, base: list[float], cand: list[float]) -> None:
    """What is not so is not shown, least of all among many kinds, where some set of them always differs."""
    looks, runs = 10, RUNS // 4
    rows = [
        rng.multinomial(number, shares, (runs, looks)).cumsum(axis=1) for number, shares in ((400, base), (100, cand))
    ]
    logs = np.zeros((runs, looks))
    for run, look in np.ndindex(runs, looks):
        found = distance(Arm(kinds(rows[0][run, look])), Arm(kinds(rows[1][run, look])))
        logs[run, look] = found.above(limit) if wanted == "above" else found.within(limit)
    assert holds(alarms(logs), runs=runs)


def kinds(counts: Floats) -> dict[str, int]:
    return {str(kind): int(count) for kind, count in enumerate(counts)}


def test_band(rng: np.random.Generator) -> None:
    """The whole empirical distribution of uniform values stays within the band, at every look."""
    edges, runs, looks = np.arange(1, 41) / 40, 500, 50
    counts = rng.multinomial(40, np.full(40, 1 / 40), (runs, looks)).cumsum(axis=2).cumsum(axis=1)
    n = 40.0 * np.arange(1, looks + 1)
    gaps = np.abs(counts / n[None, :, None] - edges).max(axis=2)
    radii = np.array([band.radius(int(size), ALPHA) for size in n])
    assert holds(float((gaps > radii).any(axis=1).mean()), runs=runs)
