"""Releases in every state and events of every kind, for what has to hold for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from msgspec.structs import replace

from tidegate.control.releases.events import (
    EVENTS,
    Acknowledged,
    AliasMoved,
    BaselineMoved,
    Happened,
    InstanceLost,
    LoadRefused,
    Looked,
    Pause,
    Promote,
    Resume,
    Rollback,
    Superseded,
)
from tidegate.control.releases.machine import STATES, IllegalTransition, advance
from tidegate.control.releases.release import Release, Side, State
from tidegate.settings import (
    BudgetGuardrail,
    ErrorsGuardrail,
    Guardrail,
    ReleaseSettings,
    ShadowPlan,
    StepPlan,
)
from tidegate.types import ModelRef, Outcome, Verdict

PLAN = ReleaseSettings(
    steps=(1, 10, 100),
    step=StepPlan(min_requests=100, min_seconds=10, max_seconds=100),
    guardrails=(Guardrail(errors=ErrorsGuardrail()), Guardrail(budget=BudgetGuardrail(max_failures=50))),
    keep_warm_seconds=1000,
    max_silence_seconds=30,
)
SHADOW = replace(PLAN, shadow=ShadowPlan(min_requests=200, min_agreement=0.9, max_seconds=100))
NOW = 10_000.0


def release(**given: Any) -> Release:
    first = Release(
        id="r-1",
        endpoint="iris",
        baseline=ModelRef("/m/1", "iris", "1"),
        candidate=ModelRef("/m/2", "iris", "2"),
        plan=PLAN,
        author="ann",
        created=NOW - 500,
        changed=NOW - 1,
        looked=NOW - 1,
        alias="champion",
        tick=-1,
    )
    return replace(first, **given)


def verdict(guardrail: str, outcome: Outcome) -> Verdict:
    return Verdict(guardrail=guardrail, test="a test", outcome=outcome, reason=f"{guardrail}: {outcome}")


def judged(errors: Outcome = "pass", budget: Outcome = "pass", split: Outcome = "undecided") -> tuple[Verdict, ...]:
    return verdict("errors", errors), verdict("budget", budget), verdict("split", split)


def running(state: State, **given: Any) -> Release:
    """In force everywhere, with traffic."""
    step = {"shadow": -1, "ramping": 0, "baking": 2}.get(state, 0)
    share = {"shadow": 0, "ramping": 100, "baking": 10_000, "pending": 0}.get(state, 100)
    known = {
        "state": state, "resumes": state, "step": step, "share": share, "since": NOW - 50, "loaded": True,
        "effect_seconds": 0.5, "waiting": "it runs", "first": 3, "snapshot": 3, "plan": SHADOW if state == "shadow" else PLAN,
    }  # fmt: skip
    return release(**{**known, **given})


def releases(state: State) -> Iterator[Release]:
    """Enough of them that every handler goes every way."""
    if state == "pending":
        yield release()
        yield release(plan=SHADOW)
        return
    if state in ("promoted", "rolled_back", "failed"):
        for warm, pending in product((0.0, NOW - 1, NOW + 100), (False, True)):
            yield running(state, warm_until=warm, alias_pending=pending, alias_version="2", share=0)
        return
    phases: tuple[State, ...] = (state,)
    if state == "paused":
        phases = ("pending", "shadow", "ramping", "baking")
    if state == "inconclusive":
        phases = ("shadow", "ramping")
    for phase, wish, busy, since in product(phases, ("hold", "promote", "rollback"), (0.0, 200.0), (0.0, NOW - 50)):
        base = running(phase)
        plan = replace(base.plan, on_inconclusive=wish, bake_seconds=100)
        steps = (0, 1) if phase == "ramping" else (base.step,)
        for step in steps:
            yield replace(
                base, plan=plan, state=state, resumes=phase, step=step, busy=busy, since=since,
                loaded=phase != "pending", verdicts=judged(split="fail") if busy else (),
            )  # fmt: skip


def looks() -> Iterator[Looked]:
    side = Side(requests=300, outcomes={"agree": 295, "failed": 5})
    differs = Side(requests=300, outcomes={"agree": 100, "differ": 195, "failed": 5})
    few = Side(requests=3, outcomes={"agree": 3})
    outcomes: tuple[tuple[Outcome, Outcome], ...] = (
        ("pass", "undecided"), ("undecided", "undecided"), ("fail", "undecided"), ("no_data", "no_data"), ("pass", "fail"),
    )  # fmt: skip
    for (errors, split), requests, shadow in product(outcomes, (3, 300), (few, side, differs)):
        yield Looked(
            now=NOW, verdicts=judged(errors, split=split), sides={"shadow": shadow}, requests=requests, traffic=NOW - 1,
            live=2,
        )  # fmt: skip


def events(kind: type[Happened]) -> Iterator[Happened]:
    if kind is Looked:
        yield from looks()
    elif kind is AliasMoved:
        yield AliasMoved(now=NOW, version="2")
        yield AliasMoved(now=NOW, version="2", error="away")
        yield AliasMoved(now=NOW, version="2", left="3")
    else:
        yield {
            Acknowledged: Acknowledged(now=NOW, seconds=0.4),
            LoadRefused: LoadRefused(now=NOW, instance="web-1", error="out of memory"),
            Pause: Pause(now=NOW, who="ann", reason="lunch"),
            Resume: Resume(now=NOW, who="ann"),
            Promote: Promote(now=NOW, who="ann"),
            Rollback: Rollback(now=NOW, who="ann"),
            BaselineMoved: BaselineMoved(now=NOW, reason="it is version 3 now"),
            InstanceLost: InstanceLost(now=NOW, instance="web-1", live=1),
            Superseded: Superseded(now=NOW, release="r-2"),
        }[kind]


def leads_to(state: State, kind: type[Happened]) -> set[State]:
    """States that the event can lead to; empty when it is always refused."""
    found: set[State] = set()
    for one, event in product(releases(state), events(kind)):
        try:
            found.add(advance(one, event).release.state)
        except IllegalTransition:
            continue
    return found


def everything() -> dict[tuple[State, str], set[State]]:
    return {(state, kind.__name__): leads_to(state, kind) for state in STATES for kind in EVENTS}
