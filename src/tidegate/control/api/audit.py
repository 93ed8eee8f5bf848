"""The audit log: read, and held against its chain of hashes. Nothing here changes it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Response

from tidegate.control.access.audit import Verification, parse_head
from tidegate.control.api import examples
from tidegate.control.api.calls import Administering, Cursor, Limit, give, page, unpack
from tidegate.control.api.documents import documented
from tidegate.errors import InvalidInput
from tidegate.storage.records import AuditRow

router = APIRouter(prefix="/api/v1/audit-events", tags=["audit-events"])


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True):
    """``hash`` covers ``previous`` and all other fields."""

    sequence: int
    time: float
    who: str
    action: str
    target: str
    change: Any
    previous: str
    hash: str


@router.get("", summary="Changes, newest first")
@documented("admin", AuditEvent, many=True, example=examples.AUDIT)
def list_all(
    call: Administering,
    target: Annotated[str | None, Query(max_length=500, description="Only changes of this.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    before = unpack(cursor, int)
    with call.services.store.read() as unit:
        rows = unit.audit.list(
            limit=limit + 1, before=None if before is None else max(0, min(before, 2**53)), target=target
        )
    return page(rows, limit, lambda row: row.sequence, _view)


@router.get("/verification", summary="Whether the log is whole")
@documented("admin", Verification, example=examples.VERIFICATION)
def verification(
    call: Administering,
    head: Annotated[
        list[Annotated[str, Query(max_length=100)]],
        Query(max_length=20, description="`number:hash` that was kept elsewhere; found out if it no longer fits."),
    ] = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    """Reads every row: seconds for a long log."""
    try:
        heads = tuple(parse_head(text) for text in head)
    except ValueError as error:
        raise InvalidInput(str(error), ("query", "head")) from None
    return give(call.services.access.heads.verify(heads))


def _view(row: AuditRow) -> AuditEvent:
    try:
        change = msgspec.json.decode(row.body)
    except msgspec.DecodeError:
        change = row.body  # not written by us: shown as it is
    return AuditEvent(
        sequence=row.sequence,
        time=row.time,
        who=row.who,
        action=row.action,
        target=row.target,
        change=change,
        previous=row.previous,
        hash=row.hash,
    )
