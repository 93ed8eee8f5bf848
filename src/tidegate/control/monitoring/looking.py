"""One look at one endpoint, in three parts: new predictions are folded, windows are checked, labels are measured.

Each part reads, decides apart from any transaction, and writes in one: the profiles with the cursor, the reports with the
alerts and their notifications. A write goes through only if nobody wrote since the read, and under the lease where one is
given; so a look that was cut anywhere leaves nothing half, and what it did not write down is done again.
"""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from tidegate.clock import Clock
from tidegate.control.monitoring import checking, observing, profiles
from tidegate.control.monitoring.alerts import Observation
from tidegate.control.monitoring.folding import Folded, Reference, fold
from tidegate.control.monitoring.measuring import measured, news_of, observations, trained_metrics
from tidegate.control.monitoring.profiles import Profile
from tidegate.control.monitoring.raising import Told, Watch, needs_looking, raise_alerts
from tidegate.control.monitoring.records import Basis, DriftReport, Finding, Performance
from tidegate.control.monitoring.references import References, model_of
from tidegate.control.monitoring.state import (
    MOST_COUNTED,
    MOST_PENDING,
    NOT_BEGUN,
    Compared,
    MonitorState,
    OpenWindow,
    WindowKey,
    named,
    newest_of,
    read_state,
    start_of,
    write_state,
)
from tidegate.errors import LeaseLost, LostRace
from tidegate.monitor_plan import MonitorPlan
from tidegate.observations import PredictionEvent
from tidegate.section import seconds_of
from tidegate.settings import EndpointSettings
from tidegate.storage.records import DriftReportRow, Lease, MonitorRow, PerformanceRow, ProfileRow
from tidegate.storage.store import Store, Unit
from tidegate.types import EndpointPlan, ModelRef

BATCH = 1000
"""Events that are read at once."""
FOLD_SECONDS = 5.0
"""Of one look; what remains is read by the next."""
MOST_CHECKS = 200
"""Windows that one look checks."""
MOST_SILENT = 24
"""Windows without a row that are reported after a time in which nobody looked."""
SETTLE_SECONDS = 3.0
"""After the end of a window, for what is still on its way to the store."""
QUIET_SECONDS = 60.0
"""How often a look that found nothing new is written down."""
MOST_SNAPSHOTS = 64
MEASURE_SECONDS = 5.0
"""Of one look, for labels; what remains is measured by the next."""
LABELS_BEFORE = 120.0
"""Seconds that a label may be under way to the store."""
LABELS_WRITTEN = 180.0
"""How often it is written down that no label came."""

Tell = Callable[["Unit", Told], Callable[[], None]]
"""Queues a notification in the unit; what it gives is called once the unit is kept."""


