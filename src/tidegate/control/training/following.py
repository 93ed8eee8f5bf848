"""An open retraining, followed from its job to the end of its release.

What lies outside of its record can be found again: a version by the key of its training, a release by the version that it
lets through; so a process that is killed anywhere leaves one of each.
"""

from __future__ import annotations

import logging

import msgspec

from tidegate.clock import Clock
from tidegate.control.jobs.job import Job
from tidegate.control.jobs.queue import Queue
from tidegate.control.releases.history import release_of
from tidegate.control.releases.release import Release
from tidegate.control.releases.service import ReleaseService
from tidegate.control.training.kept import found_in
from tidegate.control.training.plans import plans_of
from tidegate.control.training.retraining import Outcome, Retraining, moved, row_of
from tidegate.control.training.starting import SYSTEM
from tidegate.errors import Conflict, LostRace, NotFound, RequestError, UserError
from tidegate.settings import Settings
from tidegate.storage.records import Lease
from tidegate.storage.store import Store, Unit

logger = logging.getLogger("tidegate.training")

PAGE = 100


class Following:
    """Remembers nothing: all of it is in the store."""

    def __init__(self, store: Store, settings: Settings, queue: Queue, releases: ReleaseService, clock: Clock) -> None:
        self._store = store
        self._settings = settings
        self._queue = queue
        self._releases = releases
        self._clock = clock

    def follow(self, retraining: Retraining, lease: Lease) -> None:
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
            if after.state == "releasing" and not self._now(before.id).open:  # cancelled while its release began
                reason = f"retraining {before.id} was cancelled meanwhile"
                self._releases.rollback(after.release, who=SYSTEM, reason=reason)
            raise
        if after.state != before.state:
            logger.info("retraining %s of %s: %s: %s", after.id, after.endpoint, after.state, after.events[-1].text)

    def _now(self, id: str) -> Retraining:  # noqa: A002
        """Raises NotFound."""
        with self._store.read() as unit:
            return found_in(unit, id)

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
        plan = plans_of(self._settings).get(retraining.endpoint)
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
