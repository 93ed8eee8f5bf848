"""Third part of a look: windows that got labels are measured, those that are over are estimated, and the alerts hear of it.

What is measured, the alerts and their notifications are written in one transaction.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from tidegate.clock import Clock
from tidegate.control.monitoring.book import Book, Page
from tidegate.control.monitoring.horizon import settling
from tidegate.control.monitoring.measuring import measured, news_of, observations
from tidegate.control.monitoring.raising import Tell, raise_alerts
from tidegate.control.monitoring.records import Basis, Performance
from tidegate.control.monitoring.served import Served
from tidegate.control.monitoring.state import MOST_PENDING, read_state
from tidegate.monitor_plan import PerformancePlan
from tidegate.section import seconds_of
from tidegate.storage.records import PerformanceRow

MEASURE_SECONDS = 5.0
"""Of one look, for labels; what remains is measured by the next."""
LABELS_BEFORE = 120.0
"""Seconds that a label may be under way to the store."""
LABELS_WRITTEN = 180.0
"""How often it is written down that no label came."""

Waiting = tuple[Basis, float]
"""A window, by basis and start, whose quality waits to be measured."""


class Labels:
    def __init__(self, book: Book, served: Served, plan: PerformancePlan, tell: Tell, clock: Clock) -> None:
        self._book = book
        self._served = served
        self._plan = plan
        self._tell = tell
        self._clock = clock

    def measure(self, page: Page) -> None:
        """Windows that got labels since the last look, with their bounds; estimates of windows that are over."""
        row, state = page
        book, plan, now = self._book, self._plan, self._clock.wall()
        oldest = now - seconds_of(plan.late) - book.seconds
        with book.reading() as unit:
            since = min(state.labels, now - LABELS_BEFORE)  # after a clock that went back
            news = news_of(unit, book.endpoint, plan.metric, since, oldest, book.seconds)
        fresh: list[Waiting] = [("prediction", start) for start in news.made]
        fresh += [("arrival", start) for start in news.came]
        fresh.sort(key=lambda one: (one[1], one[0]))
        waited = [(basis, start) for basis, start in state.measure if start >= oldest - book.seconds]
        # Those that have waited first: labels that go on coming for one window must not keep another from its turn.
        found, left = self._measured(list(dict.fromkeys([*waited, *fresh])))
        found.sort(key=lambda one: one.start)
        told = news.any or now - LABELS_BEFORE - since >= LABELS_WRITTEN
        state = replace(state, labels=now - LABELS_BEFORE if told else since, measure=tuple(left[-MOST_PENDING:]))
        if not found and state == read_state(row.body):
            return
        trained = self._served.trained() if found else {}
        with book.reading() as unit:
            seen = list(observations(unit, found, trained, plan, now, settling(book.seconds)))
        watch = self._served.watch(state.compared)
        with book.writing() as unit:
            for one in found:
                unit.monitors.put_performance(_row_of(one))
            stored = self._tell(unit, raise_alerts(unit, book.endpoint, seen, [], watch, now))
            book.write(unit, row, state)
        stored()

    def _measured(self, waiting: list[Waiting]) -> tuple[list[Performance], list[Waiting]]:
        """What is different from what is known, and what there was no time for."""
        book = self._book
        end = self._clock.monotonic() + MEASURE_SECONDS
        found: list[Performance] = []
        for place, (basis, start) in enumerate(waiting):
            if place and self._clock.monotonic() >= end:
                return found, waiting[place:]
            with book.reading() as unit:
                rows = unit.monitors.performance(book.endpoint, start, start + book.seconds / 2)
                known = {row.body for row in rows}
                now = measured(unit, book.endpoint, basis, start, book.seconds, self._plan)
                found += [one for one in now if _row_of(one).body not in known]
        return found, []


def _row_of(found: Performance) -> PerformanceRow:
    return PerformanceRow(
        endpoint=found.endpoint,
        variant=found.variant,
        version=found.version,
        basis=found.basis,
        start=found.start,
        seconds=found.seconds,
        labels=found.labels,
        body=msgspec.json.encode(found).decode(),
    )
