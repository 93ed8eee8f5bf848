"""What the pages say of a release and an endpoint, in every state."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from tests.e2e import seed
from tidegate.console import sentences
from tidegate.console.text import THIN
from tidegate.control.figures import EndpointFigures, Split
from tidegate.control.releases.release import OPEN, Release, Side, State
from tidegate.settings import ReleaseSettings, ShadowPlan


def release(state: State = "ramping", **more: Any) -> Release:
    values: dict[str, Any] = {
        "id": "r", "endpoint": "iris", "baseline": seed.ref("iris", 3), "candidate": seed.ref("iris", 4),
        "plan": seed.PLAN, "author": "Ada", "created": 0.0, "changed": 0.0, "state": state, "step": 1, "share": 500,
        "loaded": True, "since": 1.0,
    }  # fmt: skip
    return Release(**(values | more))


@pytest.mark.parametrize("state", get_args(State))
def test_every_state_answers_the_three_questions(state: State) -> None:
    """argoproj/argo-rollouts#404: the reason is always there."""
    found = release(state, resumes="ramping", waiting="it waits" if state in OPEN else "", reason="it was so")
    assert sentences.live_of(found).big
    assert sentences.gets(found, "X-User-Id").big
    assert sentences.why(found).endswith(".")
    assert sentences.why_label(state).startswith("Why")
    assert sentences.stage(found)


@pytest.mark.parametrize(
    ("found", "live", "gets"),
    [
        (release("pending", share=0), "v3", "Nobody yet"),
        (release("shadow", share=0), "v3", "Nobody yet"),
        (release("ramping"), "v3", f"5{THIN}% of users"),
        (release("paused", share=0, resumes="shadow"), "v3", "Nobody"),
        (release("ramping", share=10_000), "v4", "Everybody"),
        (release("baking", share=10_000), "v4", "Everybody"),
        (release("promoted", share=10_000), "v4", "Everybody"),
        (release("rolled_back", share=0), "v3", "Nobody"),
        (release("failed", share=0), "v3", "Nobody"),
    ],
)
def test_who_is_live_and_who_gets_it(found: Release, live: str, gets: str) -> None:
    assert (sentences.live_of(found).big, sentences.gets(found).big) == (live, gets)


def test_users_are_told_apart_as_configured() -> None:
    assert sentences.gets(release(), "X-Account").small == "by X-Account, always the same ones"


def test_without_a_reason_a_page_does_not_stay_silent() -> None:
    assert sentences.why(release(waiting="")) == "Nothing is in its way; the next step comes at the next look."
    assert sentences.why(release("rolled_back")) == "No reason was kept."
    assert (
        sentences.why(release("paused", reason="lunch", waiting="a person resumes it")) == "Lunch. A person resumes it."
    )


def marks(found: Release) -> str:
    short = {"done": "#", "now": ">", "held": "=", "stop": "x", "": "."}
    return "".join(short[knob.mark] for knob in sentences.steps(found))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (release("pending", step=-1), ">......."),
        (release("shadow", step=-1), "#>......"),
        (release("ramping", step=0), "##>....."),
        (release("ramping", step=4), "######>."),
        (release("paused", step=1, resumes="ramping"), "###=...."),
        (release("rolled_back", step=1), "###x...."),
        (release("rolled_back", step=-1, sides={"shadow": Side(requests=3)}), "#x......"),
        (release("failed", step=-1), "x......."),
        (release("promoted", step=4), "########"),
        (release("ramping", step=0, plan=ReleaseSettings(steps=(10,))), "#>.."),
        (release("baking", step=1, plan=ReleaseSettings(steps=(10, 100), bake_seconds=60)), "###>."),
    ],
)
def test_the_way_shows_where_it_stands(found: Release, expected: str) -> None:
    assert marks(found) == expected


def test_needs_are_those_of_the_stage() -> None:
    ramping = release(busy=64.0, verdicts=seed.verdicts("undecided"))
    names = [(need.name, need.met) for need in sentences.needs(ramping, 2500)]
    assert names == [("Requests in this step", True), ("Time with traffic", False), ("Guardrails passed", False)]
    assert [need.name for need in sentences.needs(ramping, None)] == ["Time with traffic", "Guardrails passed"]
    shadow = release(
        "shadow",
        plan=ReleaseSettings(shadow=ShadowPlan(min_requests=500, min_agreement=0.9)),
        sides={"shadow": Side(requests=312, outcomes={"agree": 250, "differ": 50, "failed": 12})},
    )
    assert [(need.has, need.met) for need in sentences.needs(shadow, None)] == [
        ("312 of 500", False),
        (f"80.1{THIN}% of 90{THIN}%", False),
    ]
    assert sentences.needs(release(since=0.0), 5) == []
    assert sentences.needs(release("promoted"), 5) == []


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (release("pending", loaded=False), ["pause", "rollback"]),
        (release("ramping"), ["pause", "promote", "rollback"]),
        (release("paused"), ["resume", "promote", "rollback"]),
        (release("inconclusive"), ["resume", "promote", "rollback"]),
        (release("promoted", warm_until=200.0), ["rollback"]),
        (release("promoted", warm_until=50.0), []),
        (release("rolled_back"), []),
    ],
)
def test_only_what_can_be_done_is_offered(found: Release, expected: list[str]) -> None:
    assert sentences.actions(found, 100.0) == expected


def endpoint(*splits: Split, **more: Any) -> EndpointFigures:
    return EndpointFigures(name="iris", splits=splits, **more)


def test_an_endpoint_without_a_release() -> None:
    live = Split(variant="baseline", version="3", model="iris", share=10_000)
    assert sentences.live(endpoint()).big == "Nothing"
    assert sentences.live(endpoint(live)) == ("v3", "answers every user")
    assert sentences.gets_without_release(endpoint(live)).small == "no release is open"
    warm = Split(variant="previous", version="2", role="warm")
    assert "v2 is kept loaded" in sentences.gets_without_release(endpoint(live, warm)).small
    fixed = Split(variant="candidate", version="4", share=1000, role="candidate")
    assert sentences.gets_without_release(endpoint(live, fixed), "X-User-Id") == (
        f"10{THIN}% of users",
        "by X-User-Id, as the configuration says",
    )
    copies = Split(variant="copy", version="4", role="shadow", shadow=True)
    assert sentences.gets_without_release(endpoint(live, copies)).big == "Nobody"
    arm = Split(variant="bold", version="4", share=5000, role="arm")
    assert sentences.gets_without_release(endpoint(live, arm, experiment="try")).small == f"try: bold 50{THIN}%"
    assert sentences.next_candidate(endpoint(live)) == "models:/iris/VERSION"
    assert sentences.next_candidate(endpoint()) == "models:/iris/VERSION"


def test_what_became_of_the_last_release() -> None:
    assert sentences.last(release("rolled_back")) == "v4 was rolled back"
    assert sentences.last(release("promoted")) == "v4 was promoted"
    assert sentences.last(release("failed")) == "v4 could not begin"


def test_what_needs_a_person_comes_first() -> None:
    order = [
        endpoint(health="degraded"),
        endpoint(health="healthy", release=release("paused")),
        endpoint(health="healthy", release=release()),
        endpoint(health="healthy"),
    ]
    assert sorted(order, key=sentences.urgent) == order
