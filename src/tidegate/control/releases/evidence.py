"""Folds windows into what a release has counted, and makes verdicts and sides of it: pure.

The service folds every window of its endpoint once, from the release's first snapshot on, whatever its share, process
or delay; the order does not matter within a step. ``next_step`` belongs into the transaction that publishes the step,
so that no window of the new share is folded before it. Two variants are compared: ``baseline`` and ``candidate``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from tidegate.control.analysis.bins import UPPER
from tidegate.control.analysis.means import Moments
from tidegate.control.releases.counted import FULL, OTHER, Counted, Evidence, Name, Pair, Seen, share_of
from tidegate.control.releases.guardrails import verdicts
from tidegate.control.releases.release import Side
from tidegate.metrics import BINS_PER_DECADE
from tidegate.observations import VariantWindow
from tidegate.settings import ReleaseSettings

__all__ = [
    "Evidence", "begin", "fold", "next_step", "requests_in_step", "sides", "verdicts", "with_outcomes", "with_prometheus",
]  # fmt: skip

K = TypeVar("K", bound=int | str)
V = TypeVar("V")

MOST_KINDS = 512
"""Kinds of predictions that are told apart; what comes later counts as ``OTHER``."""
MOST_SNAPSHOTS = 256
"""Snapshots whose copies are told apart; the oldest are forgotten, which loses evidence and adds none."""

_FAILURES = ("failed", "timeout", "breaker_open")
_UNJUDGED = ("refused", "gone")


def begin(plan: ReleaseSettings) -> Evidence:
    """Copies come first if the plan has them, else the first step."""
    return Evidence(step=-1 if plan.shadow is not None else 0)


def next_step(evidence: Evidence, plan: ReleaseSettings) -> Evidence:
    """Latency and outputs begin anew: pooled over steps they would compare other times of day, not other models. With
    the last step, which has no baseline beside it, what was compared before stays."""
    step = evidence.step + 1
    anew = share_of(plan, step) < FULL
    variants: dict[Name, Seen] = {}
    for name, seen in evidence.variants.items():
        after = msgspec.structs.replace(seen, in_step=0)
        variants[name] = msgspec.structs.replace(after, latency={}, outputs={}, clusters=0) if anew else after
    return msgspec.structs.replace(evidence, step=step, variants=variants)


def fold(evidence: Evidence, plan: ReleaseSettings, windows: Sequence[VariantWindow]) -> Evidence:
    """With the counts of further windows, each of them new; other variants are left out."""
    share = share_of(plan, evidence.step)
    kept = [window for window in windows if window.variant in ("baseline", "candidate")]
    if not kept:
        return evidence
    shares: dict[int, Counted] = dict(evidence.shares)
    copies: dict[int, Counted] = dict(evidence.copies)
    for window in kept:
        counted = _counted(window)
        if not window.shadow:
            candidate = _candidate_share(window)
            shares[candidate] = shares.get(candidate, Counted()).plus(counted)
        if window.shadow or (plan.shadow is not None and _candidate_share(window) == 0):
            copies[window.snapshot] = copies.get(window.snapshot, Counted()).plus(counted)
    groups: dict[Name, list[VariantWindow]] = {}
    for window in kept:
        groups.setdefault(_name(window), []).append(window)
    variants = dict(evidence.variants)
    for name, group in groups.items():
        variants[name] = _seen(evidence.seen(name), group, share)
    return msgspec.structs.replace(
        evidence,
        snapshot=max(evidence.snapshot, *(window.snapshot for window in kept)),
        shares=_sorted(shares),
        copies=_sorted({snapshot: copies[snapshot] for snapshot in sorted(copies)[-MOST_SNAPSHOTS:]}),
        variants=_sorted(variants),
    )


def with_outcomes(evidence: Evidence, index: int, baseline: Moments, candidate: Moments) -> Evidence:
    """With all labelled outcomes so far for the guardrail ``plan.guardrails[index]``."""
    return msgspec.structs.replace(evidence, outcomes=_sorted({**evidence.outcomes, index: (baseline, candidate)}))


def with_prometheus(evidence: Evidence, index: int, value: float | None) -> Evidence:
    """With the newest answer for the guardrail ``plan.guardrails[index]``; None, or no finite number: no answer."""
    readings = {key: reading for key, reading in evidence.readings.items() if key != index}
    if value is not None and math.isfinite(value):
        readings[index] = float(value)
    return msgspec.structs.replace(evidence, readings=_sorted(readings))


def requests_in_step(evidence: Evidence, variant: Name) -> int:
    """Requests since the current step began; for ``shadow``, copies that were answered or failed."""
    return evidence.seen(variant).in_step


def sides(evidence: Evidence) -> Mapping[str, Side]:
    """Of every variant that was seen."""
    found: dict[str, Side] = {}
    for name, seen in sorted(evidence.variants.items()):
        p50, p90, p99 = _quantiles(seen.latency, (0.5, 0.9, 0.99))
        found[name] = Side(seen.requests, seen.failures, seen.outcomes, p50, p90, p99, seen.outputs)
    return found


def _name(window: VariantWindow) -> Name:
    if window.shadow:
        return "shadow"
    return "baseline" if window.variant == "baseline" else "candidate"


def _candidate_share(window: VariantWindow) -> int:
    """The two of them share everything, so that either window tells it."""
    if window.shadow:
        return 0
    return FULL - window.share if window.variant == "baseline" else window.share


def _counted(window: VariantWindow) -> Counted:
    judged = window.requests - sum(window.outcomes.get(kind, 0) for kind in _UNJUDGED)
    broken = max(window.failures, sum(window.outcomes.get(kind, 0) for kind in _FAILURES))
    values = (window.requests, judged, window.failures, broken, window.unitless or 0)
    pairs: list[Pair] = [(value, 0) if window.variant == "baseline" else (0, value) for value in values]
    return Counted(*pairs)


def _seen(seen: Seen, windows: Sequence[VariantWindow], share: int) -> Seen:
    """``share``: the candidate's in the current step. A shadow counts in the step before the first."""
    outcomes = _added(seen.outcomes, [window.outcomes for window in windows])
    current = [window for window in windows if _candidate_share(window) == share]
    beside = current if share < FULL else []
    return Seen(
        seen.requests + sum(window.requests for window in windows),
        seen.failures + sum(window.failures for window in windows),
        _sorted(outcomes),
        seen.in_step + sum(_counted(w).judged[1] if w.shadow else w.requests for w in current),
        _sorted(_added(seen.latency, [window.latency for window in beside])),
        _sorted(_bounded(_added(seen.outputs, [window.outputs for window in beside]))),
        seen.clusters + sum(_answered(window) for window in beside if window.outputs),
    )


