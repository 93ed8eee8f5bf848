"""Reports to read, such as Evidently's pages."""

from __future__ import annotations

import builtins

from sqlalchemy import delete, insert, literal, select
from sqlalchemy.types import LargeBinary

from tidegate.storage.base import Repository, fields_of
from tidegate.storage.paging import matching, page
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
        query = select(*LIGHT).where(*matching(reports, endpoint=endpoint))
        return self._rows(DocumentRow, page(query, reports, limit, cursor))

    def keep_newest(self, endpoint: str, count: int) -> int:
        """Deletes all but the newest ``count`` of an endpoint; how many went."""
        newest = (
            select(reports.c.id).where(reports.c.endpoint == endpoint).order_by(reports.c.created.desc()).limit(count)
        )
        gone = (reports.c.endpoint == endpoint) & reports.c.id.not_in(newest)
        return int(self._connection.execute(delete(reports).where(gone)).rowcount)
