"""What every test keeps to, whatever the counts."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as some

from tidegate.control.analysis import binomial, multinomial, quantile, ramp, ratio
from tidegate.control.analysis.bins import UPPER, shift_of
from tidegate.control.analysis.distance import Arm, distance
from tidegate.control.analysis.means import Difference, Moments, Pairs, difference, paired
from tidegate.control.analysis.quantile import Comparison, Prior
from tidegate.metrics import BINS, bin_of, edge

few = settings(max_examples=40, deadline=None)
shares = some.sampled_from([0.01, 0.05, 0.25, 0.5, 1.0])
windows = some.lists(some.tuples(shares, some.integers(0, 20), some.integers(0, 20)), max_size=30)
counts = some.dictionaries(some.integers(0, BINS - 1), some.integers(1, 50), min_size=1, max_size=20)
kinds = some.dictionaries(some.sampled_from("abcdef"), some.integers(1, 300), min_size=1)


@few
@given(windows, some.randoms(use_true_random=False))
def test_windows_fold_in_any_order_to_the_same_bits(found: list[tuple[float, int, int]], random: object) -> None:
    def folded(order: list[tuple[float, int, int]]) -> dict[float, tuple[int, int]]:
        total: dict[float, tuple[int, int]] = {}
        for share, base, cand in order:
            total = ramp.fold(total, share, base, cand)
        return total

    other = list(found)
    random.shuffle(other)  # type: ignore[attr-defined]
    one, two = folded(found), folded(other)
    assert ramp.worse(one) == ramp.worse(two)
    assert ramp.good_enough(one, 1.5) == ramp.good_enough(two, 1.5)
    assert ramp.ratio(one) == ramp.ratio(two)
    assert ramp.interval(one, 0.05) == ramp.interval(two, 0.05)


@few
@given(windows)
def test_the_ramp_is_the_product_of_its_failures(found: list[tuple[float, int, int]]) -> None:
    """One failure after the other, as the formula has it."""
    logs = np.zeros(len(ramp.ROLL_BACK))
    total: dict[float, tuple[int, int]] = {}
    for share, base, cand in found:
        total = ramp.fold(total, share, base, cand)
        if share < 1:
            theta = share * np.exp(ramp.ROLL_BACK) / (share * np.exp(ramp.ROLL_BACK) + 1 - share)
            logs += cand * np.log(theta / share) + base * np.log((1 - theta) / (1 - share))
    peak = logs.max()
    assert ramp.worse(total) == pytest.approx(peak + math.log(np.exp(logs - peak).mean()), abs=1e-6)


@few
@given(windows, some.sampled_from([0.01, 0.25, 0.5]))
def test_another_failure_of_the_candidate_speaks_against_it(found: list[tuple[float, int, int]], share: float) -> None:
    total: dict[float, tuple[int, int]] = {}
    for one, base, cand in found:
        total = ramp.fold(total, one, base, cand)
    more = ramp.fold(total, share, 0, 1)
    assert ramp.worse(more) > ramp.worse(total)
    assert ramp.good_enough(more, 1.5) < ramp.good_enough(total, 1.5)
    assert ramp.interval(more, 0.05)[1] >= ramp.interval(total, 0.05)[1]


def test_what_lies_above_the_tolerance_is_no_reason_to_promote() -> None:
    """A candidate that fails 1.25 times as often, at a tolerance of 1.1 and of 1.5."""
    plenty = {0.5: (40_000, 50_000)}
    assert ramp.good_enough(plenty, 1.1) < 0
    assert ramp.good_enough(plenty, 1.5) > math.log(100)


@few
@given(some.lists(some.integers(0, 500), min_size=3, max_size=3), some.permutations([0, 1, 2]))
def test_the_multinomial_test_does_not_care_for_the_order_of_the_arms(found: list[int], order: list[int]) -> None:
    null = [0.2, 0.3, 0.5]
    moved = multinomial.log_e([found[arm] for arm in order], [null[arm] for arm in order])
    assert float(moved) == pytest.approx(float(multinomial.log_e(found, null)), abs=1e-8)
    assert float(ratio.mismatch([found[0], found[1]], [0.5, 0.5])) == pytest.approx(
        float(ratio.mismatch([found[1], found[0]], [0.5, 0.5])), abs=1e-8
    )


@few
@given(some.lists(some.integers(0, 300), min_size=3, max_size=3))
def test_the_confidence_set_holds_what_was_observed(found: list[int]) -> None:
    assume(sum(found))
    for count, (low, high) in zip(found, multinomial.intervals(found, [0.2, 0.3, 0.5], 0.05), strict=True):
        assert 0 <= low <= count / sum(found) <= high <= 1


@few
@given(some.integers(0, 200), some.integers(1, 5000), some.floats(0.001, 0.5))
def test_a_failure_rate_is_shown_less_with_each_failure(failures: int, more: int, limit: float) -> None:
    requests = failures + more
    one, two = (binomial.below(failed, requests, limit) for failed in (failures, failures + 1))
    assert two < one or one == two == -math.inf


@few
@given(some.integers(0, 50), some.integers(1, 2000))
def test_the_upper_bound_is_where_the_test_turns(failures: int, more: int) -> None:
    requests = failures + more
    bound = binomial.upper(failures, requests, 0.01)
    assert failures / requests < bound <= 1
    assert binomial.below(failures, requests, min(bound * 1.01 + 1e-6, 1.0)) >= math.log(100) - 1e-6


def test_a_failure_rate_at_its_edges() -> None:
    assert binomial.below(0, 0, 0.01) == 0.0
    assert binomial.below(3, 100, 1.0) == math.inf
    assert binomial.below(3, 100, 0.0) == 0.0
    assert binomial.below(90_000, 100_000, 1e-4) == -math.inf
    assert binomial.upper(0, 0, 0.01) == 1.0


@few
@given(counts, counts, some.sampled_from([0.5, 0.9, 0.99]), some.sampled_from([(0.0, 0.0), (0.1, 0.001), (0.5, 0.0)]))
def test_latencies_in_bins_show_less_than_the_least_favourable_values_in_them(
    base: dict[int, int], cand: dict[int, int], p: float, slack: tuple[float, float]
) -> None:
    """Every value of the candidate at the lower edge of its bin, every value of the baseline at the upper one."""
    shift = shift_of(*slack)
    found = Comparison.of(base, cand).slower(p, shift)
    upper = np.repeat([edge(index) if index < BINS - 1 else 1e9 for index in base], list(base.values()))
    lower = np.repeat([edge(index - 1) * (1 + 1e-9) if index else 0.0 for index in cand], list(cand.values()))
    moved = np.sort(np.maximum(upper * (1 + slack[0]), upper + slack[1]) * (1 - 1e-9))
    points = np.sort(np.concatenate((moved, lower, moved * (1 + 1e-8), lower * (1 - 1e-8))))
    prior, n = Prior.of(p), (len(moved), len(lower))
    below = np.searchsorted(np.sort(lower), points, side="right"), np.searchsorted(moved, points, side="right")
    least = quantile.least((prior, below[0], n[1]), (prior, below[1], n[0]))
    assert found <= float(least) + 1e-9


@few
@given(counts, counts, some.sampled_from([0.5, 0.9]))
def test_nothing_is_slower_and_not_slower_at_once(base: dict[int, int], cand: dict[int, int], p: float) -> None:
    comparison, shift = Comparison.of(base, cand), shift_of(0.1, 0.001)
    assert min(comparison.slower(p, shift), comparison.not_slower(p, shift)) <= 0.01


@pytest.mark.parametrize("p", [0.5, 0.9, 0.99])
def test_the_short_way_over_the_bins_finds_the_least_of_all_bins(p: float) -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        sizes = rng.integers(5, 3000, 2)
        medians = 0.02 * np.exp(0.3 * rng.standard_normal(2))
        base, cand = (
            {int(b): int(n) for b, n in zip(*np.unique([bin_of(x) for x in median * np.exp(0.4 * rng.standard_normal(size))], return_counts=True), strict=True)}
            for median, size in zip(medians, sizes, strict=True)
        )  # fmt: skip
        comparison, shift = Comparison.of(base, cand), shift_of(0.1, 0.001)
        prior = Prior.of(p)
        for quick, high, low in (
            (comparison.slower(p, shift), comparison.candidate[1:], comparison.baseline[shift.floor]),
            (comparison.not_slower(p, shift), comparison.baseline[shift.ceiling], comparison.candidate[:-1]),
        ):
            totals = (sizes[1], sizes[0]) if high[-1] == sizes[1] else (sizes[0], sizes[1])
            whole = quantile.least((prior, high, float(totals[0])), (prior, low, float(totals[1])))
            assert quick == pytest.approx(float(whole), abs=1e-9)


def test_shifted_edges_are_where_the_formula_puts_them() -> None:
    slack, acceptable = 0.1, 0.001
    shift = shift_of(slack, acceptable)
    moved = np.maximum(UPPER * (1 + slack), UPPER + acceptable)
    for index in (0, 100, 300, 500, BINS - 1):
        lower = UPPER[index - 1] if index else 0.0
        floor, ceiling = int(shift.floor[index]), int(shift.ceiling[index])
        assert floor == 0 or moved[floor - 1] <= lower * (1 + 1e-9)
        assert moved[floor] > lower or floor == BINS
        assert ceiling == BINS or moved[ceiling - 1] >= UPPER[index] * (1 - 1e-9)
        assert floor <= ceiling


@few
@given(kinds, kinds)
def test_the_distance_is_symmetric_and_its_interval_holds_it(base: dict[str, int], cand: dict[str, int]) -> None:
    one, other = distance(Arm(base), Arm(cand)), distance(Arm(cand), Arm(base))
    assert one.estimate == pytest.approx(other.estimate, abs=1e-12)
    assert one.within(0.2) == pytest.approx(other.within(0.2))
    low, high = one.interval(0.05)
    assert 0 <= low <= one.estimate + 1e-12 <= high + 1e-9 <= 1 + 1e-9
    if len({*base, *cand}) > 1:
        assert one.above(0.2) == pytest.approx(other.above(0.2))
    assert one.estimate == pytest.approx(
        0.5
        * sum(
            abs(cand.get(kind, 0) / sum(cand.values()) - base.get(kind, 0) / sum(base.values()))
            for kind in {*base, *cand}
        )
    )


@few
@given(some.integers(2, 40))
def test_the_weights_of_all_sets_of_kinds_sum_to_one(number: int) -> None:
    from scipy.special import betaln

    total = sum(math.comb(number, k) * math.exp(betaln(k + 1.0, number - k + 1.0)) for k in range(number + 1))
    assert total == pytest.approx(1.0)


def test_without_rows_a_distance_says_nothing() -> None:
    empty = distance(Arm({}), Arm({"a": 5}))
    assert (empty.above(0.2), empty.within(0.2), empty.interval(0.05)) == (0.0, 0.0, (0.0, 1.0))


numbers = some.lists(some.floats(-100, 100), min_size=2, max_size=40)


def moments(values: list[float]) -> Moments:
    return Moments(len(values), float(np.mean(values)), float(np.var(values, ddof=1)))


@few
@given(numbers, numbers)
def test_moments_merge_as_if_they_had_been_one(one: list[float], other: list[float]) -> None:
    merged, whole = moments(one).merge(moments(other)), moments(one + other)
    assert merged.n == whole.n
    assert merged.mean == pytest.approx(whole.mean, abs=1e-9)
    assert merged.variance == pytest.approx(whole.variance, rel=1e-9, abs=1e-9)
    assert Moments().merge(whole) == whole.merge(Moments()) == whole


@few
@given(some.lists(some.tuples(some.floats(-10, 10), some.floats(-10, 10)), min_size=3, max_size=40))
def test_cuped_has_the_moments_of_the_adjusted_rows(rows: list[tuple[float, float]]) -> None:
    y, x = np.array(rows).T
    pairs = Pairs(moments(list(y)), moments(list(x)), float(np.cov(y, x)[0, 1]))
    adjusted, whole = pairs.adjusted(0.7, centre=1.0), moments(list(y - 0.7 * (x - 1.0)))
    assert adjusted.mean == pytest.approx(whole.mean, abs=1e-9)
    assert adjusted.variance == pytest.approx(whole.variance, rel=1e-6, abs=1e-9)
    assert pairs.adjusted(pairs.coefficient).variance <= pairs.outcome.variance + 1e-9


def test_a_frozen_coefficient_narrows_the_interval() -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((2, 500))
    y = 0.9 * x + 0.3 * rng.standard_normal((2, 500)) + np.array([[0.0], [0.1]])
    arms = [Pairs(moments(list(b)), moments(list(a)), float(np.cov(b, a)[0, 1])) for a, b in zip(x, y, strict=True)]
    plain = difference(arms[0].outcome, arms[1].outcome).interval()
    cuped = difference(arms[0].adjusted(0.9), arms[1].adjusted(0.9)).interval()
    assert cuped[1] - cuped[0] < 0.4 * (plain[1] - plain[0])
    assert cuped[0] < 0.1 < cuped[1]


def test_pairs_of_a_shadow_see_what_two_arms_cannot() -> None:
    """Both answer the same requests, whose difficulty drops out."""
    rng = np.random.default_rng(6)
    hard = rng.standard_normal(400)
    base, cand = hard + 0.1 * rng.standard_normal(400), hard - 0.1 + 0.1 * rng.standard_normal(400)
    assert paired(moments(list(cand - base))).negated().log_e_above() > math.log(1000)
    assert difference(moments(list(base)), moments(list(cand))).negated().log_e_above() < math.log(20)


@few
@given(some.floats(-10, 10), some.integers(100, 5000))
def test_more_effect_is_more_evidence(z: float, n: int) -> None:
    near, far = Difference(z, 1.0, n), Difference(z + 0.1, 1.0, n)
    assert far.log_e_above() > near.log_e_above()
    assert near.log_e() == pytest.approx(near.negated().log_e())
    for one, other in pairwise([0.1, 0.05, 0.01]):
        assert Difference(z, 1.0, n).interval(other)[0] < Difference(z, 1.0, n).interval(one)[0]


def test_rows_that_do_not_vary_say_nothing() -> None:
    assert difference(Moments(200, 1.0, 0.0), Moments(200, 0.9, 0.0)).log_e_above(-0.5) < 0
    assert difference(Moments(1, 1.0, 0.0), Moments(200, 0.9, 0.1)).n == 0
    assert paired(Moments(1, 1.0, 0.0)).n == 0
    assert paired(Moments()).interval() == (-math.inf, math.inf)
