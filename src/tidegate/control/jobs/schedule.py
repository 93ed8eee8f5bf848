"""Jobs that are queued again and again. One of several control planes does it, under a lease; what is due is queued in the
transaction that says when it is due next."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from tidegate.clock import Clock
from tidegate.control.jobs.queue import SYSTEM, Queue
from tidegate.control.lease import Leadership
from tidegate.errors import InvalidInput, LeaseLost
from tidegate.section import seconds_of
from tidegate.settings import ScheduledJob
from tidegate.storage.records import ScheduleRow
from tidegate.storage.store import Store, Unit

logger = logging.getLogger("tidegate.jobs")

LEASE = "schedules"
PREFIX = "every:"
"""Of the rows that are schedules; others keep notes of their own beside them."""


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    seconds: float
    kind: str
    payload: Mapping[str, Any] = {}
    endpoint: str = ""
    last_job: str = ""


class Schedules:
    """What ``every`` names is kept in the store; a name that nobody gives any more is dropped by ``only``."""

    def __init__(self, store: Store, queue: Queue, clock: Clock, holder: str, lease_seconds: float) -> None:
        self._store = store
        self._queue = queue
        self._clock = clock
        self._leadership = Leadership(store, clock, LEASE, holder, lease_seconds)

    def every(
        self, name: str, seconds: float, kind: str, payload: Mapping[str, Any] | None = None, *, endpoint: str = ""
    ) -> None:
        """From now on, first after ``seconds``. The same again changes nothing, and does not begin anew."""
        if not 1 <= seconds < 1e9:
            raise InvalidInput(f"schedule {name}: every so many seconds, 1 or more, not {seconds:g}")
        wanted = Schedule(name=name, seconds=seconds, kind=kind, payload=payload or {}, endpoint=endpoint)
        now = self._clock.wall()
        with self._store.begin() as unit:
            row = unit.jobs.schedule(PREFIX + name)
            before = None if row is None else _schedule(row)
            if before is not None and msgspec.structs.replace(before, last_job="") == wanted:
                return
            next_ = now + seconds
            if row is not None and before is not None:
                next_ = min(row.next, next_)
                wanted = msgspec.structs.replace(wanted, last_job=before.last_job)
            unit.jobs.put_schedule(_row(wanted, next_, now))

    def follow(self, planned: Mapping[str, ScheduledJob]) -> None:
        """What the settings say, and nothing else."""
        for name, job in planned.items():
            payload = dict(job.payload) | ({"endpoint": job.endpoint} if job.endpoint else {})
            self.every(name, seconds_of(job.every), job.kind, payload, endpoint=job.endpoint)
        self.only(set(planned))

    def only(self, names: set[str]) -> None:
        """Forgets all others."""
        with self._store.read() as unit:
            others = [row.name for row in _rows(unit) if row.name.removeprefix(PREFIX) not in names]
        if others:
            with self._store.begin() as unit:
                for name in others:
                    unit.jobs.drop_schedule(name)

    def tick(self) -> None:
        """Queues what is due: once, however often it was missed, and not while the one before is open. Does nothing while
        another control plane holds the lease. Raises StoreAway."""
        now = self._clock.wall()
        with self._store.read() as unit:
            due = [row.name for row in _rows(unit) if next_run(row.next, _schedule(row).seconds, now)]
        lease = self._leadership.take() if due else None
        if lease is None:
            return
        for name in due:
            try:
                with self._store.begin() as unit:
                    unit.leases.check(lease, self._clock.wall())
                    row = unit.jobs.schedule(name)
                    if row is None:
                        continue
                    schedule = _schedule(row)
                    then = next_run(row.next, schedule.seconds, now)
                    if then is None:
                        continue
                    if row.next <= now:
                        job = self._queue.submit_in(
                            unit,
                            schedule.kind,
                            schedule.payload,
                            who=SYSTEM,
                            key=f"schedule:{schedule.name}",
                            endpoint=schedule.endpoint,
                            parent=f"schedule:{schedule.name}",
                        )
                        schedule = msgspec.structs.replace(schedule, last_job=job.id)
                    unit.jobs.put_schedule(_row(schedule, then, now))
            except LeaseLost as error:
                self._leadership.lose(str(error))
                return

    def leave(self) -> None:
        """Hands the lease back, so that another control plane goes on at once."""
        self._leadership.give_back()


def next_run(due: float, seconds: float, now: float) -> float | None:
    """When it is due after this look; None: nothing changes now. In step with the first time, so that a late look does
    not put off those after it. ``due`` is farther off than one period only when the clock was set back."""
    if due <= now:
        return due + (math.floor((now - due) / seconds) + 1) * seconds
    return now + seconds if due > now + seconds else None


def _rows(unit: Unit) -> list[ScheduleRow]:
    return [row for row in unit.jobs.all_schedules() if row.name.startswith(PREFIX)]


def _schedule(row: ScheduleRow) -> Schedule:
    return msgspec.json.decode(row.body, type=Schedule)


def _row(schedule: Schedule, due: float, now: float) -> ScheduleRow:
    return ScheduleRow(PREFIX + schedule.name, due, now, msgspec.json.encode(schedule).decode())
