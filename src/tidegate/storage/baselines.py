"""Baselines: the profiles that production is compared with."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from sqlalchemy import delete, func, literal, select

from tidegate.storage.base import Repository, fields_of
from tidegate.storage.paging import matching, page
from tidegate.storage.records import BaselineRow
from tidegate.storage.tables import baselines

LIGHT = tuple(literal("") if column.name == "body" else column for column in baselines.c)


class Baselines(Repository):
    def put(self, row: BaselineRow) -> None:
        """A second one of the same name replaces it."""
        fields = fields_of(row)
        query = self._insert(baselines).values(**fields)
        self._connection.execute(query.on_conflict_do_update(index_elements=["name"], set_=fields))

    def get(self, name: str) -> BaselineRow | None:
        return self._row(BaselineRow, select(baselines).where(baselines.c.name == name))

    def digest_of(self, name: str) -> str | None:
        """None where there is none; without its body, which may be large."""
        digest: str | None = self._connection.execute(
            select(baselines.c.digest).where(baselines.c.name == name)
        ).scalar()
        return digest

    def version_of(self, name: str) -> str:
        """Of its model, or the state of its file; empty where there is none."""
        return self._connection.execute(select(baselines.c.version).where(baselines.c.name == name)).scalar() or ""

    def name_of(self, digest: str) -> str | None:
        """A name under which a profile is kept; without its body."""
        return self._connection.execute(select(baselines.c.name).where(baselines.c.digest == digest).limit(1)).scalar()

    def by_digest(self, digest: str) -> BaselineRow | None:
        return self._row(BaselineRow, select(baselines).where(baselines.c.digest == digest).limit(1))

    def list(
        self, endpoint: str | None = None, limit: int = 50, cursor: str | None = None, among: Sequence[str] = ()
    ) -> builtins.list[BaselineRow]:
        """Newest first, without their bodies; with ``among`` those of these endpoints; ``cursor`` is the name of the last row of the page before."""
        query = select(*LIGHT).where(*matching(baselines, endpoint=endpoint))
        if among:
            query = query.where(baselines.c.endpoint.in_(among))
        return self._rows(BaselineRow, page(query, baselines, limit, cursor))

    def count(self) -> int:
        return int(self._connection.execute(select(func.count()).select_from(baselines)).scalar_one())

    def delete(self, name: str) -> bool:
        return self._connection.execute(delete(baselines).where(baselines.c.name == name)).rowcount == 1
