"""Second part of a look: windows that have their turn are checked, and the alerts hear of it.

Reports, alerts and notifications are written in one transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec
from msgspec.structs import replace

from tidegate.clock import Clock
from tidegate.control.monitoring import checking, observing
from tidegate.control.monitoring.book import Book, Page
from tidegate.control.monitoring.horizon import Horizon, share_of
from tidegate.control.monitoring.raising import Tell, needs_looking, raise_alerts
from tidegate.control.monitoring.records import DriftReport, Finding
from tidegate.control.monitoring.served import Served
from tidegate.control.monitoring.state import MOST_COUNTED, MonitorState, OpenWindow, named
from tidegate.monitor_plan import MonitorPlan
from tidegate.storage.records import DriftReportRow

QUIET_SECONDS = 60.0
"""How often a look that found nothing new is written down."""


class Windows:
    def __init__(self, book: Book, served: Served, plan: MonitorPlan, tell: Tell, clock: Clock) -> None:
        self._book = book
        self._served = served
        self._plan = plan
        self._tell = tell
        self._clock = clock

    def check(self, page: Page, until: float) -> Page:
        """``until``: up to when predictions were read, where some are left."""
        row, state = page
        book, now = self._book, self._clock.wall()
        horizon = Horizon(now, book.seconds, until)
        compared = self._served.compared(state.compared)
        watch = self._served.watch(compared)
        due = horizon.due(state.open, self._plan.min_rows)
        reports = [report for one in due if (report := self._report(one, state, horizon)) is not None]
        silent = list(self._silent(state, {one.start for one in state.open if one.variant == "baseline"}, horizon))
        seen = [
            observation
            for report in sorted([*reports, *silent], key=lambda report: report.start)
            for observation in observing.of_report(report, self._plan)
        ]
        with book.reading() as unit:
            waiting = needs_looking(unit, book.endpoint, watch, now)
        quiet = not due and not silent and not waiting and compared == state.compared
        if quiet and not state.trouble and now - state.looked < QUIET_SECONDS:
            return page
        newest = {(report.variant, report.version): report.id for report in sorted(reports, key=lambda one: one.start)}
        over = {one.start for one in due if horizon.is_over(one.start)} if self._plan.performance.estimate else set()
        state = replace(
            state,
            measure=tuple(dict.fromkeys([*state.measure, *(("estimated", start) for start in sorted(over))])),
            open=tuple(horizon.left(state.open, due)),
            volume=max(state.volume, horizon.first_unjudged),
            compared=tuple(replace(one, report=newest.get((one.variant, one.version), one.report)) for one in compared),
            looked=now,
            trouble="",
        )
        with book.writing() as unit:
            for report in (*reports, *silent):
                unit.monitors.put_report(_row_of(report))
            stored = self._tell(unit, raise_alerts(unit, book.endpoint, seen, [*reports, *silent], watch, now))
            written = book.write(unit, row, state)
        stored()
        return written

    def _report(self, one: OpenWindow, state: MonitorState, horizon: Horizon) -> DriftReport | None:
        """None where there is nothing left to compare the window with."""
        reference = self._served.reference_of(one.key)
        window = None if reference is None else self._book.profile(one.key)
        if reference is None or window is None:
            return None
        over = horizon.is_over(one.start)
        judged = over and one.variant == "baseline"
        return checking.check(
            reference,
            window,
            self._plan,
            endpoint=self._book.endpoint,
            variant=one.variant,
            version=one.version,
            start=one.start,
            seconds=self._book.seconds,
            now=horizon.now,
            complete=over,
            volume=self._volume(state, one.start) if judged else None,
            share=share_of(one.looks, over),
        )

    def _volume(self, state: MonitorState, start: float) -> Finding | None:
        """None where silence is fine, and where not all rows of the window were counted."""
        forgotten = len(state.counted) >= MOST_COUNTED and named(start) not in state.counted
        whole = start >= state.begun and not forgotten
        return checking.volume_of(state.counted, start, self._plan) if whole else None

    def _silent(self, state: MonitorState, looked_at: Collection[float], horizon: Horizon) -> Iterator[DriftReport]:
        """Reports of windows that are over and had no row of the baseline, where that is not fine."""
        if not self._plan.quality.min_rows or "baseline" not in self._served.models:
            return
        compared = next((one for one in state.compared if one.variant == "baseline"), None)
        for start in horizon.unjudged(state.volume):
            volume = self._volume(state, start)
            if volume is None or start in looked_at:
                continue
            yield checking.silent(
                volume,
                endpoint=self._book.endpoint,
                variant="baseline",
                version=self._served.models["baseline"].version,
                baseline="" if compared is None else compared.baseline,
                start=start,
                seconds=self._book.seconds,
                now=horizon.now,
            )


def _row_of(report: DriftReport) -> DriftReportRow:
    return DriftReportRow(
        id=report.id,
        endpoint=report.endpoint,
        variant=report.variant,
        version=report.version,
        start=report.start,
        seconds=report.seconds,
        created=report.created,
        drifted=report.drifted,
        body=msgspec.json.encode(report).decode(),
    )
