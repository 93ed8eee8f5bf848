"""The audit log: rows are added, never changed; each carries the hash of the one before."""

from __future__ import annotations

import builtins
import hashlib

import msgspec
from sqlalchemy import insert, select

from tidegate.storage.base import Repository, clean, fields_of
from tidegate.storage.records import AuditRow
from tidegate.storage.tables import audit_events


def hash_of(row: AuditRow) -> str:
    """SHA-256, in hex, of the previous hash and the JSON of all other fields with sorted names."""
    fields = fields_of(row)
    previous = fields.pop("previous")
    del fields["hash"]
    return hashlib.sha256(previous.encode() + msgspec.json.encode(fields, order="sorted")).hexdigest()


class Audit(Repository):
    def append(self, who: str, action: str, target: str, body: str, at: float) -> AuditRow:
        """In the transaction of the change that it tells of. Numbers begin at 1 and have no gaps."""
        self._in_line("decisions")
        last = self.last()
        sequence, previous = (1, "") if last is None else (last.sequence + 1, last.hash)
        row = AuditRow(sequence, float(at), clean(who), action, clean(target), clean(body), previous, "")
        row = msgspec.structs.replace(row, hash=hash_of(row))
        self._connection.execute(insert(audit_events).values(**fields_of(row)))
        return row

    def list(self, limit: int = 50, before: int | None = None, target: str | None = None) -> builtins.list[AuditRow]:
        """Newest first; the next page is before the last sequence of this one."""
        query = select(audit_events).order_by(audit_events.c.sequence.desc()).limit(limit)
        if before is not None:
            query = query.where(audit_events.c.sequence < before)
        if target is not None:
            query = query.where(audit_events.c.target == target)
        return self._rows(AuditRow, query)

    def rows(self, after: int = 0, limit: int = 1000) -> builtins.list[AuditRow]:
        """Oldest first, for the chain to be verified."""
        query = select(audit_events).where(audit_events.c.sequence > after)
        return self._rows(AuditRow, query.order_by(audit_events.c.sequence).limit(limit))

    def last(self) -> AuditRow | None:
        return self._row(AuditRow, select(audit_events).order_by(audit_events.c.sequence.desc()).limit(1))
