"""Which windows have their turn, from times and rows alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tidegate.control.monitoring.horizon import MOST_CHECKS, MOST_SILENT, SETTLE_SECONDS, Horizon, settling, share_of
from tidegate.control.monitoring.state import OpenWindow, start_of

HOUR = 3600.0
START = 1_795_266_000.0


def window(start: float = START, rows: int = 0, checked: int = -1, looks: int = 0) -> OpenWindow:
    return OpenWindow("baseline", "4", "digest", start, rows, checked, looks)


def test_a_window_is_over_when_it_has_settled_and_all_of_it_was_read() -> None:
    end = START + HOUR
    assert not Horizon(end + SETTLE_SECONDS - 0.1, HOUR).is_over(START)
    assert Horizon(end + SETTLE_SECONDS, HOUR).is_over(START)
    assert not Horizon(end + HOUR, HOUR, until=end).is_over(START)
    assert Horizon(end + HOUR, HOUR, until=end + SETTLE_SECONDS).is_over(START)


def test_short_windows_settle_sooner() -> None:
    assert (settling(HOUR), settling(4.0)) == (SETTLE_SECONDS, 2.0)


@pytest.mark.parametrize(
    ("one", "due"),
    [
        (window(rows=49), False),
        (window(rows=50), True),
        (window(rows=99, checked=50), False),
        (window(rows=100, checked=50), True),
        (window(START - HOUR, rows=1), True),
    ],
)
def test_a_running_window_is_due_when_its_rows_have_doubled(one: OpenWindow, due: bool) -> None:
    assert bool(Horizon(START + 60, HOUR).due([one], 50)) == due


def test_what_is_over_is_not_open_any_more_and_what_runs_counts_its_looks() -> None:
    over, running, waiting = window(START - HOUR, 70), window(rows=60, looks=2), window(rows=3)
    horizon = Horizon(START + 60, HOUR)
    assert list(horizon.left([over, running, waiting], [over, running])) == [
        window(rows=60, checked=60, looks=3),
        waiting,
    ]
    assert list(horizon.left([over], [])) == [over]


def test_one_look_checks_so_many_windows_and_no_more() -> None:
    many = [window(START - number * HOUR, 50) for number in range(MOST_CHECKS + 5)]
    assert Horizon(START, HOUR).due(many, 50) == many[:MOST_CHECKS]


@given(some.floats(0, 200 * HOUR), some.sampled_from([2.0, 60.0, HOUR]), some.integers(0, 300))
def test_windows_are_judged_once_they_are_over(passed: float, seconds: float, behind: int) -> None:
    horizon = Horizon(START + passed, seconds)
    first = horizon.first_unjudged
    assert horizon.is_over(first - seconds)
    assert not horizon.is_over(first)
    found = list(horizon.unjudged(first - behind * seconds))
    assert found == [first - number * seconds for number in range(min(behind, MOST_SILENT), 0, -1)]
    assert found == [start_of(start, seconds) for start in found]


def test_all_looks_at_a_window_have_one_alpha() -> None:
    for looks in range(20):
        spent = [share_of(look, over=False) for look in range(looks)] + [share_of(looks, over=True)]
        assert sum(spent) == pytest.approx(1.0)
        assert spent == sorted(spent[:-1], reverse=True) + spent[-1:]
