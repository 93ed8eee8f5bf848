"""New predictions into the profiles of their windows. Events in, profiles and counts out.

A prediction belongs to the window that its own time is in, however late it is read. Forced requests are left out, as they
are of releases and experiments; what a shadow was asked is a variant of its own. An event that cannot be made into rows
is counted and passed over: it must not keep the others from being looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from tidegate.control.monitoring import profiles, rows
from tidegate.control.monitoring.profiles import Profile
from tidegate.control.monitoring.state import WindowKey, named, start_of
from tidegate.observations import PredictionEvent

MOST_ROWS = 20_000
"""Of one table: a single event may bring a thousand columns, and each is as long as the table."""
LATEST = 1e12
"""Seconds; later times are nobody's."""


class Reference(msgspec.Struct, frozen=True):
    """A baseline: its name, the digest under which windows keep its bins, and its profile. ``names`` are those of a
    matrix's columns, by input, where the model's signature knows them and the profile does not."""

    name: str
    digest: str
    profile: Profile
    names: Mapping[str, Sequence[str]] = {}


class Folded(msgspec.Struct, frozen=True, kw_only=True):
    windows: Mapping[WindowKey, Profile]
    counted: Mapping[str, int]
    """Rows by the start of their window; without forced ones and shadows."""
    newest: float
    read: int
    forced: int
    unreadable: int
    without: int


Find = Callable[[PredictionEvent], Reference | None]
Known = Callable[[WindowKey], Profile | None]


def fold(
    events: Sequence[PredictionEvent],
    seconds: float,
    find: Find,
    known: Known,
    is_shadow: Callable[[PredictionEvent], bool],
) -> Folded:
    """``find`` gives what an event is compared with, ``known`` the profile of a window as it is so far."""
    groups: dict[WindowKey, list[PredictionEvent]] = {}
    references: dict[str, Reference] = {}
    counted: dict[str, int] = {}
    read = forced = unreadable = without = 0
    newest = 0.0
    for event in events:
        read += event.rows
        if not (math.isfinite(event.time) and 0 <= event.time < LATEST):
            unreadable += event.rows
            continue
        newest = max(newest, event.time)
        if event.forced:
            forced += event.rows
            continue
        start = start_of(event.time, seconds)
        if not is_shadow(event):
            counted[named(start)] = counted.get(named(start), 0) + event.rows
        reference = find(event)
        if reference is None:
            without += event.rows
            continue
        references[reference.digest] = reference
        groups.setdefault(WindowKey(event.variant, event.version, reference.digest, start), []).append(event)
    windows: dict[WindowKey, Profile] = {}
    for key, group in groups.items():
        profile = known(key)
        for part in parts_of(group):
            profile, bad = _added(references[key.baseline], profile, part)
            unreadable += bad
        if profile is not None:
            windows[key] = profile
    return Folded(
        windows=windows,
        counted=counted,
        newest=newest,
        read=read,
        forced=forced,
        unreadable=unreadable,
        without=without,
    )


def parts_of(events: Sequence[PredictionEvent], most: int = MOST_ROWS) -> Iterator[Sequence[PredictionEvent]]:
    """The events in their order, at most so many rows at a time, or one event that has more."""
    part: list[PredictionEvent] = []
    rows = 0
    for event in events:
        if part and rows + event.rows > most:
            yield part
            part, rows = [], 0
        part.append(event)
        rows += event.rows
    if part:
        yield part


def _added(
    reference: Reference, window: Profile | None, events: Sequence[PredictionEvent]
) -> tuple[Profile | None, int]:
    """The window with these events, and how many rows of them could not be read."""
    try:
        table = rows.table_of(events, {**reference.names, **reference.profile.names})
        return profiles.fold(reference.profile, window, table), table.unreadable
    except Exception:  # noqa: BLE001 - whatever a model or its callers wrote into one event, the others count
        if len(events) == 1:
            lost = rows.Rows()
            lost.unreadable = events[0].rows
            return profiles.fold(reference.profile, window, lost), events[0].rows
    half = len(events) // 2
    window, first = _added(reference, window, events[:half])
    window, second = _added(reference, window, events[half:])
    return window, first + second
