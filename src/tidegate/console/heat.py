"""Drift of every feature in every window as a grid of levels: what the heat map shows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tidegate.console import text
from tidegate.control.monitoring.records import ColumnResult, DriftReport

MOST_FEATURES = 40
"""Rows that are shown unless all are asked for; those that drifted most come first."""
MOST_WINDOWS = 48
LEVELS = ((0.25, "h0"), (0.5, "h1"), (0.75, "h2"), (1.0, "h3"), (1.5, "d1"), (3.0, "d2"))
"""Upper ends of the colours, as times the threshold; beyond the last it is ``d3``."""
HEADS = 8
"""Columns with a written time, about."""


class Cell(NamedTuple):
    """``level`` is the class of the colour; empty where nothing was checked. ``says`` is the same in words."""

    level: str
    says: str
    drifted: bool = False


class Column(NamedTuple):
    """A window. ``head`` is empty where there is no room; ``version`` is written where another one than before begins."""

    start: float
    head: str
    version: str = ""


class Row(NamedTuple):
    feature: str
    cells: list[Cell]
    worst: float
    """Greatest statistic, as times its threshold."""
    drifted: bool
    """In the newest window with a result."""


class Grid(NamedTuple):
    columns: list[Column]
    rows: list[Row]
    hidden: int
    """Features that are not shown."""


def grid(
    reports: Iterable[DriftReport],
    variant: str,
    *,
    windows: int = MOST_WINDOWS,
    features: int | None = MOST_FEATURES,
) -> Grid | None:
    """The newest ``windows`` of one variant, in the order of time; None without any."""
    by_start = newest_of_each_window(reports, variant)
    starts = sorted(by_start)[-windows:]
    if not starts:
        return None
    seen = [by_start[start] for start in starts]
    results = [{result.column: result for result in report.columns} for report in seen]
    names = {name: None for own in reversed(results) for name in own}
    rows = [_row(name, seen, results) for name in names]
    rows.sort(key=lambda row: (not row.drifted, -row.worst, row.feature))
    shown = rows if features is None else rows[:features]
    return Grid(_columns(seen), shown, len(rows) - len(shown))


def newest_of_each_window(reports: Iterable[DriftReport], variant: str) -> dict[float, DriftReport]:
    """By the windows' starts. Where a version was replaced within a window, the one with more rows stands for it."""
    found: dict[float, DriftReport] = {}
    for report in reports:
        before = found.get(report.start)
        if report.variant == variant and (before is None or before.rows < report.rows):
            found[report.start] = report
    return found


def times(result: ColumnResult) -> float:
    """The statistic as times its threshold."""
    if result.threshold > 0:
        return result.statistic / result.threshold
    return 0.0 if result.statistic <= 0 else LEVELS[-1][0]


def level(ratio: float) -> str:
    return next((name for limit, name in LEVELS if ratio < limit), "d3")


def _row(name: str, reports: Sequence[DriftReport], results: Sequence[Mapping[str, ColumnResult]]) -> Row:
    cells = [_cell(report, own.get(name)) for report, own in zip(reports, results, strict=True)]
    concluded = [own[name] for own in results if name in own and not own[name].note]
    worst = max((times(result) for result in concluded), default=0.0)
    return Row(name, cells, worst, bool(concluded) and concluded[-1].drifted)


def _cell(report: DriftReport, result: ColumnResult | None) -> Cell:
    if result is None:
        return Cell("few", text.sentence(report.note)) if report.note else Cell("", "not checked")
    if result.note:
        return Cell("few", text.sentence(result.note))
    ratio = times(result)
    said = f"{result.method} {text.number(result.statistic)}, {text.number(ratio)} times its threshold"
    shown = level(ratio) if result.drifted else min(level(ratio), "h3", key=_order)
    return Cell(shown, said + (", drifted" if result.drifted else ""), result.drifted)


def _order(name: str) -> int:
    return (*(known for _, known in LEVELS), "d3").index(name)


def _columns(reports: Sequence[DriftReport]) -> list[Column]:
    each = max(1, -(-len(reports) // HEADS))
    found = []
    version = reports[0].version
    day = ""
    for at, report in enumerate(reports):
        head = ""
        if at % each == 0 and at + each // 2 < len(reports):  # one at the very end would stick out
            written = text.absolute(report.start)
            date, clock = written[:6], written[13 : 18 if report.seconds >= 60 else 21]
            head = clock if date == day else date if report.seconds >= 86_400 else f"{date} {clock}"
            day = date
        found.append(Column(report.start, head, report.version if report.version != version else ""))
        version = report.version
    return found
