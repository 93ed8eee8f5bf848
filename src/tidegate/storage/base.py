"""What every repository stands on: one connection, inside one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Select, Table, insert, literal_column, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from tidegate.errors import Conflict, LostRace

T = TypeVar("T")

IDS_AT_ONCE = 500
"""Names in one IN (…); older SQLite takes 999 parameters."""

LOCKS = {"decisions": 0x71DE0001, "windows": 0x71DE0002, "migration": 0x71DE0003, "events": 0x71DE0004}
"""Advisory locks of PostgreSQL, by what they keep in line."""


class Repository:
    """``writes`` is false inside a read transaction."""

    def __init__(self, connection: Connection, writes: bool) -> None:
        self._connection = connection
        self._writes = writes
        self._postgres = connection.dialect.name == "postgresql"

    def _add(self, table: Table, row: msgspec.Struct, taken: Conflict) -> None:
        """Raises ``taken`` when another row has what only one may have; then the transaction is over."""
        try:
            self._connection.execute(insert(table).values(**fields_of(row)))
        except IntegrityError as error:
            raise taken from error

    def _save(
        self, table: Table, row: msgspec.Struct, expected: int, what: str, fixed: Sequence[str] = ("created",)
    ) -> None:
        """All columns of a row that is there but its key and those that are ``fixed``. Raises LostRace when the stored
        revision is not ``expected``: somebody else changed it."""
        fields = fields_of(row)
        (key,) = table.primary_key.columns
        name = fields.pop(key.name)
        changed = {column: value for column, value in fields.items() if column not in fixed}
        query = update(table).where(key == name, table.c.revision == expected).values(**changed)
        if self._connection.execute(query).rowcount != 1:
            raise LostRace(f"{what} {name} was changed meanwhile; look again and repeat")

    def _insert(self, table: Table) -> Any:
        """An insert that knows ``on_conflict_do_update``; both databases write it alike."""
        return postgresql.insert(table) if self._postgres else sqlite.insert(table)

    def _changed(self, query: Any, values: Sequence[dict[str, Any]]) -> int:
        """Rows that an insert of many made or changed. PostgreSQL gets many in one statement, and so counts them only by
        giving them back; one statement may touch a row once, so ``values`` are of different keys there."""
        if self._postgres:
            return len(self._connection.execute(query.returning(literal_column("1")), values).all())
        return int(self._connection.execute(query, values).rowcount)

    def _in_line(self, what: str) -> None:
        """Until this transaction ends no other takes the same lock. SQLite has one writer at a time anyway."""
        if self._postgres:
            self._connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCKS[what]})

    def _rows(self, kind: type[T], query: Select[Any]) -> list[T]:
        """Records of ``kind``, whose fields are in the order of the selected columns."""
        return [kind(*row) for row in self._connection.execute(query)]

    def _row(self, kind: type[T], query: Select[Any]) -> T | None:
        row = self._connection.execute(query).first()
        return None if row is None else kind(*row)


def clean(words: str) -> str:
    """Text that both databases take: PostgreSQL has no zero character."""
    return words.replace("\0", "�") if "\0" in words else words


def in_parts(names: Sequence[T], size: int = IDS_AT_ONCE) -> Iterator[Sequence[T]]:
    for begin in range(0, len(names), size):
        yield names[begin : begin + size]


def fields_of(row: msgspec.Struct) -> dict[str, Any]:
    """Column by name of a record whose fields are its table's columns."""
    return {name: getattr(row, name) for name in row.__struct_fields__}
