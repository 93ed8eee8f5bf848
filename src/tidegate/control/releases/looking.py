"""Looks at a release: reads what is new, lets the machine decide, and stores all of it in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from tidegate.clock import Clock
from tidegate.control.analysis.means import Moments
from tidegate.control.releases.enact import happen
from tidegate.control.releases.events import BaselineMoved, Event, Looked
from tidegate.control.releases.history import release_of
from tidegate.control.releases.instances import Word, events_of, heard
from tidegate.control.releases.ledger import Ledger, opened, restored
from tidegate.control.releases.look import CHECKPOINT, Answered, Look, Measured, Taken, concluded, slim
from tidegate.control.releases.machine import advance
from tidegate.control.releases.outcomes import measured
from tidegate.control.releases.prometheus import Prometheus
from tidegate.control.releases.release import Release
from tidegate.errors import Conflict
from tidegate.section import seconds_of
from tidegate.settings import Settings
from tidegate.storage.records import EvidenceRow, Lease, Stored
from tidegate.storage.store import Store, Unit
from tidegate.types import ModelRef

SEEN_SECONDS = 2.0
"""A look that changes nothing but the clock is stored at most this often."""
OUTCOME_SECONDS = 5.0
LONGEST_PAUSE = 300.0
"""Seconds between two readings of outcomes at most, also when the process was stopped during one."""
NONE = (Moments(), Moments())
SCAN_SECONDS = 5.0
"""How often releases that have ended are searched for something left to do."""
MOST_ENDED = 200


class Read(msgspec.Struct, frozen=True):
    """What one read transaction found. ``baseline``: of the endpoint's newest plan."""

    release: Release
    ledger: Ledger
    windows: Sequence[Stored]
    word: Word
    outcomes: tuple[Measured, ...]
    baseline: ModelRef | None


