"""The table of the release machine: complete, and doing what the plan says."""

from __future__ import annotations

import ast
from itertools import product
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.unit.control.releases.cases import (
    NOW,
    PLAN,
    SHADOW,
    events,
    judged,
    leads_to,
    release,
    releases,
    running,
    verdict,
)
from tidegate.control.releases import events as happenings
from tidegate.control.releases import machine
from tidegate.control.releases.events import (
    EVENTS,
    Acknowledged,
    Act,
    AliasMoved,
    Happened,
    Looked,
    MoveAlias,
    Pause,
    Promote,
    Publish,
    Record,
    Resume,
    Rollback,
)
from tidegate.control.releases.machine import STATES, TABLE, IllegalTransition, Transition, advance
from tidegate.control.releases.release import OPEN, Release, Side, State
from tidegate.settings import Guardrail, OutcomeGuardrail
from tidegate.types import ModelRef


def looked(release: Release, **given: object) -> Transition:
    known = {"now": NOW, "verdicts": judged(), "requests": 300, "traffic": NOW - 1, "live": 2}
    return advance(release, Looked(**{**known, **given}))  # type: ignore[arg-type]


def published(moved: Transition) -> list[str]:
    return [one.change for one in moved.instructions if isinstance(one, Publish)]


def test_every_pair_is_in_the_table() -> None:
    assert set(TABLE) == set(product(STATES, EVENTS))
    kinds = {kind for kind in vars(happenings).values() if isinstance(kind, type) and issubclass(kind, Happened)}
    assert kinds - {Happened, Act} == set(EVENTS)


@pytest.mark.parametrize(("state", "kind"), TABLE)
def test_every_pair_moves_or_is_refused_with_the_history(state: State, kind: type[Happened]) -> None:
    refused: list[IllegalTransition] = []
    for before, event in product(releases(state), events(kind)):
        try:
            moved = advance(replace(before, trail=("pending",)), event)
        except IllegalTransition as error:
            refused.append(error)
            continue
        assert moved.release.revision == before.revision + 1
        assert moved.release.changed == event.now
        records = [one for one in moved.instructions if isinstance(one, Record)]
        assert len(records) <= 1
        if moved.release.state != state:
            assert moved.release.trail[-1] == state
            assert len(records) == 1
        assert len(published(moved)) <= 1
        if published(moved):
            assert not moved.release.in_force
        if moved.release.open:
            assert moved.release.waiting or not isinstance(event, Looked)
    for one in refused:
        assert one.history == ("pending", state)
        assert f"pending → {state}" in str(one)


@pytest.mark.parametrize("state", OPEN)
def test_rollback_is_one_publication_from_any_open_state(state: State) -> None:
    """argoproj/argo-rollouts#574, #2939: the fast way back was taken only sometimes."""
    for before in releases(state):
        moved = advance(before, Rollback(now=NOW, who="ann", reason="no"))
        assert moved.release.state == "rolled_back"
        assert published(moved) == ["return"]
        assert moved.release.share == 0


def test_rollback_after_the_promotion_while_the_old_version_is_warm() -> None:
    """argoproj/argo-rollouts#574: also one publication, and the alias goes back."""
    warm = running("promoted", warm_until=NOW + 1)
    moved = advance(warm, Rollback(now=NOW, who="ann"))
    assert published(moved) == ["return"]
    assert MoveAlias("iris", "champion", "1") in moved.instructions
    with pytest.raises(IllegalTransition, match="not kept warm"):
        advance(replace(warm, warm_until=NOW), Rollback(now=NOW, who="ann"))


def test_a_candidate_gets_a_share_only_after_every_instance_loaded_it() -> None:
    """kserve/kserve#5983: requests went to a canary that was not ready."""
    moved = looked(release(), awaited=("web-2:8000",), verdicts=())
    assert moved.release.share == 0
    assert moved.release.waiting == "loading: 1 of 2 instances have it in force; waiting for web-2:8000"
    assert not published(moved)
    with pytest.raises(IllegalTransition, match="has loaded"):
        advance(release(), Promote(now=NOW, who="ann"))
    begun = advance(moved.release, Acknowledged(now=NOW, seconds=0.7)).release
    assert (begun.state, begun.share, begun.loaded) == ("ramping", 100, True)


def test_no_instance_is_waited_for_in_so_many_words() -> None:
    assert looked(release(), live=0, verdicts=()).release.waiting == "loading: no serving instance is alive"


def test_shadow_comes_first_where_the_plan_has_it() -> None:
    moved = advance(release(plan=SHADOW), Acknowledged(now=NOW, seconds=0.7))
    assert (moved.release.state, moved.release.share) == ("shadow", 0)


