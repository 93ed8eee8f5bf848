"""A release: what is let through, how far it has come, and why it waits. Frozen; the machine makes the next one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from tidegate.settings import ReleaseSettings
from tidegate.types import ModelRef, Verdict

State = Literal[
    "pending",  # the candidate is being loaded by every live instance
    "shadow",  # it answers copies
    "ramping",  # it takes the share of the current step
    "baking",  # it takes everything, the old version stays warm, and the promotion does not count yet
    "promoted",  # it is the champion; the old version stays warm for a while
    "rolled_back",  # the old version has everything again
    "paused",  # a person or a broken split stopped it; the share stays
    "inconclusive",  # the last step ended without a verdict; the share stays until a person decides
    "failed",  # it could not begin or go on: not loadable, or its baseline was taken away
]

OPEN: tuple[State, ...] = ("pending", "shadow", "ramping", "baking", "paused", "inconclusive")


class Side(msgspec.Struct, frozen=True):
    """What was counted for one variant since the release began; quantiles in seconds, of the current step."""

    requests: int = 0
    failures: int = 0
    outcomes: Mapping[str, int] = {}
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    outputs: Mapping[str, int] = {}


class Release(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    endpoint: str
    baseline: ModelRef
    candidate: ModelRef
    plan: ReleaseSettings
    author: str
    created: float
    changed: float
    state: State = "pending"
    resumes: State = "pending"
    """Where a paused or inconclusive release goes on."""
    step: int = -1
    """Index into ``plan.steps``; -1 before the first."""
    share: int = 0
    """Basis points that the candidate has now."""
    since: float = 0.0
    """When the current state or step came into force on every live instance."""
    snapshot: int = 0
    """Newest snapshot published for this release."""
    published: float = 0.0
    effect_seconds: float = 0.0
    """From the newest publication until the last live instance had it in force; 0 while one has not."""
    waiting: str = ""
    """Why nothing happens now, in one sentence; empty when it has ended."""
    reason: str = ""
    """Why it is in this state: the verdict, or what a person said."""
    verdicts: tuple[Verdict, ...] = ()
    """The newest of each guardrail."""
    sides: Mapping[str, Side] = {}
    """baseline, candidate, and shadow while copies are answered."""
    tick: int = 0
    """Newest row of evidence; -1 before the first."""
    revision: int = 0
    """Grows with each change; also the number of its newest event."""
    alias_pending: bool = False
    """The registry's alias has still to be moved."""
    warm_until: float = 0.0
    """After a promotion: until when the old version stays loaded."""
    requested_by: Literal["person", "alias", "webhook", "training"] = "person"
    alias: str = ""
    """Alias that a promotion moves; empty when the candidate is not from the registry."""
    alias_version: str = ""
    """Where it has to point once ``alias_pending`` is over."""
    loaded: bool = False
    """Every live instance has loaded the candidate."""
    first: int = 0
    """Snapshot that gave the candidate its first copies or share; what was counted before it is no evidence."""
    began: float = 0.0
    """When that one was published."""
    ahead: int = 0
    """Requests of the current step that came before it was in force on every instance."""
    busy: float = 0.0
    """Seconds of the current step in which the endpoint had traffic."""
    looked: float = 0.0
    """Time of the newest look at the evidence."""
    accepted: tuple[str, ...] = ()
    """Checks that a person set aside by resuming the release: ``split``."""
    trail: tuple[str, ...] = ()
    """States it went through, oldest first; at most 20."""

    @property
    def open(self) -> bool:
        return self.state in OPEN

    @property
    def phase(self) -> State:
        """The state, or the one that a paused or inconclusive release goes on with."""
        return self.resumes if self.state in ("paused", "inconclusive") else self.state

    @property
    def in_force(self) -> bool:
        """Whether every live instance has the newest publication of this release."""
        return self.effect_seconds > 0
