"""Enacts experiments: loads the arms, splits the traffic, writes reports, ends by the rules.

An experiment is published twice: first with every arm at share 0, so that each serving process loads it, and once all
have, with the shares. Everything a change consists of is one transaction, with its entry in the audit log.
"""

from __future__ import annotations

import logging
from typing import Literal

import msgspec

from tidegate.clock import Clock
from tidegate.control.access import audit
from tidegate.control.experiments.experiment import CONTROL, WHOLE, Experiment, Report, Spec
from tidegate.control.experiments.plans import in_force, plan_without, splitting, warming
from tidegate.control.experiments.report import coefficient, make_report, rule_that_holds
from tidegate.control.lease import Leadership
from tidegate.control.registry.base import Registry
from tidegate.control.releases.enact import supersede
from tidegate.control.releases.events import Superseded
from tidegate.control.releases.instances import heard
from tidegate.control.releases.plans import without_previous
from tidegate.errors import Conflict, InvalidInput, LeaseLost, NotFound, StoreAway, UserError
from tidegate.settings import Settings
from tidegate.storage.records import ExperimentRow, Lease
from tidegate.storage.store import Store, Unit
from tidegate.types import EndpointPlan

logger = logging.getLogger("tidegate.experiments")

LEASE = "experiments"
REPORT_SECONDS = 5.0
PATIENCE = 20
"""A report is made anew after so many times as long as the last one took: of a large experiment more seldom."""
LONGEST_PAUSE = 300.0
"""Seconds between two reports at most, also when the process was stopped during one."""
THINNED = 0.01
"""Kept reports lie at least this share of the experiment's age apart: about a thousand in a month."""
MOST_OPEN = 1000
TRIES = 3
SYSTEM = "tidegate"


