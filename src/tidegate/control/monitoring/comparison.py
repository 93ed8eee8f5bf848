"""One window beside its baseline: the bars of a column, or all columns as a table."""

from __future__ import annotations

import msgspec

from tidegate.control.monitoring import facts, profiles
from tidegate.control.monitoring.folding import Reference
from tidegate.control.monitoring.histogram import Bar, histogram
from tidegate.control.monitoring.records import ColumnResult, DriftReport, Finding
from tidegate.errors import NotFound
from tidegate.storage.records import ProfileRow


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """One column of one window beside its baseline."""

    endpoint: str
    variant: str
    version: str
    baseline: str
    column: str
    start: float
    seconds: float
    rows: int
    reference_rows: int
    bars: tuple[Bar, ...]
    result: ColumnResult | None = None
    """What the newest check of the window said of it."""


class WindowView(msgspec.Struct, frozen=True, kw_only=True):
    """A window as a table: every column then and now, and what the checks said."""

    endpoint: str
    variant: str
    version: str
    baseline: str
    start: float
    seconds: float
    rows: int
    reference_rows: int
    complete: bool
    drifted: bool
    note: str
    columns: tuple[facts.Compared, ...]
    findings: tuple[Finding, ...]


def distribution_of(row: ProfileRow, reference: Reference, report: DriftReport | None, column: str) -> Distribution:
    """Raises NotFound for a column that the baseline has not."""
    if column not in reference.profile.columns:
        names = ", ".join(list(reference.profile.columns)[:20])
        raise NotFound(f"the baseline {reference.name} has no column {column[:80]!r}; it has {names}")
    return Distribution(
        endpoint=row.endpoint,
        variant=row.variant,
        version=row.version,
        baseline=reference.name,
        column=column,
        start=row.start,
        seconds=row.seconds,
        rows=row.rows,
        reference_rows=reference.profile.rows,
        bars=histogram(reference.profile, profiles.decode(row.body), column),
        result=next((one for one in report.columns if one.column == column), None) if report else None,
    )


def window_of(row: ProfileRow, reference: Reference, report: DriftReport | None) -> WindowView:
    """``report`` is None where the window was not checked yet."""
    window = profiles.decode(row.body)
    return WindowView(
        endpoint=row.endpoint,
        variant=row.variant,
        version=row.version,
        baseline=reference.name,
        start=row.start,
        seconds=row.seconds,
        rows=row.rows,
        reference_rows=reference.profile.rows,
        complete=report is not None and report.complete,
        drifted=report is not None and report.drifted,
        note="not checked yet" if report is None else report.note,
        columns=facts.compared(reference.profile, window, report.columns if report else ()),
        findings=report.findings if report else (),
    )
