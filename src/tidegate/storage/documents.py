"""Reports to read, such as Evidently's pages."""

from __future__ import annotations

import builtins

from sqlalchemy import delete, insert, literal, select, tuple_
from sqlalchemy.types import LargeBinary

from tidegate.storage.base import Repository, fields_of
from tidegate.storage.records import DocumentRow
from tidegate.storage.tables import reports

LIGHT = tuple(literal(b"", LargeBinary) if column.name == "body" else column for column in reports.c)


class Documents(Repository):
    def add(self, row: DocumentRow) -> None:
        self._connection.execute(insert(reports).values(**fields_of(row)))

    def get(self, id: str) -> DocumentRow | None:  # noqa: A002
        return self._row(DocumentRow, select(reports).where(reports.c.id == id))

    def list(
        self, endpoint: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> builtins.list[DocumentRow]:
        """Newest first, without their bodies; ``cursor`` is the id of the last row of the page before."""
        query = select(*LIGHT).order_by(reports.c.created.desc(), reports.c.id.desc()).limit(limit)
        if endpoint is not None:
            query = query.where(reports.c.endpoint == endpoint)
        if cursor is not None:
            last = select(reports.c.created, reports.c.id).where(reports.c.id == cursor).scalar_subquery()
            query = query.where(tuple_(reports.c.created, reports.c.id) < last)
        return self._rows(DocumentRow, query)

    def keep_newest(self, endpoint: str, count: int) -> int:
        """Deletes all but the newest ``count`` of an endpoint; how many went."""
        newest = (
            select(reports.c.id).where(reports.c.endpoint == endpoint).order_by(reports.c.created.desc()).limit(count)
        )
        gone = (reports.c.endpoint == endpoint) & reports.c.id.not_in(newest)
        return int(self._connection.execute(delete(reports).where(gone)).rowcount)