class Look:
    """``name``'s monitor, for as long as one look takes."""

    def __init__(
        self,
        store: Store,
        references: References,
        clock: Clock,
        tell: Tell,
        name: str,
        endpoint: EndpointSettings,
        plan: MonitorPlan,
        lead: Callable[[], Lease | None] | None,
    ) -> None:
        """``lead`` gives the lease, renewed where it is time; None where a person looks."""
        self._store = store
        self._references = references
        self._clock = clock
        self._tell = tell
        self._name = name
        self._endpoint = endpoint
        self._plan = plan
        self._lead = lead
        self._seconds = seconds_of(plan.window)
        self.more = False
        """Whether it stopped for want of time, with predictions left to read."""
        self._read_to = math.inf
        """Up to when predictions were read, where some are left: what came later is not known to have been silence."""
        self._served: dict[str, ModelRef] = {}
        self._shadows: dict[int, Mapping[str, bool]] = {}
        self._models: dict[int, Mapping[str, ModelRef]] = {}
        self._found: dict[tuple[str, str], Reference | str] = {}
        self._windows: dict[WindowKey, Profile] = {}

    def run(self) -> None:
        """Raises StoreAway, RegistryAway, LeaseLost, and LostRace when another looked at this moment."""
        row, state = self._begin()
        row, state = self._fold(row, state)
        row, state = self._check(row, state)
        self._measure(row, state)

    def _begin(self) -> tuple[MonitorRow, MonitorState]:
        now = self._clock.wall()
        current = start_of(now, self._seconds)
        with self._store.read() as unit:
            row = unit.monitors.get(self._name)
            latest = unit.snapshots.latest()
            plan = None if latest is None else latest.snapshot.endpoints.get(self._name)
            row = row or MonitorRow(self._name, NOT_BEGUN, now, "")
            if row.cursor == NOT_BEGUN:
                # What came in the last whole window counts too; the rest is the past of before it was watched.
                first = unit.events.first_since(self._name, current - self._seconds)
                row = replace(row, cursor=first - 1 if first else unit.events.newest(self._name))
        self._served = _models(plan) if plan is not None else {}
        state = read_state(row.body) if row.body else MonitorState()
        if state.window != self._seconds:
            # On the first look the last window is whole; then, in windows of another length, the running one is not.
            whole = current + self._seconds if state.window else current - self._seconds
            volume = max(whole, current)
            state = replace(state, window=self._seconds, open=(), counted={}, begun=whole, volume=volume, measure=())
        return row, state

    def _fold(self, row: MonitorRow, state: MonitorState) -> tuple[MonitorRow, MonitorState]:
        end = self._clock.monotonic() + FOLD_SECONDS
        while True:
            with self._store.read() as unit:
                batch = unit.events.after(row.cursor, self._name, BATCH)
                for number in {event.snapshot for _, event in batch} - set(self._models):
                    self._know(unit, number)
            if not batch:
                return row, state
            folded = fold([event for _, event in batch], self._seconds, self._reference, self._known, self._is_shadow)
            state = replace(_with(state, folded), compared=self._compared(state))
            with self._writing(durable=False) as unit:
                for key, profile in folded.windows.items():
                    unit.monitors.put_profile(self._profile_row(key, profile))
                row, state = self._write(unit, row, state, cursor=batch[-1][0])
            self._windows.update(folded.windows)
            if len(batch) < BATCH:
                return row, state
            if self._clock.monotonic() >= end:
                self.more = True
                self._read_to = statistics.median(event.time for _, event in batch)
                return row, state

    def _check(self, row: MonitorRow, state: MonitorState) -> tuple[MonitorRow, MonitorState]:
        now = self._clock.wall()
        compared = self._compared(state)
        due = [one for one in state.open if self._is_due(one, now)][:MOST_CHECKS]
        reports: list[DriftReport] = []
        reports += filter(None, (self._report(one, state, now) for one in due))
        silent = list(self._silent(state, {one.start for one in state.open if one.variant == "baseline"}, now))
        seen = [
            observation
            for report in sorted([*reports, *silent], key=lambda report: report.start)
            for observation in observing.of_report(report, self._plan)
        ]
        with self._store.read() as unit:
            waiting = needs_looking(unit, self._name, self._watch(compared), now)
        quiet = not due and not silent and not waiting and compared == state.compared
        if quiet and not state.trouble and now - state.looked < QUIET_SECONDS:
            return row, state
        newest = {(report.variant, report.version): report.id for report in sorted(reports, key=lambda one: one.start)}
        over = {one.start for one in due if self._is_over(one.start, now)} if self._plan.performance.estimate else set()
        state = replace(
            state,
            measure=tuple(dict.fromkeys([*state.measure, *(("estimated", start) for start in sorted(over))])),
            open=tuple(self._left(state.open, due, now)),
            volume=max(state.volume, self._first_unjudged(now)),
            compared=tuple(replace(one, report=newest.get((one.variant, one.version), one.report)) for one in compared),
            looked=now,
            trouble="",
        )
        with self._writing() as unit:
            for report in (*reports, *silent):
                unit.monitors.put_report(_report_row(report))
            stored = self._raise(unit, seen, [*reports, *silent], compared, now)
            written = self._write(unit, row, state)
        stored()
        return written

    def _measure(self, row: MonitorRow, state: MonitorState) -> None:
        """Windows that got labels since the last look, with their bounds; estimates of windows that are over."""
        plan, now = self._plan.performance, self._clock.wall()
        oldest = now - seconds_of(plan.late) - self._seconds
        with self._store.read() as unit:
            since = min(state.labels, now - LABELS_BEFORE)  # after a clock that went back
            news = news_of(unit, self._name, plan.metric, since, oldest, self._seconds)
        fresh: list[tuple[Basis, float]] = [("prediction", start) for start in news.made]
        fresh += [("arrival", start) for start in news.came]
        fresh.sort(key=lambda one: (one[1], one[0]))
        waited = [(basis, start) for basis, start in state.measure if start >= oldest - self._seconds]
        # Those that have waited first: labels that go on coming for one window must not keep another from its turn.
        found, left = self._measured(list(dict.fromkeys([*waited, *fresh])))
        found.sort(key=lambda one: one.start)
        told = news.any or now - LABELS_BEFORE - since >= LABELS_WRITTEN
        state = replace(state, labels=now - LABELS_BEFORE if told else since, measure=tuple(left[-MOST_PENDING:]))
        if not found and state == read_state(row.body):
            return
        trained = {model.version: self._trained(model) for model in self._served.values()} if found else {}
        with self._store.read() as unit:
            settled = min(SETTLE_SECONDS, self._seconds / 2)
            seen = list(observations(unit, found, trained, plan, now, settled))
        with self._writing() as unit:
            for one in found:
                unit.monitors.put_performance(_performance_row(one))
            stored = self._raise(unit, seen, [], state.compared, now)
            self._write(unit, row, state)
        stored()

    def _measured(self, waiting: list[tuple[Basis, float]]) -> tuple[list[Performance], list[tuple[Basis, float]]]:
        """What is different from what is known, and what there was no time for."""
        end = self._clock.monotonic() + MEASURE_SECONDS
        found: list[Performance] = []
        for place, (basis, start) in enumerate(waiting):
            if place and self._clock.monotonic() >= end:
                return found, waiting[place:]
            with self._store.read() as unit:
                known = {row.body for row in unit.monitors.performance(self._name, start, start + self._seconds / 2)}
                now = measured(unit, self._name, basis, start, self._seconds, self._plan.performance)
                found += [one for one in now if _performance_row(one).body not in known]
        return found, []

    def _trained(self, model: ModelRef) -> dict[str, float]:
        version = self._references.version(model)
        return {} if version is None else trained_metrics(version.metadata)

    # What the parts above are made of.

    @contextlib.contextmanager
    def _writing(self, durable: bool = True) -> Iterator[Unit]:
        """Under the lease, which is renewed in good time. Raises LeaseLost."""
        lease = None if self._lead is None else self._lead()
        if self._lead is not None and lease is None:
            raise LeaseLost("another control plane looks now")
        with self._store.begin(durable) as unit:
            if lease is not None:
                unit.leases.check(lease, self._clock.wall())
            yield unit

    def _write(
        self, unit: Unit, row: MonitorRow, state: MonitorState, cursor: int | None = None
    ) -> tuple[MonitorRow, MonitorState]:
        """Raises LostRace."""
        expected, state = state.revision, replace(state, revision=state.revision + 1)
        row = MonitorRow(self._name, row.cursor if cursor is None else cursor, self._clock.wall(), write_state(state))
        save(unit, row, expected)
        return row, state

    def _raise(
        self,
        unit: Unit,
        seen: Sequence[Observation],
        reports: Sequence[DriftReport],
        compared: Sequence[Compared],
        now: float,
    ) -> Callable[[], None]:
        return self._tell(unit, raise_alerts(unit, self._name, seen, reports, self._watch(compared), now))

    def _watch(self, compared: Sequence[Compared]) -> Watch:
        served = {variant: model.version for variant, model in self._served.items()}
        return Watch(self._plan, served, {one.variant: one.note for one in compared if one.note})

    def _know(self, unit: Unit, number: int) -> None:
        published = unit.snapshots.get(number)
        plan = None if published is None else published.snapshot.endpoints.get(self._name)
        if len(self._models) >= MOST_SNAPSHOTS:
            self._models.clear()
        self._models[number] = {} if plan is None else _models(plan)
        self._shadows[number] = {} if plan is None else {one.name: one.shadow for one in plan.variants}

    def _is_shadow(self, event: PredictionEvent) -> bool:
        configured = self._endpoint.variants.get(event.variant)
        known = self._shadows.get(event.snapshot, {})
        return known.get(event.variant, configured is not None and configured.shadow)

    def _reference(self, event: PredictionEvent) -> Reference | None:
        model = self._models.get(event.snapshot, {}).get(event.variant)
        if model is None or model.version != event.version:
            model = model_of(self._endpoint, event.variant, event.version)
        found = self._compare(event.variant, event.version, model)
        return found if isinstance(found, Reference) else None

    def _compare(self, variant: str, version: str, model: ModelRef | None) -> Reference | str:
        key = variant, version
        if key not in self._found:
            self._found[key] = self._references.find(self._name, self._plan.reference, model)
        return self._found[key]

    def _compared(self, state: MonitorState) -> tuple[Compared, ...]:
        """What each variant that is served is compared with."""
        before = {(one.variant, one.version): one.report for one in state.compared}
        rows = []
        for variant, model in self._served.items():
            found = self._compare(variant, model.version, model)
            report = before.get((variant, model.version), "")
            if isinstance(found, Reference):
                rows.append(Compared(variant, model.version, found.name, found.digest, report=report))
            else:
                rows.append(Compared(variant, model.version, note=found, report=report))
        return tuple(rows)

    def _known(self, key: WindowKey) -> Profile | None:
        """The profile of a window as it is so far."""
        if key not in self._windows:
            with self._store.read() as unit:
                row = unit.monitors.profile(self._name, key.variant, key.version, key.baseline, key.start)
            if row is None or row.seconds != self._seconds:
                return None
            self._windows[key] = profiles.decode(row.body)
        return self._windows[key]

    def _profile_row(self, key: WindowKey, profile: Profile) -> ProfileRow:
        return ProfileRow(
            endpoint=self._name,
            variant=key.variant,
            version=key.version,
            baseline=key.baseline,
            start=key.start,
            seconds=self._seconds,
            rows=profile.rows,
            body=profiles.encode(profile).decode(),
        )

    def _is_due(self, one: OpenWindow, now: float) -> bool:
        """Over, or with twice the rows of the last look: one at every row would find something by chance alone."""
        return self._is_over(one.start, now) or one.rows >= max(self._plan.min_rows, 2 * one.checked)

    def _is_over(self, start: float, now: float) -> bool:
        return min(now, self._read_to) >= start + self._seconds + min(SETTLE_SECONDS, self._seconds / 2)

    def _left(self, open_: Sequence[OpenWindow], due: Sequence[OpenWindow], now: float) -> Iterator[OpenWindow]:
        """Windows that go on: those that are not over, or wait for their turn."""
        done = set(due)
        for one in open_:
            if one not in done:
                yield one
            elif not self._is_over(one.start, now):
                yield replace(one, checked=one.rows, looks=one.looks + 1)

    def _report(self, one: OpenWindow, state: MonitorState, now: float) -> DriftReport | None:
        """None where the window's baseline is not the variant's any more: its bins are gone."""
        current = self._found.get((one.variant, one.version))
        reference = current if isinstance(current, Reference) and current.digest == one.baseline else None
        if reference is None and isinstance(current, Reference):
            return None
        reference = reference or self._references.by_digest(one.baseline)
        window = None if reference is None else self._known(one.key)
        if reference is None or window is None:
            return None
        over = self._is_over(one.start, now)
        judged = over and one.variant == "baseline"
        return checking.check(
            reference,
            window,
            self._plan,
            endpoint=self._name,
            variant=one.variant,
            version=one.version,
            start=one.start,
            seconds=self._seconds,
            now=now,
            complete=over,
            volume=self._volume(state, one.start) if judged else None,
            share=share_of(one.looks, over),
        )

    def _volume(self, state: MonitorState, start: float) -> Finding | None:
        """None where silence is fine, and where not all rows of the window were counted."""
        forgotten = len(state.counted) >= MOST_COUNTED and named(start) not in state.counted
        whole = start >= state.begun and not forgotten
        return checking.volume_of(state.counted, start, self._plan) if whole else None

    def _first_unjudged(self, now: float) -> float:
        current = start_of(min(now, self._read_to), self._seconds)
        return current if self._is_over(current - self._seconds, now) else current - self._seconds

    def _silent(self, state: MonitorState, looked_at: set[float], now: float) -> Iterator[DriftReport]:
        """Reports of windows that are over and had no row of the baseline, where that is not fine."""
        if not self._plan.quality.min_rows or "baseline" not in self._served:
            return
        end = self._first_unjudged(now)
        count = min(round((end - state.volume) / self._seconds), MOST_SILENT)
        for number in range(count, 0, -1):
            start = end - number * self._seconds
            volume = self._volume(state, start)
            if volume is None or start in looked_at:
                continue
            compared = next((one for one in state.compared if one.variant == "baseline"), None)
            yield checking.silent(
                volume,
                endpoint=self._name,
                variant="baseline",
                version=self._served["baseline"].version,
                baseline="" if compared is None else compared.baseline,
                start=start,
                seconds=self._seconds,
                now=now,
            )


