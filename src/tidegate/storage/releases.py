"""Releases, what happened to them, and the evidence of every look at them."""

from __future__ import annotations

import builtins

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from tidegate.errors import LostRace
from tidegate.storage.base import Repository
from tidegate.storage.paging import matching, page
from tidegate.storage.records import EvidenceRow, ReleaseEventRow, ReleaseRow
from tidegate.storage.tables import release_events, release_evidence, releases


class Releases(Repository):
    def add(self, row: ReleaseRow, event: ReleaseEventRow) -> None:
        """Raises LostRace when the endpoint has an open release already, or the id is taken."""
        self._add(releases, row, LostRace(f"endpoint {row.endpoint} has an open release already"))
        self._add_event(event)

    def save(self, row: ReleaseRow, event: ReleaseEventRow | None, expected: int) -> None:
        """Raises LostRace when the stored revision is not ``expected``: somebody else changed the release."""
        try:
            self._save(releases, row, expected, "release")
        except IntegrityError as error:
            raise LostRace(f"endpoint {row.endpoint} has an open release already") from error
        if event is not None:
            self._add_event(event)

    def get(self, id: str) -> ReleaseRow | None:  # noqa: A002
        return self._row(ReleaseRow, select(releases).where(releases.c.id == id))

    def list(
        self,
        endpoint: str | None = None,
        open: bool | None = None,  # noqa: A002
        limit: int = 50,
        cursor: str | None = None,
    ) -> builtins.list[ReleaseRow]:
        """Newest first; ``cursor`` is the id of the last row of the page before."""
        query = select(releases).where(*matching(releases, endpoint=endpoint, open=open))
        return self._rows(ReleaseRow, page(query, releases, limit, cursor))

    def events(self, id: str, after: int = -1) -> builtins.list[ReleaseEventRow]:  # noqa: A002
        """Revisions after ``after``, in their order."""
        query = select(release_events).where(release_events.c.release == id, release_events.c.revision > after)
        return self._rows(ReleaseEventRow, query.order_by(release_events.c.revision))

    def add_evidence(self, row: EvidenceRow) -> None:
        """Raises LostRace when this tick is there already."""
        self._add(release_evidence, row, LostRace(f"tick {row.tick} of release {row.release} was written by another"))

    def evidence(self, id: str, after: int = -1, limit: int = 1000) -> builtins.list[EvidenceRow]:  # noqa: A002
        """Ticks after ``after``, in their order."""
        query = select(release_evidence).where(release_evidence.c.release == id, release_evidence.c.tick > after)
        return self._rows(EvidenceRow, query.order_by(release_evidence.c.tick).limit(limit))

    def _add_event(self, event: ReleaseEventRow) -> None:
        lost = LostRace(f"revision {event.revision} of release {event.release} was written by another")
        self._add(release_events, event, lost)
