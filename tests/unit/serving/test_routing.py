"""Stickiness and shares. The hash is stateless, so a unit's variant is a fact, not a memory."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.errors import InvalidInput, NotFound
from tidegate.serving.routing import BUCKETS, Router, bucket
from tidegate.types import EndpointPlan, ModelRef, Variant

UNITS = [f"user-{number}" for number in range(2000)]


def never() -> float:
    raise AssertionError("drew a number for a request that has a unit")


def plan(*shares: int, salt: str = "", shadow: bool = False) -> EndpointPlan:
    candidates = [
        Variant(f"c{number}", ModelRef("m", version=f"{number + 2}"), share) for number, share in enumerate(shares)
    ]
    shadows = [Variant("shadow", ModelRef("m", version="9"), shadow=True)] if shadow else []
    return EndpointPlan("iris", (Variant("baseline", ModelRef("m", version="1")), *candidates, *shadows), salt)


def chosen(router: Router, unit: str) -> str:
    return router.choose(unit, "", "", never).variant.name


def within_sampling_error(hits: int, total: int, share: float) -> bool:
    """Five standard deviations: one false alarm in two million."""
    return abs(hits - total * share) <= 5 * math.sqrt(total * share * (1 - share))


def check_shares(units: int) -> None:
    router = Router(plan(100, 2500))
    counted = Counter(chosen(router, f"unit {number}") for number in range(units))
    assert within_sampling_error(counted["c0"], units, 0.01)
    assert within_sampling_error(counted["c1"], units, 0.25)


def test_shares_hold_within_sampling_error() -> None:
    """fluxcd/flagger#1532, #1834, argoproj/argo-rollouts#2726: sticky sessions ratcheted users to the canary."""
    check_shares(100_000)


@pytest.mark.slow
def test_shares_hold_for_a_million_units() -> None:
    """fluxcd/flagger#1532, #1834, argoproj/argo-rollouts#2726: within sampling error for a million units."""
    check_shares(1_000_000)


def test_raising_a_share_keeps_everyone_who_was_in() -> None:
    """fluxcd/flagger#1532: nobody flips back and forth while a release goes on, and a share that falls gives back."""
    inside: set[str] = set()
    for share in (0, 1, 100, 500, 2500, 5000, 10_000):
        router = Router(plan(share))
        now = {unit for unit in UNITS if chosen(router, unit) == "c0"}
        assert inside <= now
        inside = now
    assert inside == set(UNITS)
    assert not [unit for unit in UNITS if chosen(Router(plan(0)), unit) != "baseline"]


@settings(derandomize=True, max_examples=40, deadline=None, database=None)
@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 5000))
def test_raising_one_of_two_candidates_moves_nobody_out_of_either(first: int, more: int, second: int) -> None:
    before = Router(plan(first, second))
    after = Router(plan(min(first + more, BUCKETS - second), second))
    for unit in UNITS[:300]:
        was = chosen(before, unit)
        if was != "baseline":
            assert chosen(after, unit) == was


def test_a_unit_is_answered_alike_everywhere_and_always() -> None:
    """The value is pinned: another one would move every user of every running release at an upgrade."""
    assert (bucket("iris", "alice"), bucket("iris", "bob")) == (8694, 2348)
    assert {bucket("iris", unit) for unit in UNITS} <= set(range(BUCKETS))


def test_salts_are_independent() -> None:
    one, other = Router(plan(5000, salt="one")), Router(plan(5000, salt="two"))
    both = sum(chosen(one, unit) == chosen(other, unit) == "c0" for unit in UNITS)
    assert within_sampling_error(both, len(UNITS), 0.25)


def test_without_a_salt_the_endpoints_name_is_one() -> None:
    named = Router(plan(5000, salt="iris"))
    assert [chosen(named, unit) for unit in UNITS[:50]] == [chosen(Router(plan(5000)), unit) for unit in UNITS[:50]]


def test_a_lone_surrogate_is_a_unit_like_any_other() -> None:
    assert chosen(Router(plan(10_000)), "\ud800") == "c0"


def test_requests_without_a_unit_are_split_by_the_draw() -> None:
    router = Router(plan(1000, 2000))
    draws = {0.0: "c0", 0.0999: "c0", 0.1: "baseline", 0.7999: "baseline", 0.8: "c1", 0.99999: "c1"}
    for draw, name in draws.items():
        assert router.choose("", "", "", lambda draw=draw: draw).variant.name == name  # type: ignore[misc]


def test_nothing_is_drawn_when_the_baseline_takes_all() -> None:
    assert Router(plan(0)).choose("", "", "", never).variant.name == "baseline"


def test_more_candidates_take_what_is_left_in_order() -> None:
    router = Router(plan(1000, 1000, 500))
    draws = [0.0999, 0.1, 0.1499, 0.15, 0.8999, 0.9]
    names = [router.choose("", "", "", lambda draw=draw: draw).variant.name for draw in draws]  # type: ignore[misc]
    assert names == ["c0", "c2", "c2", "baseline", "baseline", "c1"]


def test_a_forced_variant_is_taken_and_marked() -> None:
    route = Router(plan(0)).choose("alice", "c0", "", never)
    assert route.variant.name == "c0"
    assert route.forced
    assert not Router(plan(0)).choose("alice", "", "", never).forced


def test_a_version_goes_past_the_router() -> None:
    router = Router(plan(0))
    route = router.choose("alice", "baseline", "2", never)
    assert route.variant.name == "c0"
    assert route.forced
    with pytest.raises(NotFound, match="version '7' of 'iris' is not served; served: 1, 2"):
        router.choose("", "", "7", never)


def test_an_unknown_variant_names_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match="it serves: baseline, c0") as refused:
        Router(plan(0)).choose("", "x" * 1000, "", never)
    assert len(str(refused.value)) < 200


def test_shadows_get_a_copy_of_all_but_their_own() -> None:
    router = Router(plan(5000, shadow=True))
    for unit in UNITS[:20]:
        assert [variant.name for variant in router.choose(unit, "", "", never).shadows] == ["shadow"]
    forced = router.choose("", "shadow", "", never)
    assert (forced.variant.name, forced.shadows) == ("shadow", ())
