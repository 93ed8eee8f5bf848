"""Whether endpoints want a retraining: looked at again and again, and begun where an alert or the calendar says so."""

from __future__ import annotations

import msgspec

from tidegate.clock import Clock
from tidegate.control.monitoring.records import Alert
from tidegate.control.registry.base import Registry
from tidegate.control.training.kept import open_in
from tidegate.control.training.plans import plan_of, plans_of
from tidegate.control.training.policy import WEEK, Decision, Facts, decide
from tidegate.control.training.retraining import retraining_of
from tidegate.control.training.starting import SYSTEM, Starting
from tidegate.errors import RequestError
from tidegate.monitor_plan import RetrainPlan
from tidegate.settings import Settings
from tidegate.storage.records import Lease, ScheduleRow
from tidegate.storage.store import Store, Unit

LOOK_SECONDS = 5.0
"""Between two looks at whether an endpoint wants a retraining."""
PAGE = 100


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """Of one endpoint: whether it is trained anew by itself, and what was decided when somebody looked last."""

    endpoint: str
    plan: RetrainPlan
    decision: Decision | None = None
    changed: float = 0.0
    """When the decision became this one."""


class Demand:
    """Remembers when it looked at each endpoint, and how old the versions are."""

    def __init__(self, store: Store, registry: Registry, settings: Settings, starting: Starting, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._settings = settings
        self._starting = starting
        self._clock = clock
        self._due: dict[str, float] = {}
        self._began: dict[tuple[str, str], float] = {}

    def outlook(self) -> list[Outlook]:
        """Every endpoint that has a plan, with what was decided last."""
        found = []
        with self._store.read() as unit:
            for endpoint, plan in sorted(plans_of(self._settings).items()):
                row = unit.jobs.schedule(_note(endpoint))
                decision = msgspec.json.decode(row.body, type=Decision) if row is not None else None
                changed = row.changed if row is not None else 0.0
                found.append(Outlook(endpoint=endpoint, plan=plan, decision=decision, changed=changed))
        return found

    def consider(self, endpoint: str, plan: RetrainPlan, lease: Lease) -> None:
        """Whether the endpoint wants one now; the reason is kept where people can see it."""
        begin = self._clock.monotonic()
        if begin < self._due.get(endpoint, begin):
            return
        self._due[endpoint] = begin + LOOK_SECONDS
        facts = self._facts(endpoint, plan)
        if facts is None:
            return
        decision = decide(plan, facts)
        if decision.start and plan.mode == "combined":
            decision = decide(plan, msgspec.structs.replace(facts, labels=self._labels(endpoint, facts)))
        with self._store.begin() as unit:
            now = self._clock.wall()
            unit.leases.check(lease, now)
            _tell(unit, endpoint, decision, now)
            if decision.start and open_in(unit, endpoint) is None:
                self._starting.begin(
                    unit, endpoint, plan, plan.mode, decision.trigger, SYSTEM, decision.reason, decision
                )

    def _facts(self, endpoint: str, plan: RetrainPlan) -> Facts | None:
        """None for an endpoint that is not published."""
        now = self._clock.wall()
        with self._store.read() as unit:
            newest = unit.snapshots.latest()
            published = None if newest is None else newest.snapshot.endpoints.get(endpoint)
            if published is None:
                return None
            alerts = [
                msgspec.json.decode(row.body, type=Alert)
                for row in unit.alerts.list(endpoint=endpoint, states=("firing",), limit=PAGE)
            ]
            recent = [retraining_of(row) for row in unit.retrainings.list(endpoint=endpoint, limit=PAGE)]
        model = published.baseline.model
        return Facts(
            now=now,
            version=model.version,
            alerts=alerts,
            open=next((one.id for one in recent if one.open), ""),
            last=recent[0].created if recent else 0.0,
            began=self._age(model.name, model.version) if plan.every is not None and not recent else 0.0,
            metric=plan_of(self._settings, endpoint).performance.metric,
            week=sum(1 for one in recent if one.trigger != "person" and one.created > now - WEEK),
        )

    def _age(self, name: str, version: str) -> float:
        """When the version that serves was registered; 0 for what no registry knows."""
        if (name, version) not in self._began:
            try:
                self._began[name, version] = self._registry.get(name, version).created if name else 0.0
            except RequestError:
                self._began[name, version] = 0.0
        return self._began[name, version]

    def _labels(self, endpoint: str, facts: Facts) -> int:
        metric = plan_of(self._settings, endpoint).performance.metric
        with self._store.read() as unit:
            return sum(1 for _ in unit.feedback.times(endpoint, metric, facts.last))


def _note(endpoint: str) -> str:
    return f"retrain:{endpoint}"


def _tell(unit: Unit, endpoint: str, decision: Decision, now: float) -> None:
    """Kept beside the schedules; written only when it says something else."""
    body = msgspec.json.encode(decision).decode()
    row = unit.jobs.schedule(_note(endpoint))
    if row is None or row.body != body:
        unit.jobs.put_schedule(ScheduleRow(_note(endpoint), now, now, body))
