"""What is written of a release beside its row: the line of history of each change, and its place in the audit log."""

from __future__ import annotations

import msgspec

from tidegate.control.releases.events import Event, Record
from tidegate.control.releases.release import Release, State
from tidegate.storage.records import ReleaseEventRow, ReleaseRow

SYSTEM = "releases"
"""Who acts where no person does."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of a release's event. ``event`` is what happened, unless a look tells it; ``began`` is the first entry's."""

    kind: str
    text: str
    who: str = SYSTEM
    state: State
    step: int = -1
    share: int = 0
    event: Event | None = None
    tick: int = -1
    """The look that it came from; -1 for what came from outside."""
    snapshot: int = 0
    """What was published with it, when something was, and when."""
    published: float = 0.0
    began: Release | None = None


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """An entry as it is shown."""

    revision: int
    time: float
    kind: str
    text: str
    who: str
    state: State
    step: int = -1
    share: int = 0
    snapshot: int = 0


class Shown(msgspec.Struct, frozen=True):
    """What the audit log keeps of a release."""

    state: State
    step: int
    share: int
    snapshot: int
    candidate: str
    baseline: str


def shown(release: Release) -> Shown:
    return Shown(
        release.state,
        release.step,
        release.share,
        release.snapshot,
        f"{release.candidate.name or release.candidate.uri} {release.candidate.version}",
        f"{release.baseline.name or release.baseline.uri} {release.baseline.version}",
    )


def row_of(release: Release) -> ReleaseRow:
    return ReleaseRow(
        release.id,
        release.endpoint,
        release.state,
        release.open,
        release.created,
        release.changed,
        release.revision,
        msgspec.json.encode(release).decode(),
    )


def release_of(row: ReleaseRow) -> Release:
    return msgspec.json.decode(row.body, type=Release)


def entry_of(row: ReleaseEventRow) -> Entry:
    return msgspec.json.decode(row.body, type=Entry)


def line_of(row: ReleaseEventRow) -> Line:
    entry = entry_of(row)
    return Line(
        revision=row.revision, time=row.time, kind=entry.kind, text=entry.text, who=entry.who, state=entry.state,
        step=entry.step, share=entry.share, snapshot=entry.snapshot,
    )  # fmt: skip


def event_row(release: Release, entry: Entry) -> ReleaseEventRow:
    return ReleaseEventRow(
        release.id, release.revision, release.changed, entry.kind, msgspec.json.encode(entry).decode()
    )


def entry_for(release: Release, record: Record | None, event: Event, tick: int, published: bool) -> Entry | None:
    """None for what a look did without anything worth a line: the look itself tells it."""
    if record is None and tick >= 0:
        return None
    return Entry(
        kind=record.kind if record else "noted",
        text=record.text if record else release.waiting,
        who=(record.who if record else "") or SYSTEM,
        state=release.state,
        step=release.step,
        share=release.share,
        event=event if tick < 0 else None,
        tick=tick,
        snapshot=release.snapshot if published else 0,
        published=release.published if published else 0.0,
    )
