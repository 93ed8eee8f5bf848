"""What serving instances say about a publication: who has it, who refused it, who is gone."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from tidegate.control.releases.events import Acknowledged, Event, InstanceLost, LoadRefused
from tidegate.control.releases.release import Release
from tidegate.observations import Beat
from tidegate.storage.records import Acknowledgement, Published
from tidegate.storage.store import Unit

LEAST = 0.001
"""Seconds; an effect that was measured is never 0, which means that it was not."""


class Word(msgspec.Struct, frozen=True):
    """Of all live instances on one publication. ``since``: when the last of them had it in force."""

    live: tuple[str, ...]
    awaited: tuple[str, ...]
    refused: Mapping[str, str]
    since: float


def heard(unit: Unit, number: int, now: float, within: float) -> Word:
    """Of the publication ``number``. Draining instances are not waited for: they take no new traffic."""
    beats = [beat for beat in unit.instances.live(now, within) if not beat.draining]
    said = {one.instance: one for one in unit.instances.acknowledgements(number)}
    later = {beat.refused for beat in beats if beat.refused > number > beat.snapshot}
    return told(number, beats, said, {number, *(one for one in later if _adds_no_model(unit, one, number))})


def told(number: int, beats: Collection[Beat], said: Mapping[str, Acknowledgement], same: Collection[int]) -> Word:
    """``same``: snapshots that can only be refused for what the publication ``number`` holds too."""
    awaited: list[str] = []
    refused: dict[str, str] = {}
    since = 0.0
    for beat in beats:
        word = said.get(beat.instance)
        if word is not None and not word.error:
            since = max(since, word.time)
        elif beat.snapshot >= number:  # it went on to a newer one, which holds this one's plan
            since = max(since, beat.time)
        else:
            awaited.append(beat.instance)
            error = word.error if word is not None else beat.error if beat.refused in same else ""
            if error:
                refused[beat.instance] = error
    return Word(tuple(beat.instance for beat in beats), tuple(awaited), refused, since)


def _adds_no_model(unit: Unit, later: int, number: int) -> bool:
    """One of another endpoint may be what an instance cannot load."""
    newer, published = unit.snapshots.get(later), unit.snapshots.get(number)
    return newer is not None and published is not None and _models(newer) <= _models(published)


def _models(published: Published) -> set[bytes]:
    plans = published.snapshot.endpoints.values()
    return {msgspec.json.encode(variant.model) for plan in plans for variant in plan.variants}


def events_of(release: Release, word: Word, known: Collection[str], now: float) -> list[Event]:
    """What the machine has to hear. ``known``: instances that were alive at the last look."""
    found: list[Event] = []
    if release.open:
        gone = sorted(set(known) - set(word.live))
        found += [InstanceLost(now=now, instance=name, live=len(word.live)) for name in gone]
    if word.refused:
        name, error = min(word.refused.items())
        text = f"{name} keeps the version before: {error}"
        if release.open or release.waiting != text:
            found.append(LoadRefused(now=now, instance=name, error=error))
    if not release.in_force and word.live and not word.awaited:
        found.append(Acknowledged(now=now, seconds=max(word.since - release.published, LEAST)))
    return found
