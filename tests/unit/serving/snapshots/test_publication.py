"""Published plans over configured ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.errors import ModelError
from tidegate.serving.snapshots.publication import Publication, followed, overlay, warm_part
from tidegate.settings import EndpointSettings, Settings
from tidegate.types import EndpointPlan, ModelRef, Variant

SETTINGS = Settings(endpoints={"iris": EndpointSettings(model="fake:"), "churn": EndpointSettings(model="fake:")})


def plan(name: str, *variants: tuple[str, str, int]) -> EndpointPlan:
    """Variants as name, model and share."""
    return EndpointPlan(name, tuple(Variant(v, ModelRef(model, name, model), share) for v, model, share in variants))


def published(number: int, *plans: EndpointPlan) -> Publication:
    return Publication(number, {plan.name: plan for plan in plans}, published=float(number))


def test_what_is_published_goes_over_what_is_configured(caplog: pytest.LogCaptureFixture) -> None:
    """SeldonIO/seldon-core#5181: what is published is what is served."""
    theirs = published(7, plan("iris", ("baseline", "fake:b", 0)), plan("other", ("baseline", "fake:o", 0)))
    plans = followed(theirs, SETTINGS, Path("/base"))
    assert list(plans) == ["iris"]
    assert "not in this configuration, and left out: other" in caplog.text
    own = plan("churn", ("baseline", "fake:c", 0))
    snapshot = overlay(7, {"churn": own, **plans}, "churn", SETTINGS)
    assert (snapshot.number, snapshot.default_endpoint) == (7, "churn")
    assert list(snapshot.endpoints) == ["iris", "churn"]  # in the order of the configuration
    assert snapshot.endpoints["iris"].baseline.model.uri == "fake:b"


def test_what_an_operator_unloaded_stays_unloaded() -> None:
    theirs = published(7, plan("iris", ("baseline", "fake:b", 0)))
    assert followed(theirs, SETTINGS, Path("/base"), {"iris"}) == {}


def test_relative_paths_start_from_the_configurations_folder() -> None:
    theirs = published(7, plan("iris", ("baseline", "models/3.onnx", 0), ("candidate", "/abs/4.onnx", 0)))
    found = followed(theirs, SETTINGS, Path("/base"))["iris"]
    assert [variant.model.uri for variant in found.variants] == ["/base/models/3.onnx", "/abs/4.onnx"]


@pytest.mark.parametrize(
    ("variants", "reason"),
    [
        ((), "it has no variant"),
        ((("a", "m", 0), ("a", "n", 0)), "two variants have the same name: a, a"),
        ((("a", "m", 0), ("b", "n", 6000), ("c", "o", 4001)), "the shares are not within 0 and 10000"),
        ((("a", "m", 0), ("b", "n", -1)), "the shares are not within"),
    ],
)
def test_a_plan_that_cannot_be_served_says_why(variants: tuple[tuple[str, str, int], ...], reason: str) -> None:
    with pytest.raises(ModelError, match=f"snapshot 7, endpoint 'iris': {reason}"):
        followed(published(7, plan("iris", *variants)), SETTINGS, Path("/base"))


IRIS = plan("iris", ("baseline", "i1", 0), ("candidate", "i2", 500))
IRIS_BACK = plan("iris", ("baseline", "i1", 0))
CHURN = plan("churn", ("baseline", "c1", 0))
CHURN_NEXT = plan("churn", ("baseline", "c1", 0), ("candidate", "c2", 0))


def test_a_rollback_does_not_wait_for_the_candidate_of_another_endpoint() -> None:
    part = warm_part(published(7, IRIS, CHURN), published(9, IRIS_BACK, CHURN_NEXT))
    assert part is not None
    assert part.number == 7  # nobody is told that 9 is in force
    assert part.endpoints == {"iris": IRIS_BACK, "churn": CHURN}


@pytest.mark.parametrize(
    ("now", "newest"),
    [
        pytest.param(None, published(9, IRIS), id="nothing was published before"),
        pytest.param(published(7, IRIS, CHURN), published(9, IRIS_BACK, CHURN), id="all of it is warm"),
        pytest.param(published(7, IRIS_BACK, CHURN), published(9, IRIS_BACK, CHURN_NEXT), id="nothing of it is warm"),
        pytest.param(published(7, CHURN), published(9, IRIS, CHURN), id="an endpoint is new"),
    ],
)
def test_otherwise_a_snapshot_comes_as_a_whole(now: Publication | None, newest: Publication) -> None:
    assert warm_part(now, newest) is None
