"""Every decision of a release computed again, from the windows and rows in the store. It must come out bit for bit."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from tidegate.control.releases import evidence as judge
from tidegate.control.releases.enact import noted
from tidegate.control.releases.events import Publish
from tidegate.control.releases.evidence import Evidence
from tidegate.control.releases.history import Entry, entry_of
from tidegate.control.releases.look import Look, checksum, concluded, grow, whole
from tidegate.control.releases.machine import IllegalTransition, advance
from tidegate.control.releases.release import Release
from tidegate.storage.records import EvidenceRow, ReleaseEventRow
from tidegate.storage.store import Unit

PAGE = 500
MOST_FINDINGS = 50


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """``findings`` name what does not come out as it is stored; none when all of it does."""

    release: str
    looks: int
    windows: int
    decisions: int
    agrees: bool
    findings: tuple[str, ...] = ()
    state: str = ""
    """Where the recomputed release ends."""


def replayed(unit: Unit, release: Release) -> Replayed:
    """Reads page by page; ``release`` as it is stored."""
    return _Replay(unit, release).run()


class _Replay:
    def __init__(self, unit: Unit, stored: Release) -> None:
        self._unit = unit
        self._stored = stored
        self._findings: list[str] = []
        self._looks = self._windows = self._decisions = 0
        self._evidence: Evidence = judge.begin(stored.plan)

    def run(self) -> Replayed:
        rows = self._unit.releases.events(self._stored.id)
        first = entry_of(rows[0]).began if rows else None
        if first is None:
            return self._result("", "the history does not tell how the release began")
        release = first
        self._told = {row.revision: entry_of(row) for row in rows}
        acts = [(row, entry) for row in rows[1:] if (entry := self._told[row.revision]).event is not None]
        place = 0
        for row, look in self._pages():
            while place < len(acts) and acts[place][0].revision <= look.revision:
                release = self._act(release, *acts[place])
                place += 1
            release = self._look(release, row, look)
        for act in acts[place:]:
            release = self._act(release, *act)
        if _bytes(release) != _bytes(self._stored):
            names = [
                name for name in release.__struct_fields__ if getattr(release, name) != getattr(self._stored, name)
            ]
            self._find(f"the release itself: {', '.join(names) or 'its order'} differ from what the decisions give")
        return self._result(release.state)

    def _pages(self) -> Iterator[tuple[EvidenceRow, Look]]:
        after = -1
        while rows := self._unit.releases.evidence(self._stored.id, after=after, limit=PAGE):
            for row in rows:
                if row.tick != after + 1:
                    self._find(f"looks {after + 1} to {row.tick - 1} are missing")
                after = row.tick
                yield row, msgspec.json.decode(row.body, type=Look)

    def _look(self, release: Release, row: EvidenceRow, look: Look) -> Release:
        self._looks += 1
        where = f"look {row.tick}"
        if release.revision != look.revision:
            self._find(f"{where}: it was of revision {look.revision}, the decisions give {release.revision}")
        stored = {one.id: one for one in self._unit.windows.by_ids([number for number, _ in look.taken.windows])}
        chosen = []
        for number, wanted in look.taken.windows:
            found = stored.get(number)
            if found is None:
                self._find(f"{where}: window {number} is gone")
            else:
                chosen.append(found)
                if checksum(found) != wanted:
                    window = found.window
                    self._find(f"{where}: window {number} ({window.variant} of {window.process}) was changed")
        self._windows += len(chosen)
        self._evidence = grow(self._evidence, release.plan, look.taken, chosen)
        if look.kept is not None and _bytes(look.kept.evidence) != _bytes(self._evidence):
            self._find(f"{where}: the kept evidence differs")
        last = look.events[-1]
        awaited = getattr(last, "awaited", ())
        seen = concluded(
            self._evidence, release, now=row.time, traffic=look.traffic, live=getattr(last, "live", 0), awaited=awaited
        )
        for stored_verdict, verdict in zip(look.verdicts, seen.verdicts, strict=False):
            if _bytes(stored_verdict) != _bytes(verdict):
                self._find(
                    f"{where}: the verdict {verdict.guardrail} is {stored_verdict.outcome} in the store, "
                    f"recomputed it is {verdict.outcome}"
                )
        if len(look.verdicts) != len(seen.verdicts):
            self._find(f"{where}: {len(look.verdicts)} verdicts in the store, {len(seen.verdicts)} recomputed")
        known = replace(look, verdicts=seen.verdicts, sides=seen.sides, requests=seen.requests)
        for event in look.events:
            release = self._advance(release, where, whole(event, known), look.snapshot, look.published, row.tick)
        return release

    def _act(self, release: Release, row: ReleaseEventRow, entry: Entry) -> Release:
        assert entry.event is not None
        where = f"revision {row.revision} ({entry.kind})"
        return self._advance(release, where, entry.event, entry.snapshot, entry.published, -1)

    def _advance(
        self, release: Release, where: str, event: msgspec.Struct, snapshot: int, published: float, tick: int
    ) -> Release:
        self._decisions += 1
        try:
            moved = advance(release, event)  # type: ignore[arg-type]
        except IllegalTransition as error:
            self._find(f"{where}: {error}")
            return release
        after = moved.release
        if any(isinstance(one, Publish) for one in moved.instructions):
            after = noted(after, snapshot, published)
            if not snapshot:
                self._find(f"{where}: the decision publishes, and nothing was published")
        after = replace(after, tick=tick if tick >= 0 else after.tick)
        told = self._told.get(after.revision)
        if told is not None and (told.state, told.step, told.share) != (after.state, after.step, after.share):
            self._find(
                f"{where}: the history says {told.state} at {told.share / 100:g} %, "
                f"the decision gives {after.state} at {after.share / 100:g} %"
            )
        return after

    def _find(self, text: str) -> None:
        if len(self._findings) < MOST_FINDINGS:
            self._findings.append(text)

    def _result(self, state: str, finding: str = "") -> Replayed:
        if finding:
            self._find(finding)
        return Replayed(
            release=self._stored.id,
            looks=self._looks,
            windows=self._windows,
            decisions=self._decisions,
            agrees=not self._findings,
            findings=tuple(self._findings),
            state=state,
        )


def _bytes(value: msgspec.Struct) -> bytes:
    """As it is once it was stored: 0 in a field of floats comes back as 0.0."""
    return msgspec.json.encode(msgspec.json.decode(msgspec.json.encode(value), type=type(value)))
