"""The audit log: who did what, and whether the log is whole."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidegate.clock import Clock
from tidegate.console.site import Site
from tidegate.control.access.audit import Verification
from tidegate.control.access.caller import Caller
from tidegate.control.access.heads import Heads
from tidegate.errors import InvalidInput
from tidegate.storage.records import AuditRow

PAGE = 50
LONGEST_NUMBER = 15
"""Digits; the store counts in 64 bits."""
AGAIN_SECONDS = 60.0
"""The whole log is read for a verification; so often at most."""


class Entry(msgspec.Struct, frozen=True):
    """A row, with what its body says."""

    row: AuditRow
    reason: str
    address: str


class Verified:
    """The newest verification and when it was made; safe between threads."""

    def __init__(self, heads: Heads, clock: Clock) -> None:
        self._heads = heads
        self._clock = clock
        self._lock = threading.Lock()
        self._result: tuple[Verification, float] | None = None

    def look(self) -> tuple[Verification, float]:
        with self._lock:
            now = self._clock.wall()
            if self._result is None or not 0 <= now - self._result[1] < AGAIN_SECONDS:
                self._result = self._heads.verify(), now
            return self._result


def routes(site: Site) -> list[Route]:
    verified = Verified(site.services.access.heads, site.services.clock)

    def index(request: Request, visitor: Caller) -> Response:
        visitor.must("admin")
        target = request.query_params.get("target", "").strip()[:200]
        before = request.query_params.get("before", "")
        if before and not (before.isascii() and before.isdigit() and len(before) <= LONGEST_NUMBER):
            raise InvalidInput("before is the number of an entry")
        with site.services.store.read() as unit:
            rows = unit.audit.list(PAGE + 1, int(before) if before else None, target or None)
        result, made = verified.look()
        return site.render(
            request,
            "audit.html",
            visitor,
            section="Audit",
            entries=[entry_of(row) for row in rows[:PAGE]],
            following=rows[PAGE - 1].sequence if len(rows) > PAGE else None,
            before=before,
            target=target,
            result=result,
            made=made,
        )

    return [Route("/audit", site.page(index))]


def entry_of(row: AuditRow) -> Entry:
    """A body that this version does not know has no reason to show."""
    try:
        body: Any = msgspec.json.decode(row.body)
    except msgspec.DecodeError:
        body = {}
    body = body if isinstance(body, dict) else {}
    origin = body.get("origin")
    address = origin.get("address", "") if isinstance(origin, dict) else origin or ""
    return Entry(row, str(body.get("reason") or ""), str(address))