def test_a_step_ends_with_enough_time_and_requests() -> None:
    step = running("ramping", busy=9.5)
    assert looked(step).release.step == 1
    assert looked(replace(step, busy=3.0)).release.waiting == (
        "step 1 of 3 (1 %): 300 of 100 requests, 4 of 10 seconds"
    )
    few = looked(step, requests=40, verdicts=judged("undecided")).release
    assert few.waiting == "step 1 of 3 (1 %): 40 of 100 requests, 10 of 10 seconds; errors undecided"
    assert looked(replace(step, ahead=250)).release.step == 0


def test_requests_from_before_a_step_is_in_force_do_not_count_when_it_was_paused_meanwhile() -> None:
    stopped = running("paused", resumes="ramping", since=0.0, effect_seconds=0.0, busy=50.0)
    stopped = looked(stopped, requests=250, awaited=("web-2:8000",)).release
    begun = advance(stopped, Acknowledged(now=NOW, seconds=1.0)).release
    resumed = advance(begun, Resume(now=NOW, who="ann")).release
    assert looked(resumed, requests=300).release.waiting.startswith("step 1 of 3 (1 %): 50 of 100 requests")


def test_undecided_guardrails_let_steps_before_the_last_comparison_go_on() -> None:
    assert looked(running("ramping", busy=50.0), verdicts=judged("undecided")).release.step == 1
    gate = running("ramping", step=1, share=1000, busy=50.0)
    held = looked(gate, verdicts=judged("undecided")).release
    assert (held.state, held.step) == ("ramping", 1)
    assert held.waiting.endswith("; errors undecided")
    assert looked(gate).release.state == "baking"
    assert looked(gate, verdicts=judged()[:1]).release.waiting.endswith("; a guardrail without a verdict")


@pytest.mark.parametrize("state", ["shadow", "ramping", "baking"])
def test_a_failing_guardrail_rolls_back_at_once_with_its_reason(state: State) -> None:
    """argoproj/argo-rollouts#404, #2087: why it was aborted could not be seen."""
    for since in (0.0, NOW - 50):
        moved = looked(running(state, since=since), verdicts=judged("fail"))
        assert moved.release.state == "rolled_back"
        assert moved.release.reason == "errors: fail"
        assert published(moved) == ["return"]


@pytest.mark.parametrize("state", ["paused", "inconclusive"])
def test_a_failing_guardrail_rolls_back_what_stands_still_too(state: State) -> None:
    moved = looked(replace(running("ramping"), state=state), verdicts=judged("fail"))
    assert moved.release.state == "rolled_back"


def test_a_broken_split_pauses_and_says_so() -> None:
    stopped = looked(running("ramping"), verdicts=judged(split="fail")).release
    assert (stopped.state, stopped.share, stopped.resumes) == ("paused", 100, "ramping")
    assert "the split is broken" in stopped.waiting
    resumed = advance(stopped, Resume(now=NOW, who="ann", reason="a bot")).release
    assert resumed.state == "ramping"
    assert looked(resumed, verdicts=judged(split="fail")).release.state == "ramping"


@pytest.mark.parametrize("wish", ["hold", "promote", "rollback"])
@pytest.mark.parametrize("state", ["shadow", "ramping", "baking"])
def test_without_traffic_it_waits_and_says_so(state: State, wish: str) -> None:
    """fluxcd/flagger#1035, argoproj/argo-rollouts#1466, #1905, #4479: no traffic was a success, or a failure."""
    base = running(state)
    quiet = replace(base, plan=replace(base.plan, on_inconclusive=wish, bake_seconds=10.0), since=NOW - 5000)
    for _ in range(200):
        quiet = looked(
            quiet, now=quiet.looked + 60, traffic=0.0, requests=0, verdicts=judged("no_data", "no_data")
        ).release
    assert (quiet.state, quiet.share, quiet.busy) == (state, base.share, 0.0)
    assert "no traffic for 16999 seconds" in quiet.waiting
    assert "nothing is concluded" in quiet.waiting


def test_time_without_traffic_does_not_count() -> None:
    step = running("ramping", looked=NOW - 5)
    assert looked(step, traffic=NOW - 29).release.busy == 5.0
    assert looked(step, traffic=NOW - 31).release.busy == 0.0
    few = looked(replace(step, looked=NOW - 3600), requests=3).release
    assert few.busy == 10.0, "a jump of the clock is no hour of traffic"
    assert looked(replace(step, looked=NOW + 3600)).release.busy == 0.0


@pytest.mark.parametrize(
    ("wish", "outcome", "state"),
    [
        ("hold", "undecided", "inconclusive"),
        ("rollback", "undecided", "rolled_back"),
        ("promote", "undecided", "baking"),
        ("promote", "no_data", "inconclusive"),
    ],
)
def test_what_stays_undecided_is_inconclusive(wish: str, outcome: str, state: str) -> None:
    late = running("ramping", step=1, share=1000, busy=99.5, plan=replace(PLAN, on_inconclusive=wish))
    moved = looked(late, verdicts=judged(outcome)).release  # type: ignore[arg-type]
    assert moved.state == state
    if state == "inconclusive":
        assert moved.share == 1000
        assert "did not end within 100 seconds" in moved.reason
        assert advance(moved, Resume(now=NOW, who="ann")).release.busy == 0.0
        assert advance(moved, Promote(now=NOW, who="ann")).release.state == "promoted"


