"""Retrainings: asked for by people, alerts or the calendar, trained by a job, and followed to the end of their release.

Every change is one transaction on the one record. What lies outside of it can be found again: a version by the key of its
training, a release by the version that it lets through; so a process that is killed anywhere leaves one of each.
"""

from __future__ import annotations

import builtins
import logging
import secrets
from collections.abc import Callable
from functools import partial

import msgspec

from tidegate.clock import Clock
from tidegate.control.access import audit
from tidegate.control.jobs.job import Job
from tidegate.control.jobs.queue import Queue
from tidegate.control.lease import Leadership
from tidegate.control.monitoring.records import Alert
from tidegate.control.registry.base import Registry
from tidegate.control.releases.history import release_of
from tidegate.control.releases.release import Release
from tidegate.control.releases.service import ReleaseService
from tidegate.control.training.policy import WEEK, Decision, Facts, decide
from tidegate.control.training.retraining import Mode, Outcome, Retraining, Trigger, moved, retraining_of, row_of
from tidegate.errors import (
    Conflict,
    InvalidInput,
    LeaseLost,
    LostRace,
    NotFound,
    Refused,
    RequestError,
    StoreAway,
    UserError,
)
from tidegate.monitor_plan import MonitorPlan, RetrainPlan
from tidegate.settings import Settings
from tidegate.storage.records import Lease, ScheduleRow
from tidegate.storage.store import Store, Unit

logger = logging.getLogger("tidegate.training")

LEASE = "retrainings"
KIND = "retrain"
SYSTEM = "tidegate"
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