class ExperimentService:
    """``holder`` names this control plane; of several, one acts."""

    def __init__(self, store: Store, registry: Registry, settings: Settings, clock: Clock, holder: str) -> None:
        self._store = store
        self._registry = registry
        self._settings = settings
        self._clock = clock
        self._leadership = Leadership(store, clock, LEASE, holder, settings.control.lease_seconds)
        self._due: dict[str, float] = {}

    def start(self, spec: Spec, *, who: str, reason: str = "") -> Experiment:
        """Raises InvalidInput for what cannot be, and UserError for what stands in the way now."""
        _check(spec)
        models = {arm.name: self._registry.ref(arm.model) for arm in spec.arms}
        now = self._clock.wall()
        coefficients = self._coefficients(spec, now)
        with self._store.begin() as unit:
            published = unit.snapshots.latest()
            plan = None if published is None else published.snapshot.endpoints.get(spec.endpoint)
            if plan is None:
                raise NotFound(f"no endpoint {spec.endpoint[:80]!r} is published")
            if unit.experiments.get(spec.name) is not None:
                raise UserError(f"an experiment {spec.name!r} exists already; choose another name")
            _stands_in_the_way(unit, spec)
            supersede(unit, spec.endpoint, Superseded(now=now, experiment=spec.name))
            experiment = Experiment(
                spec=spec,
                models={CONTROL: plan.baseline.model, **models},
                author=who,
                created=now,
                coefficients=coefficients,
                before=without_previous(plan),
                reason=reason,
                waiting="the arms are being loaded by every serving process",
            )
            experiment = _publish(unit, experiment, warming(experiment), f"experiment {spec.name} loads its arms", now)
            unit.experiments.add(_row(experiment))
            _audit(unit, who, "experiment.start", None, experiment, reason, now)
        return experiment

    def _coefficients(self, spec: Spec, now: float) -> dict[str, float]:
        """From all feedback of before; apart from writing, for which everybody waits."""
        with self._store.read() as unit:
            return {
                metric.name: coefficient(unit.feedback.history(metric.name, metric.covariate, until=now))
                for metric in spec.metrics
                if metric.covariate
            }

    def stop(self, name: str, *, who: str, reason: str) -> Experiment:
        """The control arm takes everything again, in one publication. Stopping twice changes nothing."""
        for attempt in range(TRIES):
            try:
                return self._stop(name, who, reason)
            except Conflict:  # a look was first; what is stopped is what it wrote
                if attempt == TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    def _stop(self, name: str, who: str, reason: str) -> Experiment:
        with self._store.read() as unit:
            before = _one(unit, name)
            final = make_report(before, unit, self._clock.wall()) if before.state == "running" else None
        if not before.open:
            return before
        with self._store.begin() as unit:
            experiment = _one(unit, name)
            if experiment.revision != before.revision:
                raise Conflict(f"experiment {name} was changed meanwhile; look again and repeat")
            return self._end(unit, experiment, "stopped", who, reason, self._clock.wall(), final)

    def get(self, name: str) -> Experiment:
        with self._store.read() as unit:
            return _one(unit, name)

    def report(self, name: str) -> Report:
        """As of now, from exposures and outcomes. Raises NotFound."""
        with self._store.read() as unit:
            return make_report(_one(unit, name), unit, self._clock.wall())

    def reports(self, name: str, after: float = 0.0) -> list[Report]:
        """What was reported while it ran, oldest first: the intervals over time."""
        with self._store.read() as unit:
            _one(unit, name)
            return [msgspec.json.decode(row.body, type=Report) for row in unit.experiments.reports(name, after)]

    def tick(self) -> None:
        """One look at every open experiment; does nothing while another control plane holds the lease. One that cannot
        be looked at does not stop the others. Raises StoreAway."""
        with self._store.read() as unit:
            running = [_experiment(row) for row in unit.experiments.list(limit=MOST_OPEN, open=True)]
        self._due = {one.name: self._due[one.name] for one in running if one.name in self._due}
        lease = self._leadership.take() if running else None
        if lease is None:
            return
        for experiment in running:
            try:
                self._look(experiment, lease)
            except StoreAway:
                raise
            except LeaseLost as error:
                self._leadership.lose(str(error))
                return
            except Conflict as error:  # a person was first; the next look sees what came of it
                logger.info("experiment %s: %s", experiment.name, error)
            except Exception:
                logger.exception("experiment %s: the look failed", experiment.name)

    def leave(self) -> None:
        """Hands the lease back, so that another control plane goes on at once."""
        self._leadership.give_back()

    def _look(self, experiment: Experiment, lease: Lease) -> None:
        """Reads, which takes long when there is much, apart from writing, for which everybody waits."""
        began = self._clock.monotonic()
        if experiment.state == "pending":
            with self._store.begin() as unit:
                unit.leases.check(lease, self._clock.wall())
                self._go_on_loading(unit, _unchanged(unit, experiment), self._clock.wall())
            return
        if began < self._due.get(experiment.name, 0.0):
            return
        self._due[experiment.name] = began + REPORT_SECONDS
        with self._store.read() as unit:
            report = make_report(experiment, unit, self._clock.wall())
        ended = self._clock.monotonic()
        pause = min(max(REPORT_SECONDS, PATIENCE * (ended - began)), LONGEST_PAUSE)
        self._due[experiment.name] = began + pause
        with self._store.begin() as unit:
            unit.leases.check(lease, self._clock.wall())
            self._take_report(unit, _unchanged(unit, experiment), report)

    def _take_report(self, unit: Unit, experiment: Experiment, report: Report) -> None:
        if not in_force(experiment, _newest_plan(unit, experiment)):
            reason = f"somebody else published another plan for {experiment.spec.endpoint}, which ends the split"
            self._end(unit, experiment, "failed", SYSTEM, reason, report.time, report)
        elif rule := rule_that_holds(experiment, report, report.time):
            self._end(unit, experiment, "stopped", SYSTEM, rule, report.time, report)
        else:
            _keep(unit, experiment, report)

    def _go_on_loading(self, unit: Unit, experiment: Experiment, now: float) -> None:
        """All instances have the newest publication: publish the shares, or, if they were that, begin."""
        if not in_force(experiment, _newest_plan(unit, experiment)):
            reason = f"somebody else published another plan for {experiment.spec.endpoint}"
            self._end(unit, experiment, "failed", SYSTEM, reason, now)
            return
        word = heard(unit, experiment.snapshot, now, self._settings.store.dead_seconds)
        if word.refused:
            instance, error = min(word.refused.items())
            self._end(unit, experiment, "failed", SYSTEM, f"{instance} could not load it: {error}", now)
            return
        if word.awaited or not word.live:
            names = ", ".join(word.awaited[:3])
            waiting = f"waits for {names} to load it" if names else "waits for a serving process"
            if waiting != experiment.waiting:
                _save(unit, experiment, msgspec.structs.replace(experiment, waiting=waiting))
        elif experiment.warm:
            began = msgspec.structs.replace(experiment, state="running", started=now, waiting="")
            _save(unit, experiment, began)
            _audit(unit, SYSTEM, "experiment.run", experiment, began, "every arm is loaded everywhere", now)
        else:
            name = experiment.name
            split = _publish(unit, experiment, splitting(experiment), f"experiment {name} splits the traffic", now)
            _save(unit, experiment, msgspec.structs.replace(split, warm=True))

    def _end(
        self,
        unit: Unit,
        experiment: Experiment,
        state: Literal["stopped", "failed"],
        who: str,
        reason: str,
        now: float,
        final: Report | None = None,
    ) -> Experiment:
        before = experiment
        plan = plan_without(experiment, _newest_plan(unit, experiment))
        if plan is not None:
            experiment = _publish(unit, experiment, plan, f"experiment {experiment.name}: {reason}", now, who)
        if final is not None:
            _keep(unit, before, final)
        ended = msgspec.structs.replace(experiment, state=state, ended=now, reason=reason, waiting="")
        ended = _save(unit, before, ended)
        _audit(unit, who, f"experiment.{'stop' if state == 'stopped' else 'fail'}", before, ended, reason, now)
        logger.info("experiment %s: %s, %s", ended.name, state, reason, extra={"endpoint": ended.spec.endpoint})
        return ended

    def list(self, limit: int = 50, cursor: str | None = None) -> tuple[list[Experiment], str | None]:
        """Newest first, and the cursor of what follows."""
        with self._store.read() as unit:
            rows = unit.experiments.list(limit=limit + 1, cursor=cursor)
        shown = [_experiment(row) for row in rows[:limit]]
        return shown, (shown[-1].name if len(rows) > limit else None)


