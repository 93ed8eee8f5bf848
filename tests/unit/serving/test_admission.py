"""The limit and the breaker, against values computed by hand."""

from __future__ import annotations

import pytest

from tidegate.errors import Overloaded
from tidegate.serving.admission import Breaker, ConcurrencyLimit


def windows(limit: ConcurrencyLimit, latencies: list[float], in_flight: int, start: float = 1.0) -> list[float]:
    """The limit after each window of one second, in which ``in_flight`` rows were in flight at the peak."""
    seen = []
    for number, latency in enumerate(latencies):
        limit.enter(in_flight)
        limit.leave(in_flight, latency, start + number)
        seen.append(limit.limit)
    return seen


def test_the_limit_follows_the_formula() -> None:
    """Gradient2: g = max(.5, min(1, 1.5 · long / short)); new = .8 · L + .2 · (g · L + 4)."""
    limit = ConcurrencyLimit(minimum=1, maximum=200)
    limit.limit = 100.0
    # The first window sets long = short: g = 1, new = 80 + .2 · 104.
    first, second = windows(limit, [0.010, 0.040], 90)
    assert first == pytest.approx(100.8)
    # long = .01 + .02 · (.04 − .01) = .0106; 1.5 · .0106 / .04 = .3975, so g = .5: .8 · 100.8 + .2 · (50.4 + 4).
    assert second == pytest.approx(91.52)


def test_a_mild_slowdown_lowers_the_limit_by_its_gradient() -> None:
    limit = ConcurrencyLimit(minimum=1, maximum=200)
    limit.limit = 100.0
    windows(limit, [0.010], 90)
    before = limit.limit
    (after,) = windows(limit, [0.020], 90, start=5.0)
    gradient = 1.5 * 0.0102 / 0.020
    assert 0.5 < gradient < 1
    assert after == pytest.approx(0.8 * before + 0.2 * (gradient * before + 4))


def test_the_limit_stays_while_less_than_half_of_it_is_used() -> None:
    limit = ConcurrencyLimit(minimum=1, maximum=200)
    limit.limit = 100.0
    assert windows(limit, [0.01, 0.5, 0.5], 49) == [100.0, 100.0, 100.0]
    assert windows(limit, [0.01], 50, start=9.0) != [100.0]


def test_the_limit_stays_within_its_bounds() -> None:
    limit = ConcurrencyLimit(minimum=12, maximum=20)
    assert limit.limit == 20
    # Each window waits longer than the one before: the limit must not fall below what keeps the model busy.
    fallen = windows(limit, [0.001 * 1.5**number for number in range(30)], 20)
    assert min(fallen) == 12
    risen = windows(limit, [0.001] * 60, 12, start=100.0)
    assert max(risen) <= 20


def test_short_latency_after_a_long_overload_is_believed_quickly() -> None:
    limit = ConcurrencyLimit(minimum=1, maximum=1000)
    limit.limit = 100.0
    windows(limit, [1.0] * 10, 90)
    windows(limit, [0.01] * 60, 90, start=100.0)
    (before,) = windows(limit, [0.01], 90, start=200.0)
    (after,) = windows(limit, [0.04], 90, start=300.0)
    assert after < before  # 0.04 s is slow again


def test_windows_last_a_tenth_of_a_second() -> None:
    limit = ConcurrencyLimit(minimum=1, maximum=200)
    limit.limit = 100.0
    seen = []
    for now in (1.0, 1.05, 1.09, 1.11):
        limit.enter(90)
        limit.leave(90, 0.01, now)
        seen.append(limit.limit)
    assert seen[0] == seen[1] == seen[2] < seen[3]


def test_more_than_the_limit_is_refused_with_the_numbers() -> None:
    limit = ConcurrencyLimit(minimum=2, maximum=10)
    limit.enter(6)
    with pytest.raises(Overloaded, match="6 rows are in flight and the limit is 10") as refused:
        limit.enter(5)
    assert refused.value.retry_after > 0
    limit.enter(4)
    assert limit.in_flight == 10
    limit.leave(6, 0.1, 1.0)
    limit.abandon(4)
    assert limit.in_flight == 0


def test_a_request_larger_than_the_limit_may_run_alone() -> None:
    limit = ConcurrencyLimit(minimum=1, maximum=4)
    limit.enter(100)
    with pytest.raises(Overloaded):
        limit.enter(1)
    limit.abandon(100)
    limit.enter(1)


def test_what_was_refused_or_cancelled_says_nothing_of_latency() -> None:
    limit = ConcurrencyLimit(minimum=1, maximum=200)
    limit.limit = 100.0
    windows(limit, [0.01], 90)
    before = limit.limit
    limit.enter(90)
    limit.abandon(90)
    assert limit.limit == before


def test_a_breaker_opens_after_consecutive_failures_only() -> None:
    breaker = Breaker(threshold=3, seconds=30)
    assert [breaker.failed(1.0), breaker.failed(1.0)] == [False, False]
    breaker.succeeded()
    assert [breaker.failed(2.0), breaker.failed(2.0), breaker.failed(2.0)] == [False, False, True]
    assert not breaker.allows(2.0)
    assert breaker.tripped


def test_late_failures_do_not_lengthen_an_ejection() -> None:
    breaker = Breaker(threshold=1, seconds=30)
    assert breaker.failed(0.0)
    assert not breaker.failed(29.0)  # a request that had begun before
    assert breaker.allows(30.0)


def test_one_probe_at_a_time_decides() -> None:
    breaker = Breaker(threshold=1, seconds=30)
    breaker.failed(0.0)
    assert not breaker.allows(29.9)
    assert breaker.allows(30.0)
    assert not breaker.allows(30.0)
    breaker.succeeded()
    assert breaker.allows(30.1)
    assert breaker.allows(30.1)
    assert not breaker.tripped


def test_each_ejection_is_longer_until_a_success() -> None:
    """Ejected for 30 s × the number of ejections."""
    breaker = Breaker(threshold=5, seconds=30)
    now = 0.0
    for _ in range(4):
        breaker.failed(now)
    assert breaker.allows(now)
    breaker.failed(now)
    for ejections in (1, 2, 3):
        assert not breaker.allows(now + 30 * ejections - 0.1)
        now += 30 * ejections
        assert breaker.allows(now)
        assert breaker.failed(now)  # the probe failed
    breaker.allows(now + 120)
    breaker.succeeded()
    for _ in range(5):
        breaker.failed(1000.0)
    assert breaker.allows(1030.0)


def test_a_probe_without_a_verdict_lets_the_next_request_probe() -> None:
    breaker = Breaker(threshold=1, seconds=30)
    breaker.failed(0.0)
    assert breaker.allows(31.0)
    assert not breaker.allows(31.0)
    breaker.undecided()
    assert breaker.allows(31.0)


def test_a_breaker_that_nobody_probes_stays_tripped() -> None:
    """Readiness reads it: a baseline that fails for an hour must not look well again after 30 seconds."""
    breaker = Breaker(threshold=2, seconds=30)
    for second in range(3600):
        breaker.failed(float(second))
    assert breaker.tripped
    breaker.succeeded()
    assert not breaker.tripped
