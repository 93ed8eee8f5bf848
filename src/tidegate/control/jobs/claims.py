"""The workers' side of the queue: take a job, keep it, end it. Every write names the token of the claim, so that whoever
lost the job cannot write any more."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from tidegate.clock import Clock
from tidegate.control.jobs import moves
from tidegate.control.jobs.job import Job, Progress
from tidegate.control.jobs.queue import job_of, row_of
from tidegate.errors import LeaseLost
from tidegate.settings import Jobs
from tidegate.storage.records import JobRow
from tidegate.storage.store import Store, Unit


class Claim(msgspec.Struct, frozen=True):
    """A job that is ours as long as nobody else took it; ``token`` tells."""

    job: Job
    token: int


class Claims:
    """``holder`` names one life of one worker. ``share`` gives random numbers from 0 to 1. Everything raises StoreAway;
    what takes a claim raises LeaseLost once the job is another's, or has ended."""

    def __init__(
        self, store: Store, settings: Jobs, clock: Clock, holder: str, share: Callable[[], float] = random.random
    ) -> None:
        self.holder = holder
        self._store = store
        self._settings = settings
        self._clock = clock
        self._share = share

    def take(self, kinds: Sequence[str]) -> Claim | None:
        """The job that has waited longest, or one whose worker is lost. None when there is nothing to run."""
        now = self._clock.wall()
        with self._store.read() as unit:
            if not unit.jobs.waits(kinds, now):
                return None
        while True:
            with self._store.begin() as unit:
                row = unit.jobs.claim(kinds, self.holder, now, self._settings.lease_seconds)
                if row is None:
                    return None
                job = _save(unit, row, moves.claimed(job_of(row), self.holder, now), now)
                if job.open:
                    return Claim(job, row.token)

    def renew(self, claim: Claim) -> Job:
        """The job as it stands, ours for longer unless it has ended."""
        try:
            with self._store.begin(durable=False) as unit:
                now, seconds = self._clock.wall(), self._settings.lease_seconds
                return job_of(unit.jobs.renew(claim.job.id, claim.token, now, seconds))
        except LeaseLost:
            with self._store.read() as unit:
                row = unit.jobs.get(claim.job.id)
            if row is None or row.open or row.token != claim.token:
                raise
            return job_of(row)

    def progress(self, claim: Claim, progress: Progress) -> Job:
        return self._change(claim, lambda job, _now: moves.progressed(job, progress), durable=False)

    def step(self, claim: Claim, name: str, value: Any) -> Job:
        return self._change(claim, lambda job, _now: moves.stepped(job, name, value))

    def finish(self, claim: Claim, result: Mapping[str, Any]) -> Job:
        return self._change(claim, lambda job, now: moves.finished(job, now, result))

    def fail(self, claim: Claim, error: str, *, again: bool) -> Job:
        backoff, share = self._settings.backoff_seconds, self._share()
        return self._change(
            claim, lambda job, now: moves.failed(job, now, error, again=again, backoff=backoff, share=share)
        )

    def cancelled(self, claim: Claim) -> Job:
        return self._change(claim, moves.cancelled)

    def hand_back(self, claim: Claim, seconds: float = 0.0) -> Job:
        """For another worker, or this one after ``seconds``; the try does not count."""
        return self._change(claim, lambda job, now: moves.handed_back(job, now, now + seconds))

    def _change(self, claim: Claim, move: Callable[[Job, float], Job], durable: bool = True) -> Job:
        now = self._clock.wall()
        with self._store.begin(durable=durable) as unit:
            row = unit.jobs.held(claim.job.id, claim.token)
            job = job_of(row)
            after = move(job, now)
            return job if after == job else _save(unit, row, after, now)


def _save(unit: Unit, row: JobRow, job: Job, now: float) -> Job:
    after = msgspec.structs.replace(job, revision=row.revision + 1)
    expires = row.expires if after.state == "running" else 0.0
    unit.jobs.save(row_of(after, now, row.holder, row.token, expires), row.revision)
    return after