class RetrainService:
    """``holder`` is one life of one process; of several control planes one looks."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        settings: Settings,
        queue: Queue,
        releases: ReleaseService,
        clock: Clock,
        holder: str,
        *,
        new_id: Callable[[], str] = lambda: f"t-{secrets.token_hex(4)}",
    ) -> None:
        self._store = store
        self._registry = registry
        self._settings = settings
        self._queue = queue
        self._releases = releases
        self._clock = clock
        self._new_id = new_id
        self._leadership = Leadership(store, clock, LEASE, holder, settings.control.lease_seconds)
        self._due: dict[str, float] = {}
        self._began: dict[tuple[str, str], float] = {}

    def start(self, endpoint: str, *, mode: Mode | None = None, who: str, reason: str = "") -> Retraining:
        """Asked for by a person: cool-down, budget and labels do not stand in the way. Raises NotFound, InvalidInput for an
        endpoint that has no training configuration, Conflict while another one is open, QueueFull."""
        plan = self._plan(endpoint).retrain
        if plan is None:
            raise InvalidInput(
                f"endpoint {endpoint[:80]!r} has no training configuration: set endpoints.{endpoint[:80]}.monitor.retrain",
                ("endpoint",),
            )
        with self._store.begin() as unit:
            if (found := _open(unit, endpoint)) is not None:
                raise Conflict(f"retraining {found.id} of {endpoint} is {found.state}; wait for it, or cancel it")
            return self._begin(
                unit, endpoint, plan, mode or plan.mode, "person", who, reason, Decision(start=True, reason=reason)
            )

    def list(
        self,
        endpoint: str | None = None,
        open: bool | None = None,  # noqa: A002
        limit: int = 50,
        cursor: str | None = None,
    ) -> builtins.list[Retraining]:
        """Newest first; ``cursor`` is the id of the last one of the page before."""
        with self._store.read() as unit:
            rows = unit.retrainings.list(endpoint=endpoint, open=open, limit=limit, cursor=cursor)
        return [retraining_of(row) for row in rows]

    def get(self, id: str) -> Retraining:  # noqa: A002
        """Raises NotFound."""
        with self._store.read() as unit:
            return _found(unit, id)

    def cancel(self, id: str, *, who: str, reason: str = "") -> Retraining:  # noqa: A002
        """Ends its job, or keeps an accepted version from being released. Raises Conflict where it is too late."""
        before = self.get(id)
        if before.state == "releasing":
            raise Conflict(f"retraining {id} is being released; roll release {before.release} back instead")
        if not before.open:
            raise Conflict(f"retraining {id} is {before.state}; there is nothing to cancel")
        if before.state in ("queued", "training"):
            try:
                self._queue.cancel(before.job, who=who, reason=reason)
            except (Conflict, NotFound) as error:
                logger.info("retraining %s: %s", id, error)
        text = f"cancelled by {who}" + (f": {reason}" if reason else "")
        with self._store.begin() as unit:
            current = _found(unit, id)
            if current.revision != before.revision:
                raise Conflict(f"retraining {id} was changed meanwhile; look again and repeat")
            after = _save(unit, current, moved(current, "ended", self._clock.wall(), text))
            _audit(unit, who, "retraining.cancel", after, reason, self._clock.wall(), before=current.state)
        return after

    def outlook(self) -> builtins.list[Outlook]:
        """Every endpoint that has a plan, with what was decided last."""
        found = []
        with self._store.read() as unit:
            for endpoint, plan in sorted(self._plans().items()):
                row = unit.jobs.schedule(_note(endpoint))
                decision = msgspec.json.decode(row.body, type=Decision) if row is not None else None
                changed = row.changed if row is not None else 0.0
                found.append(Outlook(endpoint=endpoint, plan=plan, decision=decision, changed=changed))
        return found

    def tick(self) -> None:
        """One look at every open retraining, and at every endpoint that may want one; nothing while another control plane
        holds the lease. Raises StoreAway."""
        plans = self._plans()
        with self._store.read() as unit:
            rows = unit.retrainings.list(open=True, limit=1000)
        lease = self._leadership.take() if rows or plans else None
        if lease is None:
            return
        for row in rows:
            self._safely(row.id, partial(self._follow, retraining_of(row), lease))
        for endpoint, plan in plans.items():
            self._safely(endpoint, partial(self._consider, endpoint, plan, lease))

    def leave(self) -> None:
        """Hands the lease back, so that another control plane goes on at once."""
        self._leadership.give_back()

    def _safely(self, what: str, act: Callable[[], object]) -> None:
        try:
            act()
        except StoreAway:
            raise
        except LeaseLost as error:
            self._leadership.lose(str(error))
        except (Conflict, Refused) as error:
            logger.info("retraining, %s: %s", what, error)
        except Exception:
            logger.exception("retraining, %s: the look failed", what)

    def _follow(self, retraining: Retraining, lease: Lease) -> None:
        """One step on, where there is one."""
        after = retraining
        if retraining.state in ("queued", "training"):
            after = self._after_job(retraining)
        elif retraining.state == "accepted":
            after = self._released(retraining, lease)
        elif retraining.state == "releasing":
            after = self._after_release(retraining)
        if after is not retraining:
            self._store_one(retraining, after, lease)

    def _store_one(self, before: Retraining, after: Retraining, lease: Lease) -> None:
        try:
            with self._store.begin() as unit:
                unit.leases.check(lease, self._clock.wall())
                unit.retrainings.save(row_of(after), before.revision)
        except LostRace:
            if after.state == "releasing" and not self.get(before.id).open:  # cancelled while its release began
                reason = f"retraining {before.id} was cancelled meanwhile"
                self._releases.rollback(after.release, who=SYSTEM, reason=reason)
            raise
        if after.state != before.state:
            logger.info("retraining %s of %s: %s: %s", after.id, after.endpoint, after.state, after.events[-1].text)

    def _after_job(self, retraining: Retraining) -> Retraining:
        now = self._clock.wall()
        try:
            job = self._queue.get(retraining.job)
        except NotFound:
            return moved(retraining, "failed", now, f"its job {retraining.job} is gone")
        if job.state == "done":
            return self._trained(retraining, job, now)
        if job.state == "failed":
            return moved(retraining, "failed", now, job.error or "its job failed")
        if job.state == "cancelled":
            return moved(retraining, "ended", now, f"its job was cancelled{': ' + job.reason if job.reason else ''}")
        if job.state == "running" and retraining.state == "queued":
            return moved(retraining, "training", now, f"job {job.id} runs", waiting="it is being trained")
        return retraining

    def _trained(self, retraining: Retraining, job: Job, now: float) -> Retraining:
        try:
            outcome = msgspec.convert(dict(job.result), Outcome)
        except msgspec.ValidationError as error:
            return moved(retraining, "failed", now, f"its job gave no outcome: {error}")
        if not outcome.accepted:
            return moved(retraining, "refused", now, outcome.gate.reason, outcome=outcome)
        if not outcome.version:
            return moved(retraining, "ended", now, "accepted, but nothing was registered", outcome=outcome)
        plan = self._plans().get(retraining.endpoint)
        accepted = moved(
            retraining, "accepted", now, f"version {outcome.version}: {outcome.gate.reason}",
            outcome=outcome, waiting="its release is to begin",
        )  # fmt: skip
        if plan is not None and plan.release:
            return accepted
        text = (
            f"version {outcome.version} is registered; monitor.retrain.release is off, so nothing is released by itself"
        )
        return moved(accepted, "ended", now, text)

    def _released(self, retraining: Retraining, lease: Lease) -> Retraining:
        """Its release: one that somebody began already for the same version, or a new one."""
        outcome, now = retraining.outcome, self._clock.wall()
        assert outcome is not None, "accepted with what was accepted"
        release = self._release_of(retraining, outcome)
        if release is None:
            with self._store.begin() as unit:
                unit.leases.check(lease, now)
                overtaken = _overtaken(unit, retraining.endpoint, outcome)
            if overtaken:
                return moved(retraining, "ended", now, overtaken)
            reason = f"retraining {retraining.id}: {outcome.gate.reason}"
            try:
                release = self._releases.start(
                    retraining.endpoint, outcome.uri, who=SYSTEM, reason=reason[:1000], requested_by="training"
                )
            except Conflict as error:  # another release or an experiment: it waits for its end
                if retraining.waiting == str(error):
                    return retraining
                return msgspec.structs.replace(
                    retraining, waiting=str(error), changed=now, revision=retraining.revision + 1
                )
            except (UserError, RequestError) as error:
                return moved(retraining, "ended", now, f"version {outcome.version} cannot be released: {error}")
        text = f"release {release.id} of version {outcome.version} began"
        return moved(retraining, "releasing", now, text, release=release.id, waiting=f"release {release.id} goes on")

    def _release_of(self, retraining: Retraining, outcome: Outcome) -> Release | None:
        cursor: str | None = None
        with self._store.read() as unit:
            while rows := unit.releases.list(endpoint=retraining.endpoint, limit=PAGE, cursor=cursor):
                for row in rows:
                    if row.created < retraining.created:
                        return None
                    release = release_of(row)
                    if (release.candidate.name, release.candidate.version) == (outcome.name, outcome.version):
                        return release
                cursor = rows[-1].id
        return None

    def _after_release(self, retraining: Retraining) -> Retraining:
        now = self._clock.wall()
        try:
            release = self._releases.get(retraining.release)
        except NotFound:
            return moved(retraining, "ended", now, f"release {retraining.release} is gone")
        if release.state == "promoted":
            return moved(retraining, "promoted", now, f"release {release.id}: {release.reason or 'promoted'}")
        if release.state == "rolled_back":
            return moved(retraining, "rolled_back", now, f"release {release.id}: {release.reason or 'rolled back'}")
        if not release.open:
            return moved(retraining, "ended", now, f"release {release.id} {release.state}: {release.reason}")
        return retraining

    def _consider(self, endpoint: str, plan: RetrainPlan, lease: Lease) -> None:
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
            if decision.start and _open(unit, endpoint) is None:
                self._begin(unit, endpoint, plan, plan.mode, decision.trigger, SYSTEM, decision.reason, decision)

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
        metric = self._plan(endpoint).performance.metric
        with self._store.read() as unit:
            return sum(1 for _ in unit.feedback.times(endpoint, metric, facts.last))

    def _begin(
        self,
        unit: Unit,
        endpoint: str,
        plan: RetrainPlan,
        mode: Mode,
        trigger: Trigger,
        who: str,
        reason: str,
        decision: Decision,
    ) -> Retraining:
        """The record and its job, in the caller's transaction."""
        now, id = self._clock.wall(), self._new_id()  # noqa: A001
        payload = {"retraining": id, "endpoint": endpoint, "mode": mode, "config": plan.config}
        job = self._queue.submit_in(
            unit,
            KIND,
            payload,
            who=SYSTEM,
            key=f"{KIND}:{endpoint}",
            endpoint=endpoint,
            parent=id,
            reason=reason[:1000],
        )
        if job.parent != id:
            raise Conflict(f"job {job.id} still trains {endpoint}; wait until it has ended")
        begun = Retraining(
            id=id,
            endpoint=endpoint,
            mode=mode,
            trigger=trigger,
            alerts=decision.alerts,
            reports=decision.reports,
            reason=reason,
            author=who,
            job=job.id,
            waiting="its job waits for a worker",
            created=now,
            changed=now,
        )
        begun = moved(
            begun, "queued", now, f"asked for by {who}" + (f": {reason}" if reason else ""), waiting=begun.waiting
        )
        try:
            unit.retrainings.add(row_of(begun))
        except LostRace as error:
            raise Conflict(str(error)) from error
        _audit(unit, who, "retraining.start", begun, reason, now)
        logger.info("retraining %s of %s (%s, %s): %s", id, endpoint, mode, trigger, reason or "no reason given")
        return begun

    def _plans(self) -> dict[str, RetrainPlan]:
        return {
            name: endpoint.monitor.retrain
            for name, endpoint in self._settings.endpoints.items()
            if endpoint.monitor is not None and endpoint.monitor.retrain is not None
        }

    def _plan(self, endpoint: str) -> MonitorPlan:
        """Raises NotFound."""
        found = self._settings.endpoints.get(endpoint)
        if found is None:
            names = ", ".join(sorted(self._settings.endpoints)[:20]) or "none is configured"
            raise NotFound(f"no endpoint {endpoint[:80]!r}; endpoints: {names}")
        return found.monitor or MonitorPlan()


