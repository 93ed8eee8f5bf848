"""The evidence of one open release in memory, and where it stands in the store's windows. Rebuilt from the store whenever
another control plane acted, or this one was started again."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec

from tidegate.control.releases import evidence as judge
from tidegate.control.releases.evidence import Evidence
from tidegate.control.releases.look import CHECKPOINT, Kept, Look, Taken, belongs, checksum, grow
from tidegate.control.releases.release import Release
from tidegate.storage.records import Stored
from tidegate.storage.store import Unit

LATE_SECONDS = 120.0
"""A window that is committed this much later than one with a higher id is still found."""
RESCAN_SECONDS = 5.0
MOST_WINDOWS = 10_000
"""In one look; what is left comes with the next."""


class Ledger:
    """``cursor`` is the highest id seen. Ids up to ``floor`` are done with; of those above, ``recent`` are folded."""

    def __init__(self, evidence: Evidence, tick: int, cursor: int) -> None:
        self.evidence = evidence
        self.tick = tick
        self.cursor = cursor
        self.floor = cursor
        self.traffic = 0.0
        self.recent: set[int] = set()
        self.asked: dict[int, float] = {}
        """When each guardrail that is asked about was last asked, by index; of a clock that never goes back."""
        self._marks: deque[tuple[float, int]] = deque()
        self._scanned = 0.0

    def read(self, unit: Unit, release: Release, now: float) -> list[Stored]:
        """Windows that no look has seen: newer ones, and now and then those that came late."""
        fresh = unit.windows.after(release.endpoint, self.cursor, MOST_WINDOWS)
        if abs(now - self._scanned) < RESCAN_SECONDS or self.floor == self.cursor:
            return fresh
        self._scanned = now
        late = unit.windows.after(release.endpoint, self.floor, MOST_WINDOWS)
        return [s for s in late if s.id <= self.cursor and s.id not in self.recent] + fresh

    def take(self, release: Release, windows: Sequence[Stored], taken: Taken, now: float) -> tuple[Ledger, Taken]:
        """The ledger after a look at these windows, and what the look took in."""
        chosen = [stored for stored in windows if belongs(release, stored)]
        taken = msgspec.structs.replace(
            taken, step=release.step, windows=tuple((stored.id, checksum(stored)) for stored in chosen)
        )
        after = Ledger(grow(self.evidence, release.plan, taken, chosen), self.tick, self.cursor)
        after.floor, after.asked = self.floor, self.asked
        after.cursor = max([self.cursor, *(stored.id for stored in windows)])
        after.recent = self.recent | {stored.id for stored in windows}
        after.traffic = max([self.traffic, *(_ended(stored, now) for stored in chosen if _busy(stored))])
        after._scanned = self._scanned
        after._marks = deque(self._marks)
        after._mark(now)
        return after, taken

    def kept(self) -> Kept:
        return Kept(
            evidence=self.evidence,
            cursor=self.cursor,
            floor=self.floor,
            recent=tuple(sorted(self.recent)),
        )

    def _mark(self, now: float) -> None:
        """Moves the floor up to what was seen long enough ago."""
        self._marks.append((now, self.cursor))
        while self._marks and self._marks[0][0] <= now - LATE_SECONDS:
            self.floor = max(self.floor, self._marks.popleft()[1])
        self.recent = {number for number in self.recent if number > self.floor}


def opened(release: Release, cursor: int) -> Ledger:
    return Ledger(judge.begin(release.plan), release.tick, cursor)


def restored(unit: Unit, release: Release) -> Ledger:
    """As the last look left it: from the last row that kept the whole state, and what was added after it."""
    checkpoint = release.tick - release.tick % CHECKPOINT
    rows = unit.releases.evidence(release.id, after=checkpoint - 1, limit=CHECKPOINT + 1)
    ledger = opened(release, 0)
    for row in rows:
        look = msgspec.json.decode(row.body, type=Look)
        if look.kept is not None:
            kept = look.kept
            ledger = Ledger(kept.evidence, row.tick, kept.cursor)
            ledger.floor, ledger.recent = kept.floor, set(kept.recent)
        else:
            windows = {
                stored.id: stored for stored in unit.windows.by_ids([number for number, _ in look.taken.windows])
            }
            chosen = [windows[number] for number, _ in look.taken.windows if number in windows]
            ledger.evidence = grow(ledger.evidence, release.plan, look.taken, chosen)
            ledger.recent |= {number for number, _ in look.taken.windows}
        ledger.tick = row.tick
        ledger.cursor = max(ledger.cursor, look.cursor)
        ledger.traffic = look.traffic
        ledger._mark(row.time)
    return ledger


def _busy(stored: Stored) -> bool:
    return stored.window.requests > 0


def _ended(stored: Stored, now: float) -> float:
    """A process whose clock is ahead does not make traffic of the future."""
    return min(stored.window.start + stored.window.seconds, now)
