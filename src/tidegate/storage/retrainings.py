"""Retrainings: each the whole chain from a trigger to what came of it."""

from __future__ import annotations

import builtins

from sqlalchemy import select

from tidegate.errors import LostRace
from tidegate.storage.base import Repository
from tidegate.storage.paging import matching, page
from tidegate.storage.records import RetrainingRow
from tidegate.storage.tables import retrainings


class Retrainings(Repository):
    def add(self, row: RetrainingRow) -> None:
        """Raises LostRace when the endpoint has an open one already."""
        self._add(retrainings, row, LostRace(f"endpoint {row.endpoint} has an open retraining already"))

    def save(self, row: RetrainingRow, expected: int) -> None:
        """Raises LostRace when the stored revision is not ``expected``."""
        self._save(retrainings, row, expected, "retraining")

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
