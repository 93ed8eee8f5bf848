"""Read models over windows: pure folds, and the look at a real store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.stores import sqlite_store
from tidegate.clock import ManualClock
from tidegate.control.figures import (
    LAG,
    Figures,
    VariantFigures,
    configured_splits,
    distribution,
    fold,
    health_of,
    judge,
    quantile_of,
    splits_of,
    total_of,
)
from tidegate.metrics import bin_of
from tidegate.observations import Beat, VariantWindow
from tidegate.settings import EndpointSettings, Settings, VariantSettings
from tidegate.types import EndpointPlan, Exposing, ModelRef, RoutingSnapshot, Variant

NOW = 1_000_000.0


def window(variant: str = "baseline", start: float = NOW - 10, requests: int = 10, **more: Any) -> VariantWindow:
    values: dict[str, Any] = {
        "process": "p", "sequence": round(start * 10), "endpoint": "iris", "variant": variant, "version": "3",
        "snapshot": 2, "share": 0, "start": start, "seconds": 1.0, "requests": requests,
        "outcomes": {"ok": requests}, "latency": {bin_of(0.01): requests},
    }  # fmt: skip
    return VariantWindow(**(values | more))


def beat(instance: str = "a:8000", age: float = 0.5, snapshot: int = 2, **more: Any) -> Beat:
    values: dict[str, Any] = {
        "instance": instance, "host": "a", "port": 8000, "pid": 1, "workers": 1, "started": 0.0, "time": NOW - age,
        "snapshot": snapshot, "models": {"iris": {"baseline": "3"}},
    }  # fmt: skip
    return Beat(**(values | more))


def ref(version: str) -> ModelRef:
    return ModelRef(f"models:/iris/{version}", "iris", version)


def test_rates_quantiles_and_failures_are_of_the_time_asked_for() -> None:
    windows = [
        window(start=NOW - 61),
        *(window(start=NOW - 60 + second, requests=6, outcomes={"ok": 5, "failed": 1}) for second in range(60)),
        window(start=NOW),
    ]
    found = fold(windows, NOW - 60, NOW)["baseline"]
    assert (found.requests, found.failures, found.rate) == (360, 60, 6.0)
    assert found.failure_rate == pytest.approx(1 / 6)
    assert found.p50 == pytest.approx(0.01, rel=0.02)
    assert found.series == (6,) * 60


def test_a_variant_that_began_just_now_has_its_real_rate() -> None:
    found = fold([window("candidate", NOW - second, 20) for second in (5, 4, 3, 2, 1)], NOW - 60, NOW)["candidate"]
    assert found.rate == 20


def test_what_a_name_meant_before_is_not_mixed_in() -> None:
    """After a promotion the baseline is another model; a shadow's copies are not a candidate's requests."""
    windows = [
        window(start=NOW - 30, version="3", latency={bin_of(0.5): 10}),
        window(start=NOW - 5, version="4"),
        window("candidate", NOW - 30, shadow=True, outcomes={"agree": 10}),
        window("candidate", NOW - 5),
    ]
    found = fold(windows, NOW - 60, NOW)
    assert found["baseline"].version == "4"
    assert found["baseline"].p99 < 0.02
    assert found["candidate"].outcomes == {"ok": 10}


def test_copies_are_not_users() -> None:
    found = total_of([window(), window("candidate", shadow=True, outcomes={"agree": 10})], NOW - 60, NOW)
    assert found.requests == 10


def test_users_are_counted_across_a_promotion() -> None:
    windows = [window(start=NOW - 30, version="3"), window(start=NOW - 5, version="4"), window("candidate", NOW - 31)]
    found = total_of(windows, NOW - 60, NOW)
    assert (found.requests, sum(found.series)) == (30, 30)


def test_nothing_counted_is_nothing_claimed() -> None:
    assert fold([], NOW - 60, NOW) == {}
    nothing = total_of([], NOW - 60, NOW)
    assert (nothing.rate, nothing.p99, nothing.failure_rate, sum(nothing.series)) == (0.0, 0.0, 0.0, 0)
    assert quantile_of({}, 0.5) == 0.0
    assert VariantFigures(variant="x").failure_rate == 0.0


def test_refusals_are_not_failures_of_the_model() -> None:
    outcomes = {"ok": 1, "refused": 2, "gone": 3, "failed": 4, "timeout": 5, "breaker_open": 6}
    assert fold([window(outcomes=outcomes)], NOW - 60, NOW)["baseline"].failures == 15


def test_the_distribution_is_whole_and_keeps_the_scale() -> None:
    bars = distribution({bin_of(0.001): 1, bin_of(0.002): 2, bin_of(0.02): 1})
    assert sum(share for _, _, share in bars) == pytest.approx(1.0)
    assert all(high / low == pytest.approx(10 ** (1 / 16)) for low, high, _ in bars)
    assert bars[0][0] <= 0.001 <= bars[0][1]
    assert distribution({}) == []


def test_the_baseline_takes_what_no_other_takes() -> None:
    plan = EndpointPlan(
        "iris",
        (
            Variant("baseline", ref("3")),
            Variant("candidate", ref("4"), 500),
            Variant("copy", ref("5"), 0, shadow=True),
            Variant("previous", ref("2")),
        ),
    )
    found = splits_of(plan)
    assert [(split.variant, split.share, split.role) for split in found] == [
        ("baseline", 9500, "baseline"),
        ("candidate", 500, "candidate"),
        ("copy", 0, "shadow"),
        ("previous", 0, "warm"),
    ]
    arms = EndpointPlan("iris", (*plan.variants[:1], Variant("bold", ref("4"), 5000)), experiment=Exposing("try"))
    assert splits_of(arms)[1].role == "arm"


def test_without_a_publication_the_configuration_says_the_split() -> None:
    endpoint = EndpointSettings(
        model="a.onnx",
        variants={
            "candidate": VariantSettings(model="b.onnx", share=10),
            "copy": VariantSettings(model="c.onnx", shadow=True),
        },
    )
    seen = beat(models={"iris": {"baseline": "abc", "candidate": "def"}})
    found = configured_splits("iris", Settings(endpoints={"iris": endpoint}), [seen])
    assert [(split.version, split.share, split.role) for split in found] == [
        ("abc", 9000, "baseline"),
        ("def", 1000, "candidate"),
        ("", 0, "shadow"),
    ]
    unknown = configured_splits("other", Settings(), [beat(models={"other": {"baseline": "1"}})])
    assert [(split.version, split.share) for split in unknown] == [("1", 10_000)]


@pytest.mark.parametrize(
    ("given", "state"),
    [
        (beat(), "live"),
        (beat(age=11), "gone"),
        (beat(draining=True), "draining"),
        (beat(snapshot=1), "behind"),
        (beat(snapshot=1, refused=2, error="no memory"), "refused"),
        (beat(snapshot=2, refused=1), "live"),
    ],
)
def test_an_instance_stands_as_its_newest_beat_says(given: Beat, state: str) -> None:
    assert [one.state for one in health_of([given], 2, NOW, 10.0)] == [state]


def test_health_never_lies() -> None:
    """Lightning-AI/LitServe#663: healthy means that every live instance serves it with the newest snapshot."""

    def of(*beats: Beat) -> tuple[int, str]:
        count, health, why = judge("iris", health_of(beats, 2, NOW, 10.0))
        assert bool(why) == (health != "healthy")
        return count, health

    assert of(beat("a"), beat("b")) == (2, "healthy")
    assert of(beat("a"), beat("b", snapshot=1)) == (2, "degraded")
    assert of(beat("a"), beat("b", models={})) == (1, "degraded")
    assert of(beat("a"), beat("b", snapshot=1, refused=2, error="no memory")) == (2, "degraded")
    assert of(beat("a", age=60)) == (0, "down")
    assert of() == (0, "down")


def test_a_look_is_made_once_a_second_and_sees_the_store(tmp_path: Path) -> None:
    clock = ManualClock(NOW)
    store = sqlite_store(tmp_path, clock)
    plan = EndpointPlan("iris", (Variant("baseline", ref("3")), Variant("candidate", ref("4"), 500)))
    with store.begin() as unit:
        unit.snapshots.publish(RoutingSnapshot(0, {"iris": plan}, "iris"), reason="", author="", release="", at=NOW)
        unit.instances.beat(beat())
        unit.windows.add([window(start=NOW - LAG - 1)])
    figures = Figures(store, Settings(), clock)
    first = figures.look()
    [iris] = first.endpoints
    assert (iris.name, iris.is_default, iris.health, iris.instances) == ("iris", True, "healthy", 1)
    assert iris.total.requests == 10
    assert iris.candidate is not None
    assert iris.candidate.version == "4"
    with store.begin() as unit:
        unit.windows.add([window(start=NOW - LAG - 1, sequence=2)])
    assert figures.look() is first
    figures.forget()
    assert figures.look() is not first
    clock.advance(1.0)
    found = figures.look().endpoint("iris")
    assert found is not None
    assert found.total.requests == 20
    assert figures.look().endpoint("other") is None
    store.close()
