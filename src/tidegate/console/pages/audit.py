"""The audit log: who did what, and whether the log is whole."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidegate.clock import Clock
from tidegate.console import lists
from tidegate.console.site import Site
from tidegate.control.access.audit import FIRST, MOST_FAULTS, START, Fault, Head, verify
from tidegate.control.access.caller import Caller
from tidegate.control.access.heads import Heads
from tidegate.errors import InvalidInput
from tidegate.storage.records import AuditRow

if TYPE_CHECKING:
    from tidegate.storage.store import Store, Unit

PAGE = 50
LONGEST_NUMBER = 15
"""Digits; the store counts in 64 bits."""
MOST = 5000
"""Entries checked in one look at most."""


class Entry(msgspec.Struct, frozen=True):
    """A row, with what its body says."""

    row: AuditRow
    reason: str
    address: str


class Checked(msgspec.Struct, frozen=True):
    """Which entries were checked, each once: the first of them at ``began``, the newest at ``made``."""

    first: int
    last: int
    heads: int
    """Kept heads that they were held against."""
    began: float
    made: float
    faults: tuple[Fault, ...]
    """All that was found since the control plane began; what is put right later stays."""


class Verified:
    """Checks what came since the last look, and at first the newest ``MOST`` entries; safe between threads."""

    def __init__(self, store: Store, heads: Heads, clock: Clock) -> None:
        self._store = store
        self._heads = heads
        self._clock = clock
        self._lock = threading.Lock()
        self._to: Head | None = None
        """The newest checked entry; None: begin anew."""
        self._first = FIRST
        self._began = 0.0
        self._held = 0
        self._faults: dict[Fault, None] = {}

    def look(self) -> Checked:
        """Raises StoreAway."""
        with self._lock:
            now, heads = self._clock.wall(), self._heads.kept()  # before the rows: none is newer than they are
            with self._store.read() as unit:
                newest, after = unit.audit.last(), self._to
                bottom = max(START.sequence, newest.sequence - MOST) if newest else START.sequence
                if after is not None and head_at(unit, after.sequence) != after:
                    self._note(Fault(after.sequence, "is not what it was at the last look: it was cut or written anew"))
                    after = None
                if after is None or after.sequence < bottom:
                    after = head_at(unit, bottom)
                    self._first, self._began, self._held = bottom + 1, now, 0
                rows = unit.audit.rows(after=after.sequence, limit=MOST)
            found = verify(rows, [head for head in heads if head.sequence > after.sequence], after)
            self._note(*found.faults)
            self._held += found.heads
            last = found.newest or after
            self._to = last if found.whole else None
            return Checked(self._first, last.sequence, self._held, self._began, now, tuple(self._faults))

    def _note(self, *faults: Fault) -> None:
        for fault in faults[: MOST_FAULTS - len(self._faults)]:
            self._faults[fault] = None


def head_at(unit: Unit, sequence: int) -> Head:
    """The entry of this number; without a hash when it is gone."""
    if sequence == START.sequence:
        return START
    row = next(iter(unit.audit.rows(after=sequence - 1, limit=1)), None)
    return Head(sequence, row.hash if row is not None and row.sequence == sequence else "")


def routes(site: Site) -> list[Route]:
    verified = Verified(site.services.store, site.services.access.heads, site.services.clock)

    def index(request: Request, visitor: Caller) -> Response:
        visitor.must("admin")
        target = request.query_params.get("target", "").strip()[:200]
        before = request.query_params.get("before", "")
        if before and not (before.isascii() and before.isdigit() and len(before) <= LONGEST_NUMBER):
            raise InvalidInput("before is the number of an entry")
        with site.services.store.read() as unit:
            rows = unit.audit.list(PAGE + 1, int(before) if before else None, target or None)
        shown, following = lists.cut(rows, lambda row: row.sequence, PAGE)
        return site.render(
            request,
            "audit.html",
            visitor,
            section="Audit",
            entries=[entry_of(row) for row in shown],
            following=following,
            before=before,
            target=target,
            checked=verified.look(),
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