def _overtaken(unit: Unit, endpoint: str, outcome: Outcome) -> str:
    """Why what was found of it says nothing about what serves now; empty where it does."""
    newest, against = unit.snapshots.latest(), outcome.gate.champion_version
    served = None if newest is None else newest.snapshot.endpoints.get(endpoint)
    if served is None or not against or served.baseline.model.version == against:
        return ""
    return (
        f"version {outcome.version} was compared with version {against}, but version {served.baseline.model.version} "
        "serves now; it is registered, and not released by itself"
    )


def _note(endpoint: str) -> str:
    return f"retrain:{endpoint}"


def _tell(unit: Unit, endpoint: str, decision: Decision, now: float) -> None:
    """Kept beside the schedules; written only when it says something else."""
    body = msgspec.json.encode(decision).decode()
    row = unit.jobs.schedule(_note(endpoint))
    if row is None or row.body != body:
        unit.jobs.put_schedule(ScheduleRow(_note(endpoint), now, now, body))


def _open(unit: Unit, endpoint: str) -> Retraining | None:
    rows = unit.retrainings.list(endpoint=endpoint, open=True, limit=1)
    return retraining_of(rows[0]) if rows else None


def _found(unit: Unit, id: str) -> Retraining:  # noqa: A002
    row = unit.retrainings.get(id)
    if row is None:
        raise NotFound(f"there is no retraining {id[:80]!r}")
    return retraining_of(row)


def _save(unit: Unit, before: Retraining, after: Retraining) -> Retraining:
    unit.retrainings.save(row_of(after), before.revision)
    return after


def _audit(
    unit: Unit, who: str, action: str, after: Retraining, reason: str, now: float, before: str | None = None
) -> None:
    told = {
        "endpoint": after.endpoint,
        "state": after.state,
        "mode": after.mode,
        "trigger": after.trigger,
        "job": after.job,
    }
    audit.record(
        unit, who, action, f"retraining:{after.id}", at=now, after=told, reason=reason,
        before=None if before is None else {"state": before},
    )  # fmt: skip
