"""The monitor of every endpoint that has one: looks again and again, and answers what people ask.

Of several control planes one looks by itself; each may look when a person asks, since what is written depends on nobody
else having written since.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from tidegate.clock import Clock
from tidegate.control.access import audit
from tidegate.control.jobs.queue import Queue
from tidegate.control.lease import Leadership
from tidegate.control.monitoring import alerts, notify
from tidegate.control.monitoring.book import Lead, save
from tidegate.control.monitoring.comparison import Distribution, WindowView
from tidegate.control.monitoring.heat import Heat
from tidegate.control.monitoring.kept import Baselines
from tidegate.control.monitoring.looking import look
from tidegate.control.monitoring.monitor import Monitor
from tidegate.control.monitoring.notification import notification_of
from tidegate.control.monitoring.raising import AlertChange, Told, event_row, row_of, withdraw_all
from tidegate.control.monitoring.records import Alert, DriftReport, Performance
from tidegate.control.monitoring.references import References
from tidegate.control.monitoring.state import NOT_BEGUN, MonitorState, read_state, write_state
from tidegate.control.monitoring.views import Views
from tidegate.control.registry.base import Registry
from tidegate.errors import Conflict, InvalidInput, LeaseLost, LostRace, NotFound, StoreAway, TidegateError
from tidegate.monitor_plan import MonitorPlan
from tidegate.section import seconds_of
from tidegate.settings import Settings
from tidegate.storage.records import MonitorRow
from tidegate.storage.store import Store, Unit

logger = logging.getLogger("tidegate.monitoring")

LEASE = "monitors"
TRIES = 5
LONGEST_SILENCE = 366 * 86_400.0


class MonitorService:
    """``holder`` names this control plane; ``base`` is the configuration's folder. ``views`` and ``baselines`` answer what
    changes nothing, and what is compared with."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        settings: Settings,
        clock: Clock,
        holder: str,
        *,
        queue: Queue | None = None,
        base: Path | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._queue = queue or Queue(store, settings.jobs, clock)
        self._leadership = Leadership(store, clock, LEASE, holder, settings.control.lease_seconds)
        self._references = References(store, registry, clock, base or Path.cwd())
        self._due: dict[str, float] = {}
        self._turn = threading.Lock()
        self._tidied = False
        self.views = Views(store, self._references, settings, clock)
        self.baselines = Baselines(store, self._references, settings, clock)

    def tick(self) -> None:
        """A look at every endpoint whose time has come; does nothing while another control plane holds the lease. One
        that cannot be looked at does not stop the others. Raises StoreAway."""
        self._withdraw_gone()
        for name, plan in self.watched().items():
            now = self._clock.monotonic()
            if now < self._due.get(name, 0.0):
                continue
            lease = self._leadership.take()
            if lease is None:
                return
            self._due[name] = now + seconds_of(plan.every)
            try:
                if self._look(name, plan, self._leadership.take):
                    self._due[name] = now
            except StoreAway:
                raise
            except LeaseLost as error:
                self._leadership.lose(str(error))
                return
            except Conflict as error:  # a person was first; the next look sees what came of it
                logger.info("monitor of %s: %s", name, error)
            except Exception as error:  # noqa: BLE001 - whatever it is, the other endpoints are looked at
                with contextlib.suppress(LostRace):
                    self._say(name, error)

    def leave(self) -> None:
        """Hands the lease back, so that another control plane goes on at once."""
        self._leadership.give_back()

    def watched(self) -> dict[str, MonitorPlan]:
        return {name: one.monitor for name, one in self._settings.endpoints.items() if one.monitor is not None}

    def run(self, endpoint: str) -> Monitor:
        """A look now. Raises NotFound, and what a look raises."""
        plan = self.plan(endpoint)
        for attempt in range(TRIES):
            try:
                self._look(endpoint, plan, None)
                return self.views.monitor(endpoint, plan)
            except LostRace:  # the look that comes by itself was at it at this moment
                if attempt == TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    def plan(self, endpoint: str) -> MonitorPlan:
        """Raises NotFound."""
        plan = self.watched().get(endpoint)
        if plan is None:
            raise NotFound(self.absent(endpoint))
        return plan

    @staticmethod
    def absent(endpoint: str) -> str:
        return f"the endpoint {endpoint[:80]!r} is not watched; add endpoints.{endpoint[:80]}.monitor to tidegate.yaml"

    def monitors(self) -> list[Monitor]:
        return self.views.monitors()

    def get(self, endpoint: str) -> Monitor:
        """Raises NotFound."""
        return self.views.monitor(endpoint, self.plan(endpoint))

    def reports(
        self, endpoint: str | None = None, limit: int = 50, cursor: str | None = None, among: Sequence[str] = ()
    ) -> list[DriftReport]:
        """Newest first."""
        return self.views.reports(endpoint, limit, cursor, among)

    def report(self, name: str) -> DriftReport:
        """Raises NotFound."""
        return self.views.report(name)

    def heat(self, endpoint: str, since: float, until: float, variant: str = "baseline") -> Heat:
        return self.views.heat(endpoint, since, until, variant)

    def distribution(
        self, endpoint: str, column: str, variant: str = "baseline", start: float | None = None
    ) -> Distribution:
        """Raises NotFound."""
        return self.views.distribution(endpoint, column, variant, start)

    def window(self, endpoint: str, variant: str = "baseline", start: float | None = None) -> WindowView:
        """Raises NotFound."""
        return self.views.window(endpoint, variant, start)

    def performance(self, endpoint: str, since: float, until: float, variant: str | None = None) -> list[Performance]:
        return self.views.performance(endpoint, since, until, variant)

    def alerts(
        self,
        endpoint: str | None = None,
        states: Sequence[str] = (),
        limit: int = 50,
        cursor: str | None = None,
        among: Sequence[str] = (),
    ) -> list[Alert]:
        """Those that changed last first."""
        with self._store.read() as unit:
            rows = unit.alerts.list(endpoint, tuple(states), limit, cursor, among)
        return [msgspec.json.decode(row.body, type=Alert) for row in rows]

    def alert(self, name: str) -> Alert:
        """Raises NotFound."""
        with self._store.read() as unit:
            row = unit.alerts.get(name)
        if row is None:
            raise NotFound(f"there is no alert {name[:80]!r}")
        return msgspec.json.decode(row.body, type=Alert)

    def alert_changes(self, name: str) -> list[tuple[int, float, str, AlertChange]]:
        """What happened to an alert, oldest first: revision, time, state, change."""
        with self._store.read() as unit:
            rows = unit.alerts.events(name)
        return [(row.revision, row.time, row.state, msgspec.json.decode(row.body, type=AlertChange)) for row in rows]

    def silence(self, name: str, seconds: float, *, who: str, reason: str = "") -> Alert:
        """Nobody is notified for so long. Raises NotFound, InvalidInput."""
        if not 0 < seconds <= LONGEST_SILENCE:
            raise InvalidInput("a silence lasts more than 0 and at most 366 days", ("seconds",))
        until = self._clock.wall() + seconds
        return self._change(name, "silence", lambda alert: alerts.silence(alert, until, who), who, reason)

    def unsilence(self, name: str, *, who: str, reason: str = "") -> Alert:
        now = self._clock.wall()
        return self._change(name, "unsilence", lambda alert: alerts.unsilence(alert, now), who, reason)

    def _change(self, name: str, verb: str, change: Callable[[Alert], Alert], who: str, reason: str) -> Alert:
        now = self._clock.wall()
        for attempt in range(TRIES):
            with self._store.read() as unit:
                row = unit.alerts.get(name)
            if row is None:
                raise NotFound(f"there is no alert {name[:80]!r}")
            before = msgspec.json.decode(row.body, type=Alert)
            after = change(before)
            told = AlertChange(
                event=verb, before=before.state, after=after.state, who=who, reason=reason, until=after.silenced_until
            )
            try:
                with self._store.begin() as unit:
                    revision = row.revision + 1
                    unit.alerts.save(row_of(after, revision), event_row(after, revision, now, told), row.revision)
                    audit.record(
                        unit, who, f"alert.{verb}", f"alert:{name}", at=now, before=before, after=after, reason=reason
                    )
            except LostRace:  # a look was first
                if attempt == TRIES - 1:
                    raise
            else:
                return after
        raise AssertionError("unreachable")

    def _withdraw_gone(self) -> None:
        """Once: alerts of endpoints that have no monitor any more would fire for ever."""
        if self._tidied:
            return
        with self._store.read() as unit:
            gone = sorted(set(unit.alerts.firing()) - set(self.watched()))
        for name in gone:
            lease = self._leadership.take()
            if lease is None:
                return
            with self._store.begin() as unit:
                now = self._clock.wall()
                unit.leases.check(lease, now)
                why = f"{name} is not watched any more"
                stored = self._tell(unit, withdraw_all(unit, name, MonitorPlan(), why, now))
            stored()
        self._tidied = True

    def _look(self, name: str, plan: MonitorPlan, lead: Lead | None) -> bool:
        """Whether more is there to read."""
        endpoint = self._settings.endpoints[name]
        with self._turn:
            return look(self._store, self._references, self._clock, self._tell, name, endpoint, plan, lead)

    def _tell(self, unit: Unit, told: Told) -> Callable[[], None]:
        notification = notification_of(told)
        notify.outbox(unit, self._queue, notification, self._settings.alerts)
        return lambda: notify.log(notification)

    def _say(self, name: str, error: Exception) -> None:
        """In the monitor's own state, and once in the log."""
        text = str(error) if isinstance(error, TidegateError) else f"{type(error).__name__}; the log says more"
        with self._store.begin(durable=False) as unit:
            row = unit.monitors.get(name) or MonitorRow(name, NOT_BEGUN, self._clock.wall(), "")
            state = read_state(row.body) if row.body else MonitorState()
            if state.trouble == text:
                return
            told = msgspec.structs.replace(state, trouble=text, revision=state.revision + 1)
            save(unit, MonitorRow(name, row.cursor, row.changed, write_state(told)), state.revision)
        foreseen = isinstance(error, TidegateError)
        logger.error("monitor of %s: %s; it is tried again", name, text, exc_info=None if foreseen else error)
