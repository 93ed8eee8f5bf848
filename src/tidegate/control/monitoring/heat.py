"""Drift of every column over the windows: a row a column, a cell a window."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tidegate.control.monitoring.records import DriftReport


class HeatRow(msgspec.Struct, frozen=True, kw_only=True):
    """A column over the windows; None where it was not looked at. ``ratio`` is the statistic by its threshold."""

    column: str
    method: tuple[str | None, ...]
    statistic: tuple[float | None, ...]
    threshold: tuple[float | None, ...]
    ratio: tuple[float | None, ...]
    drifted: tuple[bool | None, ...]


class Heat(msgspec.Struct, frozen=True, kw_only=True):
    """Columns that drifted most come first."""

    endpoint: str
    variant: str
    seconds: float
    starts: tuple[float, ...]
    reports: tuple[str, ...]
    versions: tuple[str, ...]
    rows: tuple[int, ...]
    notes: tuple[str, ...]
    columns: tuple[HeatRow, ...]


def heat_of(endpoint: str, variant: str, reports: Sequence[DriftReport]) -> Heat:
    """``reports`` in the order of time."""
    results = [{one.column: one for one in report.columns} for report in reports]
    names = sorted({name for found in results for name in found})
    rows = []
    for name in names:
        cells = [found.get(name) for found in results]
        rows.append(
            HeatRow(
                column=name,
                method=tuple(None if cell is None else cell.method for cell in cells),
                statistic=tuple(None if cell is None else cell.statistic for cell in cells),
                threshold=tuple(None if cell is None else cell.threshold for cell in cells),
                ratio=tuple(
                    None if cell is None or not cell.threshold else cell.statistic / cell.threshold for cell in cells
                ),
                drifted=tuple(None if cell is None else cell.drifted for cell in cells),
            )
        )
    rows.sort(key=lambda row: (-sum(map(bool, row.drifted)), -max((one or 0.0 for one in row.ratio), default=0.0)))
    return Heat(
        endpoint=endpoint,
        variant=variant,
        seconds=reports[-1].seconds if reports else 0.0,
        starts=tuple(report.start for report in reports),
        reports=tuple(report.id for report in reports),
        versions=tuple(report.version for report in reports),
        rows=tuple(report.rows for report in reports),
        notes=tuple(report.note for report in reports),
        columns=tuple(rows),
    )