def test_the_deciding_step_waits_for_late_labels() -> None:
    rails = (*PLAN.guardrails, Guardrail(outcome=OutcomeGuardrail(wait="1h")))
    late = running("ramping", step=1, share=1000, busy=150.0, plan=replace(PLAN, guardrails=rails))
    verdicts = (*judged(), verdict("outcome", "no_data"))
    moved = looked(late, verdicts=verdicts).release
    assert moved.state == "ramping"
    assert moved.waiting.endswith("; outcome no data")
    assert looked(replace(late, busy=3700.0), verdicts=verdicts).release.state == "inconclusive"


@pytest.mark.parametrize(
    ("outcomes", "state", "text"),
    [
        ({"agree": 199}, "shadow", "199 of 200 copies"),
        ({"agree": 200}, "ramping", ""),
        ({"agree": 150, "differ": 60}, "rolled_back", "agree, less than 90.0%"),
        ({"agree": 195, "failed": 5}, "shadow", "5 failed, more than 1.0%"),
        ({"agree": 10, "failed": 51}, "rolled_back", "more than the budget of 50"),
    ],
)
def test_shadow_needs_copies_that_agree(outcomes: dict[str, int], state: str, text: str) -> None:
    moved = looked(
        running("shadow"), sides={"shadow": Side(requests=300, outcomes=outcomes)}, verdicts=judged()
    ).release
    assert moved.state == state
    assert text in (moved.waiting or moved.reason)


def test_baking_comes_before_the_promotion() -> None:
    baking = running("baking", plan=replace(PLAN, bake_seconds=30))
    assert looked(baking).release.waiting == "baking at 100 %: 1 of 30 seconds"
    moved = looked(replace(baking, busy=30.0))
    assert moved.release.state == "promoted"
    assert published(moved) == ["promote"]
    assert MoveAlias("iris", "champion", "2") in moved.instructions
    assert moved.release.warm_until == NOW + 1000


def test_a_plan_of_one_step_still_needs_its_guardrails() -> None:
    only = running("ramping", plan=replace(PLAN, steps=(100,)), share=10_000, busy=50.0)
    assert looked(only, verdicts=judged("no_data")).release.state == "ramping"
    assert looked(only).release.state == "baking"


def test_the_old_version_is_retired_when_its_time_is_over() -> None:
    warm = running("promoted", warm_until=NOW)
    assert published(looked(replace(warm, warm_until=NOW + 1))) == []
    moved = looked(warm)
    assert published(moved) == ["retire"]
    assert moved.release.warm_until == 0


def test_a_rollback_takes_back_the_wish_for_an_alias_that_was_not_moved_yet() -> None:
    """The baseline is from no registry, so that the alias has nowhere else to go: it stays where it is."""
    warm = running("promoted", warm_until=NOW + 1, alias_pending=True, alias_version="2", baseline=ModelRef("/m/1"))
    moved = advance(warm, Rollback(now=NOW, who="ann"))
    assert not moved.release.alias_pending
    assert not [one for one in moved.instructions if isinstance(one, MoveAlias)]


def test_the_alias_of_an_earlier_wish_does_not_count() -> None:
    back = running("rolled_back", alias_pending=True, alias_version="1")
    assert advance(back, AliasMoved(now=NOW, version="2")).release.alias_pending
    away = advance(back, AliasMoved(now=NOW, version="1", error="the registry does not answer")).release
    assert away.waiting == "the alias champion is not moved yet: the registry does not answer"
    assert not advance(away, AliasMoved(now=NOW, version="1")).release.alias_pending
    assert advance(away, AliasMoved(now=NOW, version="2", left="3")).release.alias_pending


def test_a_paused_loading_begins_again() -> None:
    paused = advance(release(), Pause(now=NOW, who="ann")).release
    loaded = advance(paused, Acknowledged(now=NOW, seconds=1.0)).release
    assert (loaded.state, loaded.share) == ("paused", 0)
    resumed = advance(loaded, Resume(now=NOW, who="ann")).release
    assert resumed.state == "pending"
    assert advance(resumed, Acknowledged(now=NOW, seconds=1.0)).release.state == "ramping"


def test_the_machine_touches_nothing() -> None:
    tree = ast.parse(Path(machine.__file__).read_text("utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {module for module in modules if module and "storage" in module}


def test_cases_reach_every_way_on() -> None:
    assert leads_to("ramping", Looked) == {"ramping", "baking", "rolled_back", "paused", "inconclusive"}
