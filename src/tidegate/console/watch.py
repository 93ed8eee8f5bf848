"""What the store has of monitoring, as the pages show it: windows, quality, alerts and releases of an endpoint."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from tidegate.clock import Clock
from tidegate.console import text
from tidegate.console.courses import Mark
from tidegate.console.heat import newest_of_each_window
from tidegate.control.access.caller import Caller
from tidegate.control.monitoring.records import Alert, Basis, DriftReport
from tidegate.control.releases.history import release_of
from tidegate.errors import Refused
from tidegate.monitor_plan import MonitorPlan
from tidegate.settings import Settings

if TYPE_CHECKING:
    from tidegate.storage.store import Store

RAISED = ("firing", "pending")
FRESH_SECONDS = 2.0
MOST_ALERTS = 500
MOST_RELEASES = 20
BASES: Mapping[str, Basis] = {"prediction": "prediction", "arrival": "arrival"}
"""Whose time counts for the windows of labels, by its name in an address."""


class Watch:
    """Reads for every viewer anew, but the alerts that fire, which every page counts; safe between threads."""

    def __init__(self, store: Store, settings: Settings, clock: Clock) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._looked: float | None = None
        self._firing: Mapping[str, int] = {}

    def plans(self, visitor: Caller) -> dict[str, MonitorPlan]:
        """Of the endpoints that are watched, as far as the visitor may see them."""
        return {
            name: one.monitor
            for name, one in self._settings.endpoints.items()
            if one.monitor is not None and visitor.facts.reaches(name)
        }

    def reports(self, endpoint: str, since: float, until: float, variant: str) -> list[DriftReport]:
        """Of windows that start in [since, until), in the order of time. Raises StoreAway."""
        with self._store.read() as unit:
            rows = unit.monitors.reports_of(endpoint, variant, since, until, MOST_ALERTS)
        found = [reports_of(row.body) for row in rows]
        return [found for _, found in sorted(newest_of_each_window(found, variant).items())]

    def marks(self, endpoint: str, since: float, until: float) -> list[Mark]:
        """Promotions and returns in this time."""
        found = []
        with self._store.read() as unit:
            for row in unit.releases.list(endpoint=endpoint, limit=MOST_RELEASES):
                release = release_of(row)
                for event in unit.releases.events(row.id):
                    if event.kind == "promoted" and since <= event.time < until:
                        found.append(Mark(event.time, f"{text.version(release.candidate.version)} promoted", "good"))
                    elif event.kind == "rolled_back" and since <= event.time < until:
                        found.append(Mark(event.time, f"{text.version(release.candidate.version)} rolled back", "bad"))
        return sorted(found)

    def firing(self, visitor: Caller) -> dict[str, int]:
        """Alerts that fire and are not silenced, by endpoint, of what the visitor may see; none while the store is away."""
        with self._lock:
            passed = None if self._looked is None else self._clock.monotonic() - self._looked
            if passed is None or not 0 <= passed < FRESH_SECONDS:
                try:
                    with self._store.read() as unit:
                        rows = unit.alerts.list(states=("firing",), limit=MOST_ALERTS)
                    now = self._clock.wall()
                    self._firing = Counter(row.endpoint for row in rows if alert_of(row.body).silenced_until <= now)
                except Refused:
                    self._firing = {}
                self._looked = self._clock.monotonic()
            return {endpoint: count for endpoint, count in self._firing.items() if visitor.facts.reaches(endpoint)}

    def forget(self) -> None:
        """The next look is a new one: something was changed."""
        with self._lock:
            self._looked = None


def reports_of(body: str) -> DriftReport:
    return msgspec.json.decode(body, type=DriftReport)


def alert_of(body: str) -> Alert:
    return msgspec.json.decode(body, type=Alert)
