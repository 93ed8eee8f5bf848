"""What a release has counted so far: all that its verdicts are computed from.

Integers, and what others measured; sums of windows in any order. Frozen, and the same after a round trip through JSON,
so that every verdict can be computed again, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from tidegate.control.analysis.means import Moments
from tidegate.settings import ReleaseSettings

Pair = tuple[int, int]
"""Of the baseline and of the candidate."""
Name = Literal["baseline", "candidate", "shadow"]

FULL = 10_000
OTHER = "other"
"""Predictions that were not told apart."""
WINDOW_KINDS = 64
"""Kinds after which a window counts what else comes as ``OTHER``."""


class Counted(msgspec.Struct, frozen=True, omit_defaults=True, array_like=True):
    """Of both sides while the candidate had one share."""

    requests: Pair = (0, 0)
    judged: Pair = (0, 0)
    """Requests that the model had to answer: neither refused before, nor left by their caller."""
    failures: Pair = (0, 0)
    """At most one per unit, window and process."""
    broken: Pair = (0, 0)
    """Every request that failed."""
    unitless: Pair = (0, 0)
    """Requests without a unit, assigned one by one."""

    def plus(self, other: Counted) -> Counted:
        return Counted(*(_sum(one, more) for one, more in zip(_pairs(self), _pairs(other), strict=True)))

    @property
    def observed(self) -> float:
        """Candidate's share of the judged requests; 0 when there are none."""
        total = sum(self.judged)
        return self.judged[1] / total if total else 0.0


class Seen(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of one variant: ``requests``, ``failures`` and ``outcomes`` since the release began, the rest in this step."""

    requests: int = 0
    failures: int = 0
    outcomes: Mapping[str, int] = {}
    in_step: int = 0
    """Requests in the current step."""
    latency: Mapping[int, int] = {}
    """Of the last step that had a baseline beside the candidate, by bin."""
    outputs: Mapping[str, int] = {}
    """Rows by kind, of the same step."""
    clusters: int = 0
    """Requests that those rows came in."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    snapshot: int = 0
    """Newest snapshot of a window in here."""
    step: int = -1
    """Index into ``plan.steps``; -1 before the first, while copies are answered."""
    shares: Mapping[int, Counted] = {}
    """Candidate's share in basis points -> what was counted under it, all steps."""
    copies: Mapping[int, Counted] = {}
    """Snapshot -> baseline and shadow, while requests were copied."""
    variants: Mapping[Name, Seen] = {}
    outcomes: Mapping[int, tuple[Moments, Moments]] = {}
    """Index of the guardrail -> labelled outcomes of baseline and candidate."""
    readings: Mapping[int, float] = {}
    """Index of the guardrail -> what Prometheus said last."""

    def seen(self, name: Name) -> Seen:
        return self.variants.get(name, _NOTHING)

    def compared(self) -> Counted:
        """All requests that had the other variant beside them."""
        total = Counted()
        for share, counted in sorted(self.shares.items()):
            if 0 < share < FULL:
                total = total.plus(counted)
        return total

    def copied(self) -> Counted:
        total = Counted()
        for snapshot in sorted(self.copies):
            if self.copies[snapshot].judged[1]:
                total = total.plus(self.copies[snapshot])
        return total


_NOTHING = Seen()


def share_of(plan: ReleaseSettings, step: int) -> int:
    """Basis points of the candidate in a step; 0 before the first. After the last of the plan it has everything."""
    if step < 0:
        return 0
    return max(1, round(plan.steps[step] * 100)) if step < len(plan.steps) else FULL


def compared_steps(plan: ReleaseSettings) -> int:
    """Steps in which both variants have traffic: among them what begins anew divides its alpha."""
    return max(1, sum(share_of(plan, step) < FULL for step in range(len(plan.steps))))


def _pairs(counted: Counted) -> tuple[Pair, ...]:
    return counted.requests, counted.judged, counted.failures, counted.broken, counted.unitless


def _sum(one: Pair, more: Pair) -> Pair:
    return one[0] + more[0], one[1] + more[1]
