"""What people see of monitoring: how each monitor is, drift over time, a column then and now, quality over time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from tidegate.clock import Clock
from tidegate.control.monitoring.checking import report_id
from tidegate.control.monitoring.comparison import Distribution, WindowView, distribution_of, window_of
from tidegate.control.monitoring.folding import Reference
from tidegate.control.monitoring.heat import Heat, heat_of
from tidegate.control.monitoring.monitor import Monitor, Newest, monitor_of
from tidegate.control.monitoring.records import Basis, DriftReport, Performance
from tidegate.control.monitoring.references import References
from tidegate.control.monitoring.state import Compared, MonitorState, read_state
from tidegate.errors import InvalidInput, NotFound
from tidegate.monitor_plan import MonitorPlan
from tidegate.settings import Settings
from tidegate.storage.records import DriftReportRow, MonitorRow, PerformanceRow, ProfileRow
from tidegate.storage.store import Store, Unit

MOST_WINDOWS = 500
"""Of one picture."""


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
        now = self._clock.wall()
        state = read_state(row.body) if row is not None else MonitorState()
        cursor = 0 if row is None else max(row.cursor, 0)
        return monitor_of(
            name,
            plan,
            state,
            [_newest(unit, name, one) for one in state.compared],
            now=now,
            cursor=cursor,
            waiting=unit.events.waiting(name, cursor),
            firing=firing,
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
        return distribution_of(*self._window(endpoint, variant, start), column)

    def window(self, endpoint: str, variant: str = "baseline", start: float | None = None) -> WindowView:
        """Of the window that starts at ``start``, or else the newest. Raises NotFound."""
        return window_of(*self._window(endpoint, variant, start))

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
        return [performance_of(row) for row in rows]


def _newest(unit: Unit, endpoint: str, one: Compared) -> Newest:
    def quality(basis: Basis) -> Performance | None:
        row = unit.monitors.newest_performance(endpoint, one.variant, one.version, basis)
        return None if row is None else performance_of(row)

    row = unit.monitors.report(one.report) if one.report else None
    return Newest(None if row is None else report_of(row), quality("prediction"), quality("estimated"))


def report_of(row: DriftReportRow) -> DriftReport:
    return msgspec.json.decode(row.body, type=DriftReport)


def performance_of(row: PerformanceRow) -> Performance:
    return msgspec.json.decode(row.body, type=Performance)


def between(
    since: float | None, until: float | None, now: float, seconds: float, windows: int = 48
) -> tuple[float, float]:
    """What is looked at where nobody says: the last ``windows``. Raises InvalidInput."""
    end = now if until is None else until
    begin = end - windows * seconds if since is None else since
    if not (math.isfinite(begin) and math.isfinite(end) and begin < end):
        raise InvalidInput("since is before until", ("query", "since"))
    return max(begin, 0.0), end
