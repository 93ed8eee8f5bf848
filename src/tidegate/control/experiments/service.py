"""Enacts experiments: loads the arms, splits the traffic, writes reports, ends by the rules.

An experiment is published twice: first with every arm at share 0, so that each serving process loads it, and once all
have, with the shares. Everything a change consists of is one transaction, with its entry in the audit log.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from tidegate.clock import Clock
from tidegate.control.access import audit
from tidegate.control.experiments.experiment import CONTROL, Experiment, Report, Spec
from tidegate.control.experiments.report import coefficient, make_report, rule_that_holds
from tidegate.control.registry.base import Registry
from tidegate.errors import InvalidInput, NotFound, UserError
from tidegate.settings import Settings
from tidegate.storage.records import ExperimentRow
from tidegate.storage.store import Store, Unit
from tidegate.types import EndpointPlan, Exposing, Variant

logger = logging.getLogger("tidegate.experiments")

LEASE = "experiments"
REPORT_SECONDS = 5.0
WHOLE = 10_000
SYSTEM = "tidegate"


class ExperimentService:
    """``holder`` names this control plane; of several, one acts."""

    def __init__(self, store: Store, registry: Registry, settings: Settings, clock: Clock, holder: str) -> None:
        self._store = store
        self._registry = registry
        self._settings = settings
        self._clock = clock
        self._holder = holder
        self._reported: dict[str, float] = {}

    def start(self, spec: Spec, *, who: str, reason: str = "") -> Experiment:
        """Raises InvalidInput for what cannot be, and UserError for what stands in the way now."""
        _check(spec)
        models = {arm.name: self._registry.ref(arm.model) for arm in spec.arms}
        now = self._clock.wall()
        with self._store.begin() as unit:
            published = unit.snapshots.latest()
            plan = None if published is None else published.snapshot.endpoints.get(spec.endpoint)
            if plan is None:
                raise NotFound(f"no endpoint {spec.endpoint[:80]!r} is published")
            if unit.experiments.get(spec.name) is not None:
                raise UserError(f"an experiment {spec.name!r} exists already; choose another name")
            _stands_in_the_way(unit, spec)
            experiment = Experiment(
                spec=spec,
                models={CONTROL: plan.baseline.model, **models},
                author=who,
                created=now,
                coefficients={
                    metric.name: coefficient(unit.feedback.history(metric.name, metric.covariate, until=now))
                    for metric in spec.metrics
                    if metric.covariate
                },
                before=plan,
                reason=reason,
                waiting="the arms are being loaded by every serving process",
            )
            experiment = _publish(unit, experiment, _warming(experiment), f"experiment {spec.name} loads its arms", now)
            unit.experiments.add(_row(experiment))
            _audit(unit, who, "experiment.start", None, experiment, reason, now)
        return experiment

    def stop(self, name: str, *, who: str, reason: str) -> Experiment:
        """The control arm takes everything again, in one publication. Stopping twice changes nothing."""
        now = self._clock.wall()
        with self._store.begin() as unit:
            experiment = _one(unit, name)
            if not experiment.open:
                return experiment
            return self._end(unit, experiment, "stopped", who, reason, now)

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
        """One look at every open experiment; does nothing while another control plane holds the lease."""
        now = self._clock.wall()
        with self._store.begin() as unit:
            lease = unit.leases.acquire(LEASE, self._holder, now, self._settings.control.lease_seconds)
        if lease is None:
            return
        with self._store.read() as unit:
            running = [experiment for row in unit.experiments.list(limit=1000) if (experiment := _experiment(row)).open]
        for experiment in running:
            with self._store.begin() as unit:
                unit.leases.check(lease, now)
                current = _one(unit, experiment.name)
                if current.state == "pending":
                    self._go_on_loading(unit, current, now)
                elif current.state == "running" and self._is_due(current.name, now):
                    self._look(unit, current, now)

    def _is_due(self, name: str, now: float) -> bool:
        if now - self._reported.get(name, -REPORT_SECONDS) < REPORT_SECONDS:
            return False
        self._reported[name] = now
        return True

    def _go_on_loading(self, unit: Unit, experiment: Experiment, now: float) -> None:
        """All instances have the newest publication: publish the shares, or, if they were that, begin."""
        acknowledged = {seen.instance: seen for seen in unit.instances.acknowledgements(experiment.snapshot)}
        refused = [seen for seen in acknowledged.values() if seen.error]
        if refused:
            reason = f"{refused[0].instance} could not load it: {refused[0].error}"
            self._end(unit, experiment, "failed", SYSTEM, reason, now)
            return
        live = unit.instances.live(now, self._settings.store.dead_seconds)
        missing = [
            beat.instance for beat in live if beat.instance not in acknowledged and beat.snapshot < experiment.snapshot
        ]
        if missing or not live:
            waiting = f"waits for {', '.join(missing[:3])} to load it" if missing else "waits for a serving process"
            if waiting != experiment.waiting:
                _save(unit, experiment, msgspec.structs.replace(experiment, waiting=waiting))
        elif experiment.warm:
            began = msgspec.structs.replace(experiment, state="running", started=now, waiting="")
            _save(unit, experiment, began)
            _audit(unit, SYSTEM, "experiment.run", experiment, began, "every arm is loaded everywhere", now)
        else:
            name = experiment.name
            split = _publish(unit, experiment, _splitting(experiment), f"experiment {name} splits the traffic", now)
            _save(unit, experiment, msgspec.structs.replace(split, warm=True))

    def _look(self, unit: Unit, experiment: Experiment, now: float) -> None:
        report = make_report(experiment, unit, now)
        unit.experiments.add_report(experiment.name, now, msgspec.json.encode(report).decode())
        rule = rule_that_holds(experiment, report, now)
        if rule:
            self._end(unit, experiment, "stopped", SYSTEM, rule, now)

    def _end(self, unit: Unit, experiment: Experiment, state: Any, who: str, reason: str, now: float) -> Experiment:
        before = experiment
        if _is_in_force(unit, experiment):
            experiment = _publish(unit, experiment, experiment.before, f"experiment {experiment.name}: {reason}", now)
        if before.state == "running":
            final = make_report(before, unit, now)
            unit.experiments.add_report(before.name, now, msgspec.json.encode(final).decode())
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
    if sum(arm.share for arm in spec.arms) >= 100:
        raise InvalidInput("the arms' shares must leave something for the control arm: less than 100 in all")
    if len({metric.name for metric in spec.metrics}) < len(spec.metrics):
        raise InvalidInput("two metrics have the same name")
    low, high = spec.range
    if low >= high:
        raise InvalidInput(f"range: {low:g} to {high:g} is empty")


def _stands_in_the_way(unit: Unit, spec: Spec) -> None:
    for release in unit.releases.list(endpoint=spec.endpoint, open=True, limit=1):
        raise UserError(f"release {release.id} is open on {spec.endpoint}; end it first")
    for row in unit.experiments.list(limit=1000):
        other = _experiment(row)
        if not other.open:
            continue
        if other.spec.endpoint == spec.endpoint:
            raise UserError(f"experiment {other.name} runs on {spec.endpoint}; an endpoint has one at a time")
        same_layer = bool(spec.layer) and other.spec.layer == spec.layer
        if same_layer and spec.range[0] < other.spec.range[1] and other.spec.range[0] < spec.range[1]:
            raise UserError(
                f"layer {spec.layer}: {other.name} has {other.spec.range[0]:g} to {other.spec.range[1]:g} percent already"
            )


def _arms(experiment: Experiment, shares: Mapping[str, int]) -> tuple[Variant, ...]:
    arms = [arm.name for arm in experiment.spec.arms]
    return (
        Variant(CONTROL, experiment.models[CONTROL]),
        *(Variant(arm, experiment.models[arm], share=shares.get(arm, 0)) for arm in arms),
    )


def _warming(experiment: Experiment) -> EndpointPlan:
    return msgspec.structs.replace(experiment.before, variants=_arms(experiment, {}), experiment=None)


def _splitting(experiment: Experiment) -> EndpointPlan:
    spec = experiment.spec
    shares = {arm.name: round(arm.share * WHOLE / 100) for arm in spec.arms}
    start, end = (round(edge * WHOLE / 100) for edge in spec.range)
    return EndpointPlan(
        spec.endpoint,
        _arms(experiment, shares),
        salt=spec.salt or f"experiment:{spec.name}",
        experiment=Exposing(spec.name, spec.layer, start, end),
    )


def _publish(unit: Unit, experiment: Experiment, plan: EndpointPlan, reason: str, now: float) -> Experiment:
    latest = unit.snapshots.latest()
    assert latest is not None, "an experiment begins on a published endpoint"
    endpoints = {**latest.snapshot.endpoints, experiment.spec.endpoint: plan}
    snapshot = msgspec.structs.replace(latest.snapshot, endpoints=endpoints)
    published = unit.snapshots.publish(snapshot, reason=reason, author=experiment.author, at=now)
    return msgspec.structs.replace(experiment, snapshot=published.number)


def _is_in_force(unit: Unit, experiment: Experiment) -> bool:
    """Whether the newest plan of the endpoint is this experiment's: somebody else's is not touched."""
    latest = unit.snapshots.latest()
    plan = None if latest is None else latest.snapshot.endpoints.get(experiment.spec.endpoint)
    return plan is not None and plan in (_warming(experiment), _splitting(experiment))


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
