"""Retrainings: each the whole chain from a trigger to what came of it."""

from __future__ import annotations

import builtins

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from tidegate.errors import LostRace
from tidegate.storage.base import Repository, fields_of
from tidegate.storage.paging import matching, page
from tidegate.storage.records import RetrainingRow
from tidegate.storage.tables import retrainings


class Retrainings(Repository):
    def add(self, row: RetrainingRow) -> None:
        """Raises LostRace when the endpoint has an open one already."""
        try:
            self._connection.execute(insert(retrainings).values(**fields_of(row)))
        except IntegrityError as error:
            raise LostRace(f"endpoint {row.endpoint} has an open retraining already") from error

    def save(self, row: RetrainingRow, expected: int) -> None:
        """Raises LostRace when the stored revision is not ``expected``."""
        fields = fields_of(row)
        del fields["id"], fields["created"]
        query = update(retrainings).where(retrainings.c.id == row.id, retrainings.c.revision == expected)
        if self._connection.execute(query.values(**fields)).rowcount != 1:
            raise LostRace(f"retraining {row.id} was changed meanwhile; look again and repeat")

    def get(self, id: str) -> RetrainingRow | None:  # noqa: A002
        return self._row(RetrainingRow, select(retrainings).where(retrainings.c.id == id))

    def list(
        self,
        endpoint: str | None = None,
        open: bool | None = None,  # noqa: A002
        limit: int = 50,
        cursor: str | None = None,
    ) -> builtins.list[RetrainingRow]:
        """Newest first; ``cursor`` is the id of the last row of the page before."""
        query = select(retrainings).where(*matching(retrainings, endpoint=endpoint, open=open))
        return self._rows(RetrainingRow, page(query, retrainings, limit, cursor))
