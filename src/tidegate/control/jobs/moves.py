"""How a job goes from one state to the next. Pure: a job and what happened give the job afterwards."""

from __future__ import annotations

from typing import Any

import msgspec

from tidegate.control.jobs.job import Attempt, Job, Progress, State
from tidegate.errors import Conflict

MOST_ATTEMPTS = 20
"""Attempts that a job remembers."""
LONGEST_BACKOFF = 3600.0
MOST_TEXT = 2000
"""Characters of an error."""


def claimed(job: Job, worker: str, now: float) -> Job:
    """A worker has taken it. One that was running has lost its worker: that counts as a try, so that a job that brings
    down its machine does not go on for ever; without another try left it fails here."""
    if job.state == "running":
        reason = "its worker gave no more sign of life: killed, or cut off from the store"
        job = _ended_try(job, now, reason)
        if job.cancelling:
            return cancelled(job, now)
        if job.tries >= job.max_attempts:
            return _end(job, "failed", now, error=_last(job, reason))
    attempts = (*job.attempts, Attempt(worker, now))[-MOST_ATTEMPTS:]
    return msgspec.structs.replace(
        job, state="running", attempts=attempts, tries=job.tries + 1, started=job.started or now, error=""
    )


def progressed(job: Job, progress: Progress) -> Job:
    """Never back, whatever another try says."""
    before = job.progress
    if progress.total == before.total and progress.done < before.done:
        progress = msgspec.structs.replace(progress, done=before.done)
    return msgspec.structs.replace(job, progress=progress)


def stepped(job: Job, name: str, value: Any) -> Job:
    return msgspec.structs.replace(job, steps={**job.steps, name: value})


def finished(job: Job, now: float, result: Any) -> Job:
    return _end(_ended_try(job, now, ""), "done", now, result=result)


def failed(job: Job, now: float, error: str, *, again: bool, backoff: float, share: float) -> Job:
    """``again``: another try may go better. ``share`` in 0..1 is the random part of the pause before it."""
    job = _ended_try(job, now, error)
    if job.cancelling:
        return cancelled(job, now)
    if not again or job.tries >= job.max_attempts:
        return _end(job, "failed", now, error=_last(job, error) if again else error)
    return msgspec.structs.replace(job, state="queued", error=error, run_at=now + pause(job.tries, backoff, share))


def pause(tries: int, backoff: float, share: float) -> float:
    """Seconds before the next try: doubles with each, from half of that to all of it by ``share``."""
    longest = min(backoff * 2.0 ** min(tries - 1, 30), max(LONGEST_BACKOFF, backoff))
    return longest * (0.5 + 0.5 * share)


def handed_back(job: Job, now: float, run_at: float = 0.0) -> Job:
    """The worker ends, or waits for the store: as if this try had not been."""
    if job.cancelling:
        return cancelled(_ended_try(job, now, ""), now)
    return msgspec.structs.replace(
        job, state="queued", attempts=job.attempts[:-1], tries=max(job.tries - 1, 0), run_at=max(run_at, now)
    )


def asked_to_cancel(job: Job, now: float, reason: str) -> Job:
    """One that waits ends at once, one that runs as soon as its worker notices. Raises Conflict for one that has ended."""
    if not job.open:
        raise Conflict(f"job {job.id} is {job.state}; only one that waits or runs can be cancelled")
    if job.state == "running":
        return msgspec.structs.replace(job, cancelling=True, reason=reason or job.reason)
    return cancelled(msgspec.structs.replace(job, reason=reason or job.reason), now)


def cancelled(job: Job, now: float) -> Job:
    if job.attempts and not job.attempts[-1].ended:
        job = _ended_try(job, now, "")
    return _end(job, "cancelled", now, error=job.error)


def asked_again(job: Job, now: float) -> Job:
    """Keeps what finished steps gave. Raises Conflict for one that has not failed."""
    if job.state not in ("failed", "cancelled"):
        raise Conflict(f"job {job.id} is {job.state}; only one that failed or was cancelled can be tried again")
    return msgspec.structs.replace(
        job, state="queued", run_at=now, ended=0.0, error="", tries=0, cancelling=False, result={}
    )


def _ended_try(job: Job, now: float, error: str) -> Job:
    if not job.attempts:
        return job
    last = msgspec.structs.replace(job.attempts[-1], ended=now, error=error[:MOST_TEXT])
    return msgspec.structs.replace(job, attempts=(*job.attempts[:-1], last))


def _end(job: Job, state: State, now: float, *, error: str = "", result: Any = None) -> Job:
    return msgspec.structs.replace(
        job, state=state, ended=now, error=error[:MOST_TEXT], result=result or {}, cancelling=False
    )


def _last(job: Job, error: str) -> str:
    return error if job.tries == 1 else f"{error} (the last of {job.tries} tries)"