class Looking:
    """Keeps the ledgers of the releases that it looked at; ``forget`` makes it read them from the store again."""

    def __init__(self, store: Store, settings: Settings, clock: Clock, prometheus: Prometheus) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._prometheus = prometheus
        self._ledgers: dict[str, Ledger] = {}
        self._live: dict[str, tuple[str, ...]] = {}
        self._unfinished: set[str] = set()
        self._scanned: float | None = None
        self._outcomes_due: dict[str, float] = {}

    def forget(self, id: str | None = None) -> None:  # noqa: A002
        if id is not None:
            self._ledgers.pop(id, None)
            return
        self._ledgers.clear()
        self._live.clear()
        self._scanned = None

    def due(self) -> list[Release]:
        """Open releases, and ended ones with something left: an effect to measure, an alias to move, a version to
        retire."""
        now = self._clock.monotonic()
        with self._store.read() as unit:
            open_ = unit.releases.list(open=True, limit=1000)
            if self._scanned is None or now - self._scanned >= SCAN_SECONDS:
                ended = [release_of(row) for row in unit.releases.list(open=False, limit=MOST_ENDED)]
                self._unfinished |= {release.id for release in ended if unfinished(release)}
                self._scanned = now
            others = sorted(self._unfinished - {row.id for row in open_})
            rows = [unit.releases.get(id) for id in others]  # noqa: A001
        left = [release for row in rows if row is not None and unfinished(release := release_of(row))]
        found = {release.id: release for release in [*left, *(release_of(row) for row in open_)]}
        self._unfinished = set(found)
        kept: tuple[dict[str, Any], ...] = (self._ledgers, self._live, self._outcomes_due)
        for known in kept:
            for id in known.keys() - found.keys():  # noqa: A001
                del known[id]
        return list(found.values())

    def look(self, release: Release, lease: Lease) -> Release:
        """The release after the look. Raises LeaseLost, Conflict, StoreAway; then nothing was stored."""
        now = self._clock.wall()
        with self._store.read() as unit:
            read = self._read(unit, release.id, now)
        answers = self._answers(read)
        known = read.ledger.evidence.outcomes
        news = tuple(one for one in read.outcomes if known.get(one.index, NONE) != (one.baseline, one.candidate))
        taken = Taken(outcomes=news, prometheus=answers)
        ledger, taken = read.ledger.take(read.release, read.windows, taken, now)
        looked = concluded(
            ledger.evidence,
            read.release,
            now=now,
            traffic=ledger.traffic,
            live=len(read.word.live),
            awaited=read.word.awaited,
        )
        events = [*self._happened(read, now), looked]
        self._live[release.id] = read.word.live
        if not worth_storing(read.release, events, taken):
            self._ledgers[release.id] = ledger
            return read.release
        return self._store_look(read.release, events, looked, ledger, taken, lease)

    def _read(self, unit: Unit, id: str, now: float) -> Read:  # noqa: A002
        row = unit.releases.get(id)
        if row is None:
            raise Conflict(f"release {id} is gone")
        release = release_of(row)
        ledger = self._ledgers.get(id)
        if ledger is None or ledger.tick != release.tick:
            ledger = restored(unit, release) if release.tick >= 0 else opened(release, unit.windows.newest())
        newest = unit.snapshots.latest()
        plan = newest.snapshot.endpoints.get(release.endpoint) if newest is not None else None
        return Read(
            release,
            ledger,
            ledger.read(unit, release, now) if release.open else (),
            heard(unit, release.snapshot, now, self._settings.store.dead_seconds),
            self._outcomes(unit, release, now) if release.first and release.open else (),
            plan.baseline.model if plan is not None else None,
        )

    def _happened(self, read: Read, now: float) -> list[Event]:
        release = read.release
        expected = release.candidate if release.state == "promoted" else release.baseline
        moved = read.baseline is not None and not _same(read.baseline, expected)
        if moved and (release.open or release.warm_until):
            assert read.baseline is not None
            return [BaselineMoved(now=now, reason=f"it is {read.baseline.uri} version {read.baseline.version} now")]
        return events_of(release, read.word, self._live.get(release.id, ()), now)

    def _outcomes(self, unit: Unit, release: Release, now: float) -> tuple[Measured, ...]:
        """Read anew each time, since labels come late and in any order; the longer it takes, the more seldom."""
        rails = [(index, rail.outcome) for index, rail in enumerate(release.plan.guardrails) if rail.outcome]
        began = self._clock.monotonic()
        if not rails or began < self._outcomes_due.get(release.id, began):
            return ()
        found = tuple(measured(unit, release, index, rail, now) for index, rail in rails)
        ended = self._clock.monotonic()
        self._outcomes_due[release.id] = ended + min(max(OUTCOME_SECONDS, 20 * (ended - began)), LONGEST_PAUSE)
        return found

    def _answers(self, read: Read) -> tuple[Answered, ...]:
        """Asked outside of any transaction: a slow server holds up this look, but nobody's write."""
        if not read.release.open or not read.release.first:
            return ()
        now, found = self._clock.monotonic(), []
        for index, rail in enumerate(read.release.plan.guardrails):
            asked = rail.prometheus
            if asked is None or now - read.ledger.asked.get(index, float("-inf")) < seconds_of(asked.every):
                continue
            read.ledger.asked[index] = now
            found.append(Answered(index, self._prometheus.ask(asked.url, asked.query)))
        return tuple(found)

    def _store_look(
        self, release: Release, events: list[Event], looked: Looked, ledger: Ledger, taken: Taken, lease: Lease
    ) -> Release:
        tick = release.tick + 1
        after, told, published = release, [], False
        with self._store.begin() as unit:
            unit.leases.check(lease, self._clock.wall())
            for event in events:
                after, published = happen(unit, after, event, tick=tick)
                told.append(slim(event) if isinstance(event, Looked) else event)
                if published:
                    break  # what was seen before the publication says nothing about what is in force after it
            ledger.tick = tick
            look = Look(
                revision=release.revision,
                after=after.revision,
                taken=taken,
                events=tuple(told),
                verdicts=looked.verdicts,
                sides=looked.sides,
                requests=looked.requests,
                traffic=looked.traffic,
                cursor=ledger.cursor,
                state=after.state,
                step=after.step,
                share=after.share,
                snapshot=after.snapshot if published else 0,
                published=after.published if published else 0.0,
                kept=ledger.kept() if tick % CHECKPOINT == 0 else None,
            )
            unit.releases.add_evidence(EvidenceRow(after.id, tick, looked.now, msgspec.json.encode(look).decode()))
        self._ledgers[after.id] = ledger
        return after


def unfinished(release: Release) -> bool:
    return release.open or release.alias_pending or not release.in_force or release.warm_until > 0


def worth_storing(release: Release, events: Sequence[Event], taken: Taken) -> bool:
    """A look at a release that has ended counts only when something comes of it; at an open one, when something was
    read, or enough time has passed for the reason of waiting to be told anew."""
    if taken.windows or taken.outcomes or taken.prometheus or len(events) > 1:
        return True
    [looked] = events
    moved = advance(release, looked)
    if moved.instructions or not release.open:
        return bool(moved.instructions)
    if moved.release.state != release.state or moved.release.verdicts != release.verdicts:
        return True
    return moved.release.waiting != release.waiting and looked.now - release.looked >= SEEN_SECONDS


def _same(one: ModelRef, other: ModelRef) -> bool:
    return (
        one.digest == other.digest
        if one.digest and other.digest
        else replace(one, options={}) == replace(other, options={})
    )
