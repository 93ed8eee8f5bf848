"""Heads of the audit log, kept in a file beside the control plane, so that a cut tail is found."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.control.access.audit import Head, Verification, parse_head, verify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tidegate.storage.records import AuditRow
    from tidegate.storage.store import Store

logger = logging.getLogger("tidegate.audit")

FILE = "audit.heads"
MOST = 1000
"""Heads kept; older ones are dropped, as every newer one vouches for them."""
PAGE = 1000


class Heads:
    """``note`` after changes, from one thread; ``verify`` from any."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._path = folder / FILE
        self._newest: Head | None = None
        self._complained: Head | None = None
        """What it was told of last; once is enough for a store that was restored."""

    def note(self) -> None:
        """Keeps the newest row's number and hash, and logs them; never forgets a higher number for a lower one."""
        with self._store.read() as unit:
            row = unit.audit.last()
        if row is None:
            return
        head = Head(row.sequence, row.hash)
        if self._newest is None:
            kept = self.kept()
            self._newest = kept[-1] if kept else Head(0, "")
        if head == self._newest:
            return
        if head.sequence <= self._newest.sequence:
            if head != self._complained:
                logger.error(
                    "the audit log was cut or rewritten: row %s was there, now %s is the newest", self._newest, head
                )
            self._complained = head
            return
        self._write([*self.kept()[-MOST + 1 :], head])
        self._newest = head
        logger.info("audit log: newest row %s", head)

    def kept(self) -> list[Head]:
        """Oldest first; a line that is no head is left out, since half a line may be left by a crash."""
        try:
            lines = self._path.read_text("ascii", "replace").splitlines()
        except FileNotFoundError:
            return []
        heads = []
        for line in lines:
            try:
                heads.append(parse_head(line))
            except ValueError:
                logger.warning("%s has a line that is no head", FILE)
        return heads

    def verify(self, more: tuple[Head, ...] = ()) -> Verification:
        """All rows of the store against the heads in the file and those that the caller has kept."""
        heads = (*self.kept(), *more)  # before the rows: a row that comes meanwhile is not missed
        return verify(self._rows(), heads)

    def _rows(self) -> Iterator[AuditRow]:
        after = 0
        while True:
            with self._store.read() as unit:
                rows = unit.audit.rows(after=after, limit=PAGE)
            yield from rows
            if len(rows) < PAGE:
                return
            after = rows[-1].sequence

    def _write(self, heads: list[Head]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        fresh.write_text("".join(f"{head}\n" for head in heads), "ascii")
        fresh.replace(self._path)
