"""What people see of monitoring: how each monitor is, drift over time, a column then and now, quality over time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from tidegate.clock import Clock
from tidegate.control.monitoring import facts, profiles
from tidegate.control.monitoring.checking import report_id
from tidegate.control.monitoring.folding import Reference
from tidegate.control.monitoring.histogram import Bar, histogram
from tidegate.control.monitoring.records import ColumnResult, DriftReport, Finding, Performance
from tidegate.control.monitoring.references import References
from tidegate.control.monitoring.state import Compared, MonitorState, read_state, start_of
from tidegate.errors import InvalidInput, NotFound
from tidegate.monitor_plan import MonitorPlan
from tidegate.section import seconds_of
from tidegate.settings import Settings
from tidegate.storage.records import DriftReportRow, MonitorRow, ProfileRow
from tidegate.storage.store import Store, Unit

STALE_SECONDS = 300.0
"""Since the last look, beyond what the plan says, before a monitor is said to stand still."""
MOST_WINDOWS = 500
"""Of one picture."""


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


class Views:
    """Reads alone. Safe between threads."""

    def __init__(self, store: Store, references: References, settings: Settings, clock: Clock) -> None:
        self._store = store
        self._references = references
        self._settings = settings
        self._clock = clock

    def monitors(self) -> list[Monitor]:
        """Of every endpoint that is watched, in the order of the configuration."""
        watched = {name: one.monitor for name, one in self._settings.endpoints.items()}
        with self._store.read() as unit:
            rows = {row.endpoint: row for row in unit.monitors.all()}
            firing = unit.alerts.firing()
            return [
                self._monitor(unit, name, plan, rows.get(name), firing.get(name, 0))
                for name, plan in watched.items()
                if plan is not None
            ]

    def monitor(self, endpoint: str, plan: MonitorPlan) -> Monitor:
        with self._store.read() as unit:
            row = unit.monitors.get(endpoint)
            return self._monitor(unit, endpoint, plan, row, unit.alerts.firing().get(endpoint, 0))

    def _monitor(self, unit: Unit, name: str, plan: MonitorPlan, row: MonitorRow | None, firing: int) -> Monitor:
        now, seconds = self._clock.wall(), seconds_of(plan.window)
        state = read_state(row.body) if row is not None else MonitorState()
        waiting = unit.events.waiting(name, 0 if row is None else max(row.cursor, 0))
        running = {(one.variant, one.version): one.rows for one in state.open if one.start == start_of(now, seconds)}
        return Monitor(
            endpoint=name,
            reference=plan.reference,
            window_seconds=seconds,
            every_seconds=seconds_of(plan.every),
            window=start_of(now, seconds),
            looked=state.looked,
            lag_seconds=0.0 if waiting is None else max(0.0, now - waiting),
            cursor=0 if row is None else max(row.cursor, 0),
            newest=state.newest,
            read=state.read,
            forced=state.forced,
            unreadable=state.unreadable,
            without=state.without,
            firing=firing,
            variants=tuple(
                self._watched(unit, name, one, running.get((one.variant, one.version), 0)) for one in state.compared
            ),
            note=note_of(name, state, now, seconds_of(plan.every)),
        )

    def _watched(self, unit: Unit, endpoint: str, one: Compared, rows: int) -> Watched:
        row = unit.monitors.report(one.report) if one.report else None
        report = None if row is None else report_of(row)
        found = {
            basis: unit.monitors.newest_performance(endpoint, one.variant, one.version, basis)
            for basis in ("prediction", "estimated")
        }
        measured, estimated = (
            None if row is None else msgspec.json.decode(row.body, type=Performance) for row in found.values()
        )
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
            broken=() if report is None else tuple(broken_of(report)),
            said="" if report is None else report.note,
            performance=measured,
            estimated=estimated,
        )

    def reports(
        self, endpoint: str | None = None, limit: int = 50, cursor: str | None = None, among: Sequence[str] = ()
    ) -> list[DriftReport]:
        """Newest first."""
        with self._store.read() as unit:
            return [report_of(row) for row in unit.monitors.reports(endpoint, 0.0, limit, cursor, among)]

    def report(self, name: str) -> DriftReport:
        """Raises NotFound."""
        with self._store.read() as unit:
            row = unit.monitors.report(name)
        if row is None:
            raise NotFound(f"there is no drift report {name[:80]!r}")
        return report_of(row)

    def heat(self, endpoint: str, since: float, until: float, variant: str = "baseline") -> Heat:
        """The newest ``MOST_WINDOWS`` windows that start in [since, until)."""
        with self._store.read() as unit:
            rows = unit.monitors.reports_of(endpoint, variant, since, until, 2 * MOST_WINDOWS)
        newest: dict[float, DriftReport] = {}
        for row in rows:  # of two versions in a window the one that was looked at last
            if len(newest) < MOST_WINDOWS or row.start in newest:
                report = report_of(row)
                known = newest.get(report.start)
                if known is None or report.rows > known.rows:
                    newest[report.start] = report
        return heat_of(endpoint, variant, [newest[start] for start in sorted(newest)])

    def distribution(
        self, endpoint: str, column: str, variant: str = "baseline", start: float | None = None
    ) -> Distribution:
        """Of the window that starts at ``start``, or else the newest. Raises NotFound."""
        row, reference, report = self._window(endpoint, variant, start)
        if column not in reference.profile.columns:
            names = ", ".join(list(reference.profile.columns)[:20])
            raise NotFound(f"the baseline {reference.name} has no column {column[:80]!r}; it has {names}")
        return Distribution(
            endpoint=endpoint,
            variant=variant,
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

    def window(self, endpoint: str, variant: str = "baseline", start: float | None = None) -> WindowView:
        """Of the window that starts at ``start``, or else the newest. Raises NotFound."""
        row, reference, report = self._window(endpoint, variant, start)
        window = profiles.decode(row.body)
        return WindowView(
            endpoint=endpoint,
            variant=variant,
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

    def _window(
        self, endpoint: str, variant: str, start: float | None
    ) -> tuple[ProfileRow, Reference, DriftReport | None]:
        with self._store.read() as unit:
            row = unit.monitors.newest_profile(endpoint, variant, start)
            if row is None:
                when = "" if start is None else f" that starts at {start:.0f}"
                raise NotFound(f"there is no window of {endpoint[:80]}'s {variant[:80]}{when}")
            found = unit.monitors.report(report_id(endpoint, variant, row.version, row.start, row.seconds))
        reference = self._references.by_digest(row.baseline)
        if reference is None:
            raise NotFound("the baseline that this window was compared with is gone")
        return row, reference, None if found is None else report_of(found)

    def performance(self, endpoint: str, since: float, until: float, variant: str | None = None) -> list[Performance]:
        """Of windows that start in [since, until), in the order of time, of every basis."""
        with self._store.read() as unit:
            rows = unit.monitors.performance(endpoint, since, until, variant)
        return [msgspec.json.decode(row.body, type=Performance) for row in rows]


def note_of(endpoint: str, state: MonitorState, now: float, every: float) -> str:
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


def report_of(row: DriftReportRow) -> DriftReport:
    return msgspec.json.decode(row.body, type=DriftReport)


def broken_of(report: DriftReport) -> list[str]:
    return [
        f"{finding.check}: {finding.column}" if finding.column else finding.check
        for finding in report.findings
        if finding.broken
    ]


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


def between(
    since: float | None, until: float | None, now: float, seconds: float, windows: int = 48
) -> tuple[float, float]:
    """What is looked at where nobody says: the last ``windows``. Raises InvalidInput."""
    end = now if until is None else until
    begin = end - windows * seconds if since is None else since
    if not (math.isfinite(begin) and math.isfinite(end) and begin < end):
        raise InvalidInput("since is before until", ("query", "since"))
    return max(begin, 0.0), end
