"""One window against its reference: the drift report. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from msgspec.structs import replace

from tidegate.control.monitoring.drift import check_drift, is_drifted
from tidegate.control.monitoring.folding import Reference
from tidegate.control.monitoring.profiles import Profile
from tidegate.control.monitoring.quality import check_quality, unreadable
from tidegate.control.monitoring.records import DriftReport, Finding
from tidegate.control.monitoring.state import named
from tidegate.monitor_plan import MonitorPlan


def report_id(endpoint: str, variant: str, version: str, start: float, seconds: float) -> str:
    """The same whenever the window is checked again."""
    text = "\0".join((endpoint, variant, version, repr(float(start)), repr(float(seconds))))
    return f"d-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def check(
    reference: Reference,
    window: Profile,
    plan: MonitorPlan,
    *,
    endpoint: str,
    variant: str,
    version: str,
    start: float,
    seconds: float,
    now: float,
    complete: bool,
    volume: Finding | None = None,
    share: float = 1.0,
) -> DriftReport:
    """``volume`` is of the whole endpoint, and so comes from outside. ``share`` of alpha is for this look."""
    few = window.rows < plan.min_rows
    drift = replace(plan.drift, alpha=plan.drift.alpha * share)
    columns = () if few else check_drift(reference.profile, window, drift)
    findings: tuple[Finding, ...] = ()
    if not few:
        findings = check_quality(reference.profile, window, plan.quality, share)
    elif window.unreadable and window.rows + window.unreadable >= plan.min_rows:  # enough to say that they are
        findings = (unreadable(window, plan.quality, share),)
    rest = tuple(finding for finding in findings if finding.check != "volume")
    note = f"{window.rows} rows; {plan.min_rows} are needed before anything is concluded" if few else ""
    if few and window.unreadable:
        note += f"; {window.unreadable} more cannot be read"
    return DriftReport(
        id=report_id(endpoint, variant, version, start, seconds),
        endpoint=endpoint,
        variant=variant,
        version=version,
        baseline=reference.name,
        start=start,
        seconds=seconds,
        created=now,
        rows=window.rows,
        complete=complete,
        drifted=is_drifted(columns, plan.drift) if columns else False,
        columns=columns,
        findings=rest if volume is None else (*rest, volume),
        note=note,
    )


def silent(
    volume: Finding,
    *,
    endpoint: str,
    variant: str,
    version: str,
    baseline: str,
    start: float,
    seconds: float,
    now: float,
) -> DriftReport:
    """Of a window in which nothing came to the variant, or nothing that could be compared."""
    return DriftReport(
        id=report_id(endpoint, variant, version, start, seconds),
        endpoint=endpoint,
        variant=variant,
        version=version,
        baseline=baseline,
        start=start,
        seconds=seconds,
        created=now,
        rows=volume.count,
        complete=True,
        drifted=False,
        findings=(volume,),
        note="rows that were compared with nothing" if volume.count else "no rows",
    )


def volume_of(counted: Mapping[str, int], start: float, plan: MonitorPlan) -> Finding | None:
    """Whether enough rows came in a window that is over; None where silence is fine."""
    if not plan.quality.min_rows:
        return None
    rows = counted.get(named(start), 0)
    return Finding(
        check="volume",
        value=float(rows),
        bound=float(plan.quality.min_rows),
        count=rows,
        rows=rows,
        broken=rows < plan.quality.min_rows,
    )
