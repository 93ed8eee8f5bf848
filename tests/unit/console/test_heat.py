"""The heat map as a grid: which windows, which features first, which colour."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.e2e.watched import BEGIN, WINDOW, report, result
from tidegate.console import heat
from tidegate.control.monitoring.records import DriftReport


def window(index: int, **ratios: float) -> DriftReport:
    return report(index, columns=tuple(result(name, ratio) for name, ratio in ratios.items()))


def test_what_drifted_last_comes_first_and_then_what_was_furthest() -> None:
    grid = heat.grid([window(1, quiet=0.1, near=0.9, gone=1.2), window(0, quiet=0.2, near=0.4, gone=0.3)], "baseline")
    assert grid is not None
    assert [row.feature for row in grid.rows] == ["gone", "near", "quiet"]
    assert [[cell.level for cell in row.cells] for row in grid.rows] == [["h1", "d1"], ["h1", "h3"], ["h0", "h0"]]
    assert [cell.drifted for cell in grid.rows[0].cells] == [False, True]
    assert grid.rows[0].cells[1].says == "psi 0.132, 1.2 times its threshold, drifted"
    assert grid.hidden == 0


def test_a_window_with_too_few_rows_and_a_column_that_was_not_there_are_no_colours() -> None:
    few = report(1, rows=3, note="3 rows; 50 are needed")
    grid = heat.grid([window(0, a=0.1), few, window(2, a=0.1, b=0.1)], "baseline")
    assert grid is not None
    cells = {row.feature: row.cells for row in grid.rows}
    assert [cell.level for cell in cells["a"]] == ["h0", "few", "h0"]
    assert [cell.level for cell in cells["b"]] == ["", "few", "h0"]
    assert cells["a"][1].says == "3 rows; 50 are needed."
    one = report(0, columns=(result("a", 5.0, note="missing in every row"),))
    noted = heat.grid([one], "baseline")
    assert noted is not None
    assert noted.rows[0].cells[0] == heat.Cell("few", "Missing in every row.")


def test_a_statistic_beyond_its_threshold_is_red_only_where_it_drifted() -> None:
    """The number of features counts too: one of many may be beyond its threshold by chance."""
    loud = msgspec.structs.replace(result("a", 2.0), drifted=False)
    grid = heat.grid([report(0, columns=(loud,))], "baseline")
    assert grid is not None
    assert grid.rows[0].cells[0].level == "h3"


def test_only_the_newest_windows_of_the_variant_are_shown() -> None:
    other = report(90, variant="candidate", columns=(result("c", 3.0),))
    grid = heat.grid([*(window(index, a=0.1) for index in range(80)), other], "baseline", windows=24)
    assert grid is not None
    assert [column.start for column in grid.columns] == [BEGIN + index * WINDOW for index in range(56, 80)]
    assert [row.feature for row in grid.rows] == ["a"]
    assert heat.grid([other], "baseline") is None


def test_a_new_version_is_marked_where_it_begins() -> None:
    windows = [report(i, version="3" if i < 2 else "4", columns=(result("a", 0.1),)) for i in range(4)]
    replaced = report(2, version="3", rows=7, columns=(result("a", 9.0),))
    grid = heat.grid([*windows, replaced], "baseline")
    assert grid is not None
    assert [column.version for column in grid.columns] == ["", "", "4", ""]
    assert grid.rows[0].cells[2].level == "h0", "the version with more rows stands for the window"


def test_days_are_written_once_and_not_every_window_has_a_head() -> None:
    grid = heat.grid([window(index, a=0.1) for index in range(48)], "baseline")
    assert grid is not None
    heads = [column.head for column in grid.columns if column.head]
    assert heads[:2] == ["21 Nov 00:00", "06:00"]
    assert sum(head.startswith("2") and "Nov" in head for head in heads) == 2
    assert len(heads) == 8


def test_no_time_sticks_out_at_the_end() -> None:
    grid = heat.grid([window(index, a=0.1) for index in range(43)], "baseline")
    assert grid is not None
    assert [at for at, column in enumerate(grid.columns) if column.head] == [0, 6, 12, 18, 24, 30, 36]


def test_windows_of_seconds_say_seconds() -> None:
    short = [
        msgspec.structs.replace(window(index, a=0.1), start=BEGIN + 5.0 * index, seconds=5.0) for index in range(3)
    ]
    grid = heat.grid(short, "baseline")
    assert grid is not None
    assert [column.head for column in grid.columns] == ["21 Nov 00:00:00", "00:00:05", "00:00:10"]


def test_features_beyond_the_first_are_counted() -> None:
    grid = heat.grid([window(0, **{f"f{number}": 0.1 for number in range(50)})], "baseline", features=40)
    assert grid is not None
    assert (len(grid.rows), grid.hidden) == (40, 10)
    whole = heat.grid([window(0, **{f"f{number}": 0.1 for number in range(50)})], "baseline", features=None)
    assert whole is not None
    assert (len(whole.rows), whole.hidden) == (50, 0)


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_more_is_never_a_lighter_colour(one: float, other: float) -> None:
    order = [*(name for _, name in heat.LEVELS), "d3"]
    low, high = sorted((one, other))
    assert order.index(heat.level(low)) <= order.index(heat.level(high))


@pytest.mark.parametrize(("statistic", "threshold", "times"), [(0.0, 0.0, 0.0), (0.2, 0.0, 3.0), (0.2, 0.1, 2.0)])
def test_a_threshold_of_nothing_divides_nothing(statistic: float, threshold: float, times: float) -> None:
    found = msgspec.structs.replace(result("a", 1.0), statistic=statistic, threshold=threshold)
    assert heat.times(found) == times
