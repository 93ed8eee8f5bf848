"""How the monitor of one endpoint is: how far it has read, what its variants were like last, what keeps it from looking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tidegate.control.monitoring.records import DriftReport, Performance
from tidegate.control.monitoring.state import Compared, MonitorState, start_of
from tidegate.monitor_plan import MonitorPlan
from tidegate.section import seconds_of

STALE_SECONDS = 300.0
"""Since the last look, beyond what the plan says, before a monitor is said to stand still."""


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """One variant of a monitored endpoint, with its newest results."""

    variant: str
    version: str
    baseline: str = ""
    digest: str = ""
    note: str = ""
    """Why it is compared with nothing."""
    rows: int = 0
    """In the running window, so far."""
    report: str = ""
    start: float = 0.0
    """Of the newest window that was checked, with ``drifted`` columns and ``broken`` checks."""
    complete: bool = False
    drifted: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    said: str = ""
    """Why the newest report concludes nothing."""
    performance: Performance | None = None
    """Newest window with labels, by the time of the prediction."""
    estimated: Performance | None = None
    """Newest estimate, where the newest window has no labels."""


class Monitor(msgspec.Struct, frozen=True, kw_only=True):
    endpoint: str
    reference: str
    window_seconds: float
    every_seconds: float
    window: float
    """Start of the running window."""
    looked: float = 0.0
    """When the last look ended; 0 before the first."""
    lag_seconds: float = 0.0
    """Age of the oldest prediction that was not read yet; 0 when all were."""
    cursor: int = 0
    newest: float = 0.0
    """Time of the newest prediction that was read."""
    read: int = 0
    forced: int = 0
    unreadable: int = 0
    without: int = 0
    """Rows that were compared with nothing."""
    firing: int = 0
    """Alerts."""
    variants: tuple[Watched, ...] = ()
    note: str = ""
    """What keeps it from looking as it should, in a sentence; empty when nothing does."""


class Newest(NamedTuple):
    """What is known last of a variant: its drift report, and its quality, from labels and from scores."""

    report: DriftReport | None
    measured: Performance | None
    estimated: Performance | None


def monitor_of(
    name: str,
    plan: MonitorPlan,
    state: MonitorState,
    newest: Sequence[Newest],
    *,
    now: float,
    cursor: int,
    waiting: float | None,
    firing: int,
) -> Monitor:
    """``newest`` is in the order of ``state.compared``; ``waiting`` is the time of the oldest prediction not read yet."""
    seconds = seconds_of(plan.window)
    running = {(one.variant, one.version): one.rows for one in state.open if one.start == start_of(now, seconds)}
    return Monitor(
        endpoint=name,
        reference=plan.reference,
        window_seconds=seconds,
        every_seconds=seconds_of(plan.every),
        window=start_of(now, seconds),
        looked=state.looked,
        lag_seconds=0.0 if waiting is None else max(0.0, now - waiting),
        cursor=cursor,
        newest=state.newest,
        read=state.read,
        forced=state.forced,
        unreadable=state.unreadable,
        without=state.without,
        firing=firing,
        variants=tuple(
            _watched(one, known, running.get((one.variant, one.version), 0))
            for one, known in zip(state.compared, newest, strict=True)
        ),
        note=_note(name, state, now, seconds_of(plan.every)),
    )


def _watched(one: Compared, newest: Newest, rows: int) -> Watched:
    report, measured, estimated = newest
    if measured is not None and estimated is not None and estimated.start <= measured.start:
        estimated = None
    return Watched(
        variant=one.variant,
        version=one.version,
        baseline=one.baseline,
        digest=one.digest,
        note=one.note,
        rows=rows,
        report=one.report,
        start=0.0 if report is None else report.start,
        complete=report is not None and report.complete,
        drifted=() if report is None else tuple(found.column for found in report.columns if found.drifted),
        broken=() if report is None else tuple(_broken(report)),
        said="" if report is None else report.note,
        performance=measured,
        estimated=estimated,
    )


def _note(endpoint: str, state: MonitorState, now: float, every: float) -> str:
    if state.trouble:
        return f"the last look failed: {state.trouble}"
    if not state.looked:
        return "nobody has looked yet"
    if now - state.looked > STALE_SECONDS + 2 * every:
        minutes = (now - state.looked) / 60
        return f"nobody has looked for {minutes:.0f} minutes: the control plane is away, or does not get so far"
    if 2 * state.unreadable > state.read - state.forced:
        return f"{state.unreadable:,} of {state.read:,} rows could not be read, and are watched by nobody"
    missing = [one for one in state.compared if one.note]
    if missing:
        named = ", ".join(f"{one.variant} (version {one.version})" for one in missing)
        return f"drift of {named} is not watched: {missing[0].note}"
    return "" if state.compared else f"{endpoint} is not served yet"


def _broken(report: DriftReport) -> list[str]:
    return [
        f"{finding.check}: {finding.column}" if finding.column else finding.check
        for finding in report.findings
        if finding.broken
    ]
