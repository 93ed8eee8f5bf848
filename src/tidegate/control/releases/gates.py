"""When a step may end, and the sentence that says why it does not: pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from tidegate.control.releases.counted import FULL, share_of
from tidegate.control.releases.events import Looked
from tidegate.control.releases.release import Release, Side
from tidegate.section import seconds_of
from tidegate.settings import ReleaseSettings, StepPlan
from tidegate.types import Verdict

SPLIT = "split"
"""The verdict that tells whether units are divided as configured; it judges the router, not the candidate."""

Decision = Literal["wait", "go", "fail", "late"]


class Gate(msgspec.Struct, frozen=True):
    """``late``: the longest time of the step is over. ``text`` is the reason, or what is waited for."""

    decision: Decision
    text: str


def shares(plan: ReleaseSettings) -> tuple[int, ...]:
    """Shares of the steps in basis points; the last one is everything, also where the plan leaves it out."""
    found = tuple(share_of(plan, step) for step in range(len(plan.steps)))
    return found if found and found[-1] == FULL else (*found, FULL)


def gate_of(plan: ReleaseSettings) -> int:
    """Index of the step that every guardrail has to pass: the last one with a baseline beside the candidate."""
    return max(len(shares(plan)) - 2, 0)


def named(release: Release) -> str:
    """The step in words: ``step 2 of 5 (5 %)``."""
    if release.phase == "ramping":
        return f"step {release.step + 1} of {len(shares(release.plan))} ({release.share / 100:g} %)"
    return {"pending": "loading", "shadow": "shadow", "baking": "baking at 100 %"}.get(release.phase, release.phase)


def failing(verdicts: tuple[Verdict, ...]) -> Verdict | None:
    return next((verdict for verdict in verdicts if verdict.outcome == "fail" and verdict.guardrail != SPLIT), None)


def broken_split(verdicts: tuple[Verdict, ...]) -> Verdict | None:
    return next((verdict for verdict in verdicts if verdict.outcome == "fail" and verdict.guardrail == SPLIT), None)


def unproved(verdicts: tuple[Verdict, ...], plan: ReleaseSettings) -> str:
    """Guardrails that have not passed, in words; empty when all have. One without a verdict has not passed."""
    judged = [verdict for verdict in verdicts if verdict.guardrail != SPLIT]
    open_ = [_in_words(verdict) for verdict in judged if verdict.outcome != "pass"]
    missing = len(plan.guardrails) - len(judged)
    if missing > 0:
        open_.append(f"{missing} guardrails without a verdict" if missing > 1 else "a guardrail without a verdict")
    return ", ".join(open_)


def blind(verdicts: tuple[Verdict, ...], plan: ReleaseSettings) -> bool:
    """Whether a guardrail has seen nothing at all, so that nothing may be promoted past it by default."""
    judged = [verdict for verdict in verdicts if verdict.guardrail != SPLIT]
    return len(judged) < len(plan.guardrails) or any(verdict.outcome == "no_data" for verdict in judged)


def gate(release: Release, look: Looked) -> Gate:
    """Whether the current step, in force everywhere, may end. ``release.busy`` is up to date."""
    if release.phase == "shadow":
        return _shadow(release, look)
    if release.phase == "baking":
        return _baking(release, look)
    return _step(release, look)


def waits_for_loading(release: Release, look: Looked) -> str:
    """Why a publication is not in force everywhere yet."""
    if not look.live:
        return f"{named(release)}: no serving instance is alive"
    has = look.live - len(look.awaited)
    which = ", ".join(look.awaited[:3]) + (" …" if len(look.awaited) > 3 else "")
    return f"{named(release)}: {has} of {look.live} instances have it in force; waiting for {which or 'their word'}"


def _step(release: Release, look: Looked) -> Gate:
    plan, step = release.plan, release.plan.step
    undecided = unproved(look.verdicts, plan)
    at_gate = release.step >= gate_of(plan)
    enough = _counted(release, look) >= step.min_requests and release.busy >= step.min_seconds
    if enough and not (at_gate and undecided):
        return Gate("go", f"{named(release)} ended: {_progress(release, look, step)}")
    limit = step.max_seconds + (_label_seconds(plan) if at_gate else 0.0)
    missing = undecided if enough else f"{_counted(release, look)} of {step.min_requests} requests"
    if release.busy >= limit:
        return Gate("late", f"{named(release)} did not end within {limit:g} seconds of traffic: {missing}")
    text = f"{named(release)}: {_progress(release, look, step)}"
    return Gate("wait", _silence(release, look) or (f"{text}; {undecided}" if undecided else text))


def _shadow(release: Release, look: Looked) -> Gate:
    plan = release.plan.shadow
    if plan is None:
        return Gate("go", "no copies are asked for")
    side = look.sides.get("shadow", Side())
    copies, failed, agreement = _copies(side)
    budget = next((rail.budget.max_failures for rail in release.plan.guardrails if rail.budget is not None), None)
    if budget is not None and failed > budget:
        return Gate("fail", f"shadow: {failed} of {copies} copies failed, more than the budget of {budget}")
    figures = f"{copies} of {plan.min_requests} copies, {agreement:.1%} agree, {failed} failed"
    if copies >= plan.min_requests:
        if agreement < plan.min_agreement:
            return Gate("fail", f"shadow: {agreement:.1%} of {copies} copies agree, less than {plan.min_agreement:.1%}")
        if failed <= _acceptable_rate(release.plan) * copies:
            return Gate("go", f"shadow ended: {figures}")
        figures += f", more than {_acceptable_rate(release.plan):.1%}"
    if release.busy >= plan.max_seconds:
        return Gate("late", f"shadow did not end within {plan.max_seconds:g} seconds of traffic: {figures}")
    return Gate("wait", _silence(release, look) or f"shadow: {figures}")


def _baking(release: Release, look: Looked) -> Gate:
    bake = release.plan.bake_seconds
    if release.busy >= bake:
        return Gate("go", f"{bake:g} seconds at 100 %" if bake else "everything at 100 %")
    return Gate("wait", _silence(release, look) or f"{named(release)}: {int(release.busy)} of {bake:g} seconds")


def silent(release: Release, look: Looked) -> float:
    """Seconds without a request beyond which the step stands still; 0 while there is traffic."""
    quiet = look.now - max(look.traffic, release.since)
    return quiet if quiet > release.plan.max_silence_seconds else 0.0


def _silence(release: Release, look: Looked) -> str:
    quiet = silent(release, look)
    if not quiet:
        return ""
    wanted = release.plan.shadow.min_requests if release.phase == "shadow" and release.plan.shadow else 0
    wanted = release.plan.step.min_requests if release.phase == "ramping" else wanted
    so_far = f"; {_counted(release, look)} of {wanted} requests so far" if wanted else ""
    return f"{named(release)}: no traffic for {quiet:.0f} seconds, so nothing is concluded{so_far}"


def _counted(release: Release, look: Looked) -> int:
    """The candidate's requests since the step is in force everywhere."""
    return max(look.requests - release.ahead, 0)


def _progress(release: Release, look: Looked, step: StepPlan) -> str:
    return (
        f"{_counted(release, look)} of {step.min_requests} requests, {int(release.busy)} of "
        f"{step.min_seconds:g} seconds"
    )


def _copies(side: Side) -> tuple[int, int, float]:
    """Copies answered or failed, those that failed, and the share that agrees: a failure agrees with nothing."""
    agree, failed = side.outcomes.get("agree", 0), side.outcomes.get("failed", 0)
    copies = agree + failed + side.outcomes.get("differ", 0)
    return copies, failed, agree / copies if copies else 0.0


def _acceptable_rate(plan: ReleaseSettings) -> float:
    """Most failures among the copies with which a shadow goes on; without an errors guardrail any number."""
    rates = [rail.errors.acceptable_rate for rail in plan.guardrails if rail.errors is not None]
    return min(rates, default=1.0)


def _label_seconds(plan: ReleaseSettings) -> float:
    """How much longer the deciding step may take, because labels come late."""
    return max((seconds_of(rail.outcome.wait) for rail in plan.guardrails if rail.outcome is not None), default=0.0)


def _in_words(verdict: Verdict) -> str:
    return f"{verdict.guardrail} {verdict.outcome.replace('_', ' ')}"