def _answered(window: VariantWindow) -> int:
    """Requests that predictions came from; more than that would be rows of the same request."""
    kinds = ("agree", "differ") if window.shadow else ("ok",)
    return sum(window.outcomes.get(kind, 0) for kind in kinds) if window.outcomes else window.requests


def _added(counts: Mapping[K, int], more: Iterable[Mapping[K, int]]) -> dict[K, int]:
    total = dict(counts)
    for found in more:
        for key, count in found.items():
            total[key] = total.get(key, 0) + count
    return total


def _bounded(kinds: dict[str, int]) -> dict[str, int]:
    """At most ``MOST_KINDS``, the most frequent ones."""
    if len(kinds) <= MOST_KINDS:
        return kinds
    ranked = sorted(kinds, key=lambda kind: (kind == OTHER, -kinds[kind], kind))
    kept = {kind: kinds[kind] for kind in ranked[: MOST_KINDS - 1]}
    kept[OTHER] = sum(kinds.values()) - sum(kept.values())
    return kept


def _quantiles(latency: Mapping[int, int], levels: Sequence[float]) -> list[float]:
    """To the middle of their bins, in seconds; 0 when nothing was counted."""
    total, seen, found = sum(latency.values()), 0, [0.0] * len(levels)
    if not total:
        return found
    place = 0
    for index in sorted(latency):
        seen += latency[index]
        while place < len(levels) and seen >= levels[place] * total:
            edge = float(UPPER[min(index, len(UPPER) - 2)])
            found[place] = edge / float(10.0 ** (0.5 / BINS_PER_DECADE))
            place += 1
    return found


def _sorted(values: Mapping[K, V]) -> dict[K, V]:
    """In the order of the keys, so that equal evidence is equal bytes."""
    return dict(sorted(values.items()))
