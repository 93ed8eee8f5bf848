"""What people and other parts do with jobs: submit, look, cancel, try again. ``claims.py`` is the workers' side."""

from __future__ import annotations

import builtins
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tidegate.clock import Clock
from tidegate.control.access import audit
from tidegate.control.jobs import moves
from tidegate.control.jobs.handlers import HANDLERS
from tidegate.control.jobs.job import Job
from tidegate.errors import Conflict, InvalidInput, LostRace, NotFound, QueueFull
from tidegate.section import seconds_of
from tidegate.settings import Jobs
from tidegate.storage.records import JobRow
from tidegate.storage.store import Store, Unit

SYSTEM = "tidegate"
"""Who asks for what nobody asked for. Its jobs have room where those of people are refused: an alert goes out also while a
thousand files wait."""
ROOM = 2
FULL_SECONDS = 30.0
TRIES = 3
MOST_ATTEMPTS = 100
MOST_PAYLOAD = 256 * 1024
"""Bytes of JSON: a job names its data, and does not carry it."""
LOOK_SECONDS = 0.2


class Queue:
    """``kinds`` are those that some worker knows."""

    def __init__(
        self,
        store: Store,
        settings: Jobs,
        clock: Clock,
        kinds: Mapping[str, str] = HANDLERS,
        new_id: Callable[[], str] = lambda: f"j-{secrets.token_hex(6)}",
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._kinds = kinds
        self._new_id = new_id

    def submit(self, kind: str, payload: Mapping[str, Any], *, who: str, **more: Any) -> Job:
        """As ``submit_in``, in a transaction of its own. Once it returns, the job survives any crash."""
        with self._store.begin() as unit:
            return self.submit_in(unit, kind, payload, who=who, **more)

    def submit_in(
        self,
        unit: Unit,
        kind: str,
        payload: Mapping[str, Any],
        *,
        who: str,
        key: str = "",
        endpoint: str = "",
        parent: str = "",
        run_at: float | None = None,
        timeout: float | None = None,
        attempts: int | None = None,
        reason: str = "",
        id: str = "",  # noqa: A002
    ) -> Job:
        """A new job, or the open one with the same key. ``timeout`` seconds bound each try, ``run_at`` says not before when.

        Raises QueueFull when too many are open, and InvalidInput for what no worker could run.
        """
        self._check(kind, payload, timeout, attempts)
        if key and (row := unit.jobs.open_with(key)) is not None:
            return job_of(row)
        if unit.jobs.count_open() >= self._settings.max_open * (ROOM if who == SYSTEM else 1):
            raise QueueFull(
                f"{self._settings.max_open} jobs wait or run already (jobs.max_open); "
                "try again when some have ended, or cancel some",
                FULL_SECONDS,
            )
        now = self._clock.wall()
        job = Job(
            id=id or self._new_id(),
            kind=kind,
            key=key,
            endpoint=endpoint,
            payload=payload,
            author=who,
            reason=reason,
            parent=parent,
            max_attempts=attempts or self._settings.attempts,
            timeout_seconds=timeout or seconds_of(self._settings.timeout),
            created=now,
            run_at=now if run_at is None else run_at,
        )
        try:
            unit.jobs.add(row_of(job, now))
        except LostRace:
            row = unit.jobs.open_with(key)
            if row is None:
                raise
            return job_of(row)
        if who != SYSTEM:
            asked = {"kind": kind, "endpoint": endpoint, "payload": payload}
            audit.record(unit, who, "job.submit", f"job:{job.id}", at=now, after=asked, reason=reason)
        return job

    def get(self, id: str) -> Job:  # noqa: A002
        """Raises NotFound."""
        with self._store.read() as unit:
            return one(unit, id)

    def list(
        self,
        *,
        kind: str | None = None,
        endpoint: str | None = None,
        state: str | None = None,
        open: bool | None = None,  # noqa: A002
        limit: int = 50,
        cursor: str | None = None,
    ) -> tuple[builtins.list[Job], str | None]:
        """Newest first, and the cursor of what follows."""
        with self._store.read() as unit:
            rows = unit.jobs.list(kind=kind, endpoint=endpoint, state=state, open=open, limit=limit + 1, cursor=cursor)
        shown = [job_of(row) for row in rows[:limit]]
        return shown, (shown[-1].id if len(rows) > limit else None)

    def counts(self) -> dict[str, int]:
        """Jobs by state."""
        with self._store.read() as unit:
            return unit.jobs.counts()

    def cancel(self, id: str, *, who: str, reason: str = "") -> Job:  # noqa: A002
        """One that waits is cancelled at once; one that runs is ``cancelling`` until its worker has ended it. Raises
        NotFound, and Conflict for one that has ended."""
        now = self._clock.wall()
        return self._change(id, lambda job: moves.asked_to_cancel(job, now, reason), who, "job.cancel", reason)

    def retry(self, id: str, *, who: str, reason: str = "") -> Job:  # noqa: A002
        """Another go for one that failed or was cancelled; finished steps are not done again. Raises NotFound, Conflict."""
        now = self._clock.wall()
        return self._change(id, lambda job: moves.asked_again(job, now), who, "job.retry", reason)

    def wait(
        self,
        id: str,  # noqa: A002
        seconds: float,
        stopping: threading.Event | None = None,
        look_seconds: float = LOOK_SECONDS,
    ) -> Job:
        """The job once it has ended; or as it stands after ``seconds``, or when ``stopping`` is set."""
        stopping = stopping or threading.Event()
        deadline = self._clock.monotonic() + seconds
        while (job := self.get(id)).open:
            left = deadline - self._clock.monotonic()
            if left <= 0 or stopping.wait(min(look_seconds, left)):
                break
        return job

    def _change(self, id: str, move: Callable[[Job], Job], who: str, action: str, reason: str) -> Job:  # noqa: A002
        for attempt in range(TRIES):
            try:
                with self._store.begin() as unit:
                    before = one(unit, id)
                    after = move(before)
                    if after == before:
                        return before
                    now = self._clock.wall()
                    after = save(unit, before, after, now)
                    state = "cancelling" if after.cancelling else after.state
                    states = {"before": {"state": before.state}, "after": {"state": state}}
                    audit.record(unit, who, action, f"job:{id}", at=now, reason=reason, **states)
                    return after
            except LostRace:  # a worker was first
                if attempt == TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    def _check(self, kind: str, payload: Mapping[str, Any], timeout: float | None, attempts: int | None) -> None:
        if kind not in self._kinds:
            raise InvalidInput(f"no jobs of kind {kind[:80]!r}; known are {', '.join(sorted(self._kinds))}", ("kind",))
        if timeout is not None and not 0 < timeout < 1e9:
            raise InvalidInput("timeout: a number of seconds over 0", ("timeout",))
        if attempts is not None and not 1 <= attempts <= MOST_ATTEMPTS:
            raise InvalidInput(f"attempts: from 1 to {MOST_ATTEMPTS}", ("attempts",))
        size = len(msgspec.json.encode(payload))
        if size > MOST_PAYLOAD:
            raise InvalidInput(
                f"payload: {size} bytes; a job takes {MOST_PAYLOAD} at most, so name a file", ("payload",)
            )


def one(unit: Unit, id: str) -> Job:  # noqa: A002
    row = unit.jobs.get(id)
    if row is None:
        raise NotFound(f"there is no job {id[:80]!r}")
    return job_of(row)


def job_of(row: JobRow) -> Job:
    return msgspec.json.decode(row.body, type=Job)


def row_of(job: Job, now: float, holder: str = "", token: int = 0, expires: float = 0.0) -> JobRow:
    return JobRow(
        id=job.id,
        kind=job.kind,
        key=job.key,
        endpoint=job.endpoint,
        state=job.state,
        open=job.open,
        run_at=job.run_at,
        created=job.created,
        changed=now,
        revision=job.revision,
        holder=holder,
        token=token,
        expires=expires,
        body=msgspec.json.encode(job).decode(),
    )


def save(unit: Unit, before: Job, after: Job, now: float) -> Job:
    """Raises LostRace when it was changed since it was read, Conflict when its key has another open job by now."""
    row = unit.jobs.get(before.id)
    if row is None or row.revision != before.revision:
        raise LostRace(f"job {before.id} was changed meanwhile; look again and repeat")
    if after.open and not before.open and after.key and unit.jobs.open_with(after.key) is not None:
        raise Conflict(f"the same work is open already, as another job with the key {after.key!r}")
    after = msgspec.structs.replace(after, revision=before.revision + 1)
    unit.jobs.save(row_of(after, now, row.holder, row.token, row.expires), before.revision)
    return after
