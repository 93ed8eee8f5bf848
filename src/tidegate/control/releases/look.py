"""One look at a release: what it took in, what it concluded, and how its evidence grows. Pure, so that it can be redone."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from tidegate.control.analysis.means import Moments
from tidegate.control.releases import evidence as judge
from tidegate.control.releases.events import Event, Looked
from tidegate.control.releases.evidence import Evidence
from tidegate.control.releases.release import Release, Side, State
from tidegate.settings import ReleaseSettings
from tidegate.storage.records import Stored
from tidegate.types import Verdict

CHECKPOINT = 20
"""A look whose tick is a multiple of this keeps the whole state of the evidence; the others keep what was added."""


class Measured(msgspec.Struct, frozen=True, array_like=True):
    """Outcomes from late labels, for the guardrail of this index."""

    index: int
    baseline: Moments
    candidate: Moments


class Answered(msgspec.Struct, frozen=True, array_like=True):
    """What Prometheus said for the guardrail of this index; None: nothing, or no number."""

    index: int
    value: float | None


class Taken(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that one look takes in, beside the windows themselves."""

    windows: tuple[tuple[int, str], ...] = ()
    """Id and checksum of each folded window, in the order in which they were folded."""
    step: int = -1
    """Of the release, when the windows were folded."""
    outcomes: tuple[Measured, ...] = ()
    prometheus: tuple[Answered, ...] = ()


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Enough to go on from here: the evidence, and which windows are in it."""

    evidence: Evidence
    cursor: int
    floor: int
    recent: tuple[int, ...]
    """Ids above ``floor`` that were folded; one that is missing may still come."""


class Look(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of a row of evidence. ``revision`` is the release's before the look, ``after`` the one it made."""

    revision: int
    after: int
    taken: Taken
    events: tuple[Event, ...]
    """What the machine was told, in order; the last is a ``Looked``, unless one before it changed the routing."""
    verdicts: tuple[Verdict, ...] = ()
    sides: Mapping[str, Side] = {}
    requests: int = 0
    traffic: float = 0.0
    cursor: int = 0
    state: State = "pending"
    step: int = -1
    share: int = 0
    snapshot: int = 0
    """What was published for it, when something was; with its time."""
    published: float = 0.0
    kept: Kept | None = None


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A look as it is shown: the evidence over time."""

    tick: int
    time: float
    state: State
    step: int
    share: int
    requests: int = 0
    verdicts: tuple[Verdict, ...] = ()
    sides: Mapping[str, Side] = {}


def checksum(stored: Stored) -> str:
    """Of a window as it is in the store; finds one that was changed afterwards."""
    return f"{zlib.crc32(msgspec.json.encode(stored.window)):08x}"


def grow(evidence: Evidence, plan: ReleaseSettings, taken: Taken, windows: Sequence[Stored]) -> Evidence:
    """The evidence with what a look took in. A step that was published since the look before begins here."""
    while evidence.step < taken.step:
        evidence = judge.next_step(evidence, plan)
    if windows:
        evidence = judge.fold(evidence, plan, [stored.window for stored in windows])
    for measured in taken.outcomes:
        evidence = judge.with_outcomes(evidence, measured.index, measured.baseline, measured.candidate)
    for answered in taken.prometheus:
        evidence = judge.with_prometheus(evidence, answered.index, answered.value)
    return evidence


def concluded(
    evidence: Evidence, release: Release, *, now: float, traffic: float, live: int, awaited: Sequence[str]
) -> Looked:
    """What the machine is told of the evidence."""
    return Looked(
        now=now,
        verdicts=judge.verdicts(evidence, release.plan) if release.first else (),
        sides=judge.sides(evidence),
        requests=judge.requests_in_step(evidence, "shadow" if release.phase == "shadow" else "candidate"),
        traffic=traffic,
        live=live,
        awaited=tuple(awaited),
    )


def belongs(release: Release, stored: Stored) -> bool:
    """Whether a window is about this release: of both sides at the same time, since the candidate got its first share."""
    window = stored.window
    return bool(release.first) and window.snapshot >= release.first and window.variant in ("baseline", "candidate")


def slim(look: Looked) -> Looked:
    """Without what the look keeps beside it."""
    return replace(look, verdicts=(), sides={}, requests=0, traffic=0.0)


def whole(event: Event, look: Look) -> Event:
    if not isinstance(event, Looked):
        return event
    return replace(event, verdicts=look.verdicts, sides=look.sides, requests=look.requests, traffic=look.traffic)
