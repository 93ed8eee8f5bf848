"""Jobs and schedules. Which worker has a job is decided here: a claim is one statement, and each write of a worker names
the token of its claim."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, and_, delete, func, or_, select, update

from tidegate.errors import LeaseLost, LostRace
from tidegate.storage.base import Repository, fields_of
from tidegate.storage.paging import matching, page
from tidegate.storage.records import JobRow, ScheduleRow
from tidegate.storage.tables import jobs, schedules


def _free(kinds: Sequence[str], now: float) -> Select[Any]:
    """The one to take next. What was not put off runs at once, also when the clock was set back since it was queued."""
    due = or_(jobs.c.run_at <= now, jobs.c.run_at <= jobs.c.created)
    free = or_(
        and_(jobs.c.state == "queued", due),
        and_(jobs.c.state == "running", jobs.c.expires <= now),
    )
    query = select(jobs.c.id).where(jobs.c.open.is_(True), free, jobs.c.kind.in_(kinds))
    return query.order_by(jobs.c.run_at, jobs.c.created, jobs.c.id).limit(1)


class Jobs(Repository):
    def add(self, row: JobRow) -> None:
        """Raises LostRace when an open job has the same key; the transaction can go on."""
        if self._changed(self._insert(jobs).on_conflict_do_nothing(), [fields_of(row)]) != 1:
            raise LostRace(f"an open job has the key {row.key!r} already")

    def get(self, id: str) -> JobRow | None:  # noqa: A002
        return self._row(JobRow, select(jobs).where(jobs.c.id == id))

    def open_with(self, key: str) -> JobRow | None:
        return self._row(JobRow, select(jobs).where(jobs.c.key == key, jobs.c.open.is_(True)))

    def count_open(self) -> int:
        query = select(func.count()).select_from(jobs).where(jobs.c.open.is_(True))
        return int(self._connection.execute(query).scalar_one())

    def waits(self, kinds: Sequence[str], now: float) -> bool:
        """Whether ``claim`` has something to take: asked by idle workers, without taking a lock."""
        return self._connection.execute(_free(kinds, now)).scalar() is not None

    def claim(self, kinds: Sequence[str], holder: str, now: float, seconds: float) -> JobRow | None:
        """The job that has waited longest, for ``seconds``; also one whose worker has been silent for too long. Two workers
        never get the same one."""
        query = _free(kinds, now).with_for_update(skip_locked=True)
        id = self._connection.execute(query).scalar()  # noqa: A001
        if id is None:
            return None
        taken = {
            "state": "running",
            "holder": holder,
            "token": jobs.c.token + 1,
            "revision": jobs.c.revision + 1,
            "expires": now + seconds,
            "changed": now,
        }
        self._connection.execute(update(jobs).where(jobs.c.id == id).values(**taken))
        return self.get(id)

    def renew(self, id: str, token: int, now: float, seconds: float) -> JobRow:  # noqa: A002
        """The job as it stands, ours for longer. Raises LeaseLost when another worker took it, or it ended."""
        mine = jobs.c.id == id, jobs.c.token == token, jobs.c.state == "running"
        query = update(jobs).where(*mine).values(expires=now + seconds)
        row = self.get(id) if self._connection.execute(query).rowcount == 1 else None
        if row is None:
            raise LeaseLost(f"another worker has job {id}, or it has ended")
        return row

    def held(self, id: str, token: int) -> JobRow:  # noqa: A002
        """The job, locked until the unit ends. Raises LeaseLost when another worker took it, or it ended."""
        query = select(jobs).where(jobs.c.id == id, jobs.c.token == token, jobs.c.state == "running")
        row = self._row(JobRow, query.with_for_update())
        if row is None:
            raise LeaseLost(f"another worker has job {id}, or it has ended")
        return row

    def save(self, row: JobRow, expected: int) -> None:
        """Raises LostRace when the stored revision is not ``expected``."""
        self._save(jobs, row, expected, "job", fixed=("created", "kind"))

    def list(
        self,
        kind: str | None = None,
        endpoint: str | None = None,
        open: bool | None = None,  # noqa: A002
        state: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> builtins.list[JobRow]:
        """Newest first; ``cursor`` is the id of the last row of the page before."""
        query = select(jobs).where(*matching(jobs, kind=kind, endpoint=endpoint, open=open, state=state))
        return self._rows(JobRow, page(query, jobs, limit, cursor))

    def counts(self) -> dict[str, int]:
        """Jobs by state."""
        query = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        return {state: int(count) for state, count in self._connection.execute(query)}

    def put_schedule(self, row: ScheduleRow) -> None:
        fields = fields_of(row)
        query = self._insert(schedules).values(**fields)
        self._connection.execute(query.on_conflict_do_update(index_elements=["name"], set_=fields))

    def schedule(self, name: str) -> ScheduleRow | None:
        query = select(schedules).where(schedules.c.name == name)
        return self._row(ScheduleRow, query.with_for_update() if self._writes else query)

    def drop_schedule(self, name: str) -> None:
        self._connection.execute(delete(schedules).where(schedules.c.name == name))

    def all_schedules(self) -> builtins.list[ScheduleRow]:
        return self._rows(ScheduleRow, select(schedules).order_by(schedules.c.name))