def _check(spec: Spec) -> None:
    names = [arm.name for arm in spec.arms]
    if CONTROL in names or len(set(names)) < len(names):
        raise InvalidInput(f"arms need names of their own, and {CONTROL!r} is the control arm's")
    if any(arm.buckets < 1 for arm in spec.arms):
        raise InvalidInput(f"an arm's share is {100 / WHOLE:g} percent or more")
    if sum(arm.buckets for arm in spec.arms) >= WHOLE:
        raise InvalidInput("the arms' shares must leave something for the control arm: less than 100 in all")
    if len({metric.name for metric in spec.metrics}) < len(spec.metrics):
        raise InvalidInput("two metrics have the same name")
    start, end = spec.part
    if start >= end:
        raise InvalidInput(f"range: {spec.range[0]:g} to {spec.range[1]:g} is empty")


def _stands_in_the_way(unit: Unit, spec: Spec) -> None:
    for release in unit.releases.list(endpoint=spec.endpoint, open=True, limit=1):
        raise UserError(f"release {release.id} is open on {spec.endpoint}; end it first")
    for row in unit.experiments.list(limit=MOST_OPEN, open=True):
        other = _experiment(row)
        if other.spec.endpoint == spec.endpoint:
            raise UserError(f"experiment {other.name} runs on {spec.endpoint}; an endpoint has one at a time")
        same_layer = bool(spec.layer) and other.spec.layer == spec.layer
        if same_layer and spec.range[0] < other.spec.range[1] and other.spec.range[0] < spec.range[1]:
            raise UserError(
                f"layer {spec.layer}: {other.name} has {other.spec.range[0]:g} to {other.spec.range[1]:g} percent already"
            )


def _publish(
    unit: Unit, experiment: Experiment, plan: EndpointPlan, reason: str, now: float, who: str = ""
) -> Experiment:
    latest = unit.snapshots.latest()
    assert latest is not None, "an experiment begins on a published endpoint"
    endpoints = {**latest.snapshot.endpoints, experiment.spec.endpoint: plan}
    snapshot = msgspec.structs.replace(latest.snapshot, endpoints=endpoints)
    published = unit.snapshots.publish(snapshot, reason=reason, author=who or experiment.author, at=now)
    return msgspec.structs.replace(experiment, snapshot=published.number)


def _newest_plan(unit: Unit, experiment: Experiment) -> EndpointPlan | None:
    latest = unit.snapshots.latest()
    return None if latest is None else latest.snapshot.endpoints.get(experiment.spec.endpoint)


def _keep(unit: Unit, experiment: Experiment, report: Report) -> None:
    """The newest report is always there; the one before goes when it is too near to its predecessor."""
    times = unit.experiments.newest_reports(experiment.name, 2)
    apart = max(REPORT_SECONDS, THINNED * (report.time - experiment.started))
    if len(times) == 2 and times[0] - times[1] < apart:
        unit.experiments.drop_report(experiment.name, times[0])
    unit.experiments.add_report(experiment.name, report.time, msgspec.json.encode(report).decode())


def _unchanged(unit: Unit, experiment: Experiment) -> Experiment:
    """Raises Conflict when somebody changed it since it was read."""
    current = _one(unit, experiment.name)
    if current.revision != experiment.revision:
        raise Conflict(f"experiment {experiment.name} was changed meanwhile")
    return current


def _save(unit: Unit, before: Experiment, after: Experiment) -> Experiment:
    after = msgspec.structs.replace(after, revision=before.revision + 1)
    unit.experiments.save(_row(after), before.revision)
    return after


def _row(experiment: Experiment) -> ExperimentRow:
    return ExperimentRow(
        name=experiment.name,
        endpoint=experiment.spec.endpoint,
        state=experiment.state,
        created=experiment.created,
        revision=experiment.revision,
        body=msgspec.json.encode(experiment).decode(),
    )


def _experiment(row: ExperimentRow) -> Experiment:
    return msgspec.json.decode(row.body, type=Experiment)


def _one(unit: Unit, name: str) -> Experiment:
    row = unit.experiments.get(name)
    if row is None:
        raise NotFound(f"no experiment {name[:80]!r}")
    return _experiment(row)


def _audit(
    unit: Unit, who: str, action: str, before: Experiment | None, after: Experiment, reason: str, now: float
) -> None:
    states = {"before": before and {"state": before.state}, "after": {"state": after.state, "spec": after.spec}}
    audit.record(unit, who, action, f"experiment:{after.name}", at=now, reason=reason, **states)