def _with(state: MonitorState, folded: Folded) -> MonitorState:
    """What the next look has to know of a batch."""
    counted = dict(state.counted)
    for start, rows in folded.counted.items():
        counted[start] = counted.get(start, 0) + rows
    open_ = {one.key: one for one in state.open}
    for key, profile in folded.windows.items():
        open_[key] = replace(open_.get(key) or OpenWindow(*key, rows=0), rows=profile.rows)
    ordered = sorted(open_.values(), key=lambda one: one.key[::-1])
    return replace(
        state,
        counted=newest_of(counted),
        open=tuple(ordered[-MOST_PENDING:]),
        newest=max(state.newest, folded.newest),
        read=state.read + folded.read,
        forced=state.forced + folded.forced,
        unreadable=state.unreadable + folded.unreadable,
        without=state.without + folded.without,
    )


def share_of(looks: int, over: bool) -> float:
    """Of alpha, for the look after ``looks`` of the same window: a quarter, an eighth … while it runs, and what is left when
    it is over. Together they are 1, so that all looks at a window find something by chance as seldom as one look would."""
    spent = 2.0 ** -(looks + 1)
    return 0.5 + spent if over else spent / 2


def save(unit: Unit, row: MonitorRow, expected: int) -> None:
    """``expected`` is the revision that was read. Raises LostRace when another has written since."""
    stored = unit.monitors.get(row.endpoint)
    if stored is None:
        unit.monitors.add(row)
    elif read_state(stored.body).revision != expected:
        raise LostRace(f"the monitor of {row.endpoint} was written by another look at this moment")
    else:
        unit.monitors.put(row)


def _models(plan: EndpointPlan) -> dict[str, ModelRef]:
    return {variant.name: variant.model for variant in plan.variants}


def _report_row(report: DriftReport) -> DriftReportRow:
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


def _performance_row(found: Performance) -> PerformanceRow:
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
