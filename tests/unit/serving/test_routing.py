"""Stickiness and shares. The hash is stateless, so a unit's variant is a fact, not a memory."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.errors import InvalidInput, NotFound
from tidegate.serving.routing import BUCKETS, Router, bucket
from tidegate.types import EndpointPlan, Exposing, ModelRef, Variant

UNITS = [f"user-{number}" for number in range(2000)]


def never() -> float:
    raise AssertionError("drew a number for a request that has a unit")


def plan(*shares: int, salt: str = "", shadow: bool = False, experiment: Exposing | None = None) -> EndpointPlan:
    candidates = [
        Variant(f"c{number}", ModelRef("m", version=f"{number + 2}"), share) for number, share in enumerate(shares)
    ]
    shadows = [Variant("shadow", ModelRef("m", version="9"), shadow=True)] if shadow else []
    return EndpointPlan(
        "iris", (Variant("baseline", ModelRef("m", version="1")), *candidates, *shadows), salt, experiment
    )


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


def taking_part(experiment: Exposing, shares: tuple[int, ...] = (5000,), units: list[str] = UNITS) -> dict[str, str]:
    """Variant of each unit that takes part."""
    router = Router(plan(*shares, experiment=experiment))
    routes = {unit: router.choose(unit, "", "", never) for unit in units}
    return {unit: route.variant.name for unit, route in routes.items() if route.experiment}


def check_experiment(units: list[str]) -> None:
    found = taking_part(Exposing("ab", "layer", 1000, 3000), (2500, 2500), units)
    assert within_sampling_error(len(found), len(units), 0.2)
    counted = Counter(found.values())
    assert within_sampling_error(counted["c0"], len(found), 0.25)
    assert within_sampling_error(counted["c1"], len(found), 0.25)


def test_an_experiment_takes_its_part_of_the_units_and_splits_it_by_its_shares() -> None:
    check_experiment([f"unit {number}" for number in range(100_000)])


@pytest.mark.slow
def test_an_experiments_shares_hold_for_a_million_units() -> None:
    """fluxcd/flagger#1834, argoproj/argo-rollouts#2726: within sampling error for a million units."""
    check_experiment([f"unit {number}" for number in range(1_000_000)])


def test_who_is_outside_gets_the_baseline_and_leaves_no_record() -> None:
    inside = taking_part(Exposing("ab", "layer", 0, 5000), (10_000,))
    router = Router(plan(10_000, experiment=Exposing("ab", "layer", 0, 5000)))
    for unit in UNITS:
        route = router.choose(unit, "", "", never)
        assert (route.variant.name, route.experiment) == (("c0", "ab") if unit in inside else ("baseline", ""))
    assert 0 < len(inside) < len(UNITS)


def test_without_a_unit_or_by_force_nobody_takes_part() -> None:
    router = Router(plan(10_000, experiment=Exposing("ab")))
    assert router.choose("", "", "", never) is router.outside
    forced = router.choose("alice", "c0", "", never)
    assert (forced.variant.name, forced.experiment) == ("c0", "")
    assert router.choose("alice", "", "2", never).experiment == ""
    assert router.choose("alice", "", "", never).experiment == "ab"


def test_the_baselines_share_of_an_experiment_is_on_record_too() -> None:
    assert set(taking_part(Exposing("ab"), (5000,)).values()) == {"baseline", "c0"}
    assert len(taking_part(Exposing("ab"), (5000,))) == len(UNITS)
    assert set(taking_part(Exposing("aa"), (0,)).values()) == {"baseline"}


def test_experiments_of_one_layer_exclude_each_other() -> None:
    first, second = (set(taking_part(Exposing(name, "checkout", *part))) for name, part in PARTS.items())
    assert not first & second
    assert first | second == set(UNITS)


PARTS = {"one": (0, 4000), "two": (4000, 10_000)}


def test_different_layers_are_independent_of_each_other_and_of_the_split() -> None:
    one = taking_part(Exposing("one", "a", 0, 5000))
    other = taking_part(Exposing("two", "b", 0, 5000))
    assert within_sampling_error(len(one.keys() & other.keys()), len(UNITS), 0.25)
    same = taking_part(Exposing("iris", "iris", 0, 5000))  # even when they have the same name
    assert within_sampling_error(Counter(same.values())["c0"], len(same), 0.5)


def test_an_empty_range_is_nobody_and_a_name_is_a_layer() -> None:
    assert taking_part(Exposing("ab", "layer", 5000, 5000)) == {}
    assert taking_part(Exposing("ab", "layer", 6000, 5000)) == {}
    assert taking_part(Exposing("ab", "", 0, 5000)) == taking_part(Exposing("ab", "ab", 0, 5000))


@settings(derandomize=True, max_examples=40, deadline=None, database=None)
@given(st.integers(0, 9_000), st.integers(0, 1_000), st.integers(0, 5000), st.integers(0, 5000))
def test_a_larger_range_and_a_larger_share_keep_everyone_who_was_in(end: int, more: int, share: int, plus: int) -> None:
    """fluxcd/flagger#1532: stickiness that ratchets, or flips."""
    before = taking_part(Exposing("ab", "layer", 0, end), (share,), UNITS[:300])
    after = taking_part(Exposing("ab", "layer", 0, end + more), (share + plus,), UNITS[:300])
    assert before.keys() <= after.keys()
    assert not [unit for unit, variant in before.items() if variant == "c0" != after[unit]]
