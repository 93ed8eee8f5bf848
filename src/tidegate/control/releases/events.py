"""What can happen to a release, and what it then asks for. Frozen, so that a stored event can be applied again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from tidegate.control.releases.release import Side
from tidegate.types import Verdict


class Happened(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True):
    """``now`` is wall-clock seconds since the epoch."""

    now: float


class Acknowledged(Happened, frozen=True):
    """Every live instance has the newest publication in force, ``seconds`` after it was published."""

    seconds: float


class LoadRefused(Happened, frozen=True):
    """An instance could not load the newest publication, and keeps the one before."""

    instance: str
    error: str


class Looked(Happened, frozen=True):
    """One look at the evidence."""

    verdicts: tuple[Verdict, ...] = ()
    sides: Mapping[str, Side] = {}
    requests: int = 0
    """Of the candidate in the current step; copies while it is a shadow."""
    traffic: float = 0.0
    """When the endpoint last had a request; 0: not since the release began."""
    live: int = 0
    """Serving instances that beat."""
    awaited: tuple[str, ...] = ()
    """Live instances that do not have the newest publication yet."""


class Act(Happened, frozen=True):
    who: str
    reason: str = ""


class Pause(Act, frozen=True):
    pass


class Resume(Act, frozen=True):
    pass


class Promote(Act, frozen=True):
    pass


class Rollback(Act, frozen=True):
    pass


class BaselineMoved(Happened, frozen=True):
    """Somebody else published another baseline for the endpoint."""

    reason: str


class AliasMoved(Happened, frozen=True):
    """The registry's alias was moved to ``version``, or ``error`` says why it could not be. ``left``: the version that
    somebody else had moved it to, where it stays."""

    version: str
    error: str = ""
    left: str = ""


class InstanceLost(Happened, frozen=True):
    """A serving instance stopped beating; ``live`` are left."""

    instance: str
    live: int


class Superseded(Happened, frozen=True):
    """A newer release, or an experiment, of the endpoint has begun, so that the old version is not kept warm any
    longer."""

    release: str = ""
    experiment: str = ""


Event = (
    Acknowledged
    | LoadRefused
    | Looked
    | Pause
    | Resume
    | Promote
    | Rollback
    | BaselineMoved
    | AliasMoved
    | InstanceLost
    | Superseded
)
EVENTS: tuple[type[Happened], ...] = (
    Acknowledged,
    LoadRefused,
    Looked,
    Pause,
    Resume,
    Promote,
    Rollback,
    BaselineMoved,
    AliasMoved,
    InstanceLost,
    Superseded,
)

Change = Literal[
    "split",  # the candidate's share, or that it is a shadow
    "promote",  # the candidate is the baseline; the old one is kept warm
    "return",  # the old baseline has everything, and the candidate is retired
    "retire",  # the old version is not kept warm any longer
    "withdraw",  # the candidate is retired; the baseline is whatever it is now
]


class Publish(msgspec.Struct, frozen=True):
    """Publish the endpoint's plan anew; ``plans.plan_after`` makes it."""

    change: Change
    reason: str


class MoveAlias(msgspec.Struct, frozen=True):
    """Point the registry's alias at a version: after the publication, as often as it takes."""

    name: str
    alias: str
    version: str


class Record(msgspec.Struct, frozen=True):
    """A line of the release's history and of the audit log."""

    kind: str
    text: str
    who: str = ""
    """Empty: the release service itself."""


Instruction = Publish | MoveAlias | Record
