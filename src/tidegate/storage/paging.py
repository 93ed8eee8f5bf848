"""Lists that are read page by page, the newest rows first."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, Table, select, tuple_


def matching(table: Table, **wanted: object) -> list[ColumnElement[bool]]:
    """Rows whose columns have these values; None asks for any."""
    return [table.c[name] == value for name, value in wanted.items() if value is not None]


def page(query: Select[Any], table: Table, limit: int, cursor: str | None, by: str = "created") -> Select[Any]:
    """The latest ``by`` first. ``cursor`` is the key of the last row of the page before; where that row is gone, nothing
    follows."""
    (key,) = table.primary_key.columns
    moment = table.c[by]
    if cursor is not None:
        last = select(moment, key).where(key == cursor).scalar_subquery()
        query = query.where(tuple_(moment, key) < last)
    return query.order_by(moment.desc(), key.desc()).limit(limit)
