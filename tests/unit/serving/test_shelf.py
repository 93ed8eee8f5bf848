"""What counts as the same loaded model, and who may use it."""

from __future__ import annotations

import pytest

from tests.unit.serving.plane import loaded, times
from tidegate.metrics import Metrics
from tidegate.serving.runtimes.base import LoadedModel
from tidegate.serving.shelf import Shelf, Wanted, isolation_of, patience_of, wanted_of
from tidegate.serving.version import Version
from tidegate.settings import Batching, EndpointSettings, Slo, VariantSettings
from tidegate.types import ModelRef, Variant

pytestmark = pytest.mark.usefixtures("unblocked")

SETTINGS = EndpointSettings(model="m")
REF = ModelRef("models/3.onnx", "iris", "3", "sha256:3")


async def version(variant: Variant, settings: EndpointSettings = SETTINGS, *, apart: bool = False) -> Version:
    import asyncio

    model = loaded(times(1))
    model = LoadedModel(model.runtime, model.facts, apart)
    return Version("e", variant, model, settings, Metrics(), asyncio.get_running_loop())


def wanted(name: str, ref: ModelRef = REF, settings: EndpointSettings = SETTINGS) -> Wanted:
    return wanted_of("e", Variant(name, ref), settings)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(wanted("candidate"), id="another name"),
        pytest.param(wanted("previous", ModelRef("elsewhere/3.onnx", "x", "3", "sha256:3")), id="another place"),
        pytest.param(wanted("baseline", REF, EndpointSettings(model="m", timeout_ms=7)), id="another time-out"),
        pytest.param(wanted("baseline", REF, EndpointSettings(model="other", max_rows=7)), id="another limit of rows"),
    ],
)
def test_the_same_bytes_are_the_same_model(other: Wanted) -> None:
    assert wanted("baseline").key == other.key


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(wanted("baseline", ModelRef("models/3.onnx", "iris", "3", "sha256:4")), id="digest"),
        pytest.param(
            wanted("baseline", ModelRef("models/3.onnx", "iris", "4", "sha256:3")), id="version that is shown"
        ),
        pytest.param(wanted("baseline", ModelRef("m", "iris", "3", "sha256:3", "pyfunc")), id="runtime"),
        pytest.param(wanted("baseline", ModelRef("m", "iris", "3", "sha256:3", "auto", {"a": 1})), id="options"),
        pytest.param(
            wanted("baseline", REF, EndpointSettings(model="m", batching=Batching(max_rows=7))), id="batching"
        ),
        pytest.param(wanted("baseline", REF, EndpointSettings(model="m", slo=Slo(p99_ms=7))), id="objective"),
        pytest.param(wanted_of("other", Variant("baseline", REF), SETTINGS), id="endpoint"),
    ],
)
def test_what_makes_another_model(other: Wanted) -> None:
    assert wanted("baseline").key != other.key


def test_without_a_digest_the_place_is_the_identity() -> None:
    one, other = ModelRef("models:/iris/3", "iris", "3"), ModelRef("models:/wine/3", "iris", "3")
    assert wanted("baseline", one).key == wanted("candidate", one).key != wanted("baseline", other).key


def test_a_baseline_belongs_into_this_process_and_a_candidate_may_be_anywhere() -> None:
    declared = EndpointSettings(model="m", isolate="process", variants={"b": VariantSettings(model="m", isolate="no")})
    assert [isolation_of(name, SETTINGS) for name in ("baseline", "candidate")] == ["no", "auto"]
    assert [isolation_of(name, declared) for name in ("baseline", "candidate", "b")] == ["process", "process", "no"]
    patient = EndpointSettings(model="m", timeout_ms=4000, variants={"b": VariantSettings(model="m", timeout_ms=50)})
    assert [patience_of(name, patient) for name in ("baseline", "b")] == [4.0, 0.05]


async def test_one_in_this_process_serves_every_variant_and_an_isolated_one_no_baseline() -> None:
    shelf = Shelf()
    apart = await version(Variant("candidate", REF), apart=True)
    shelf.add(apart, wanted("candidate"))
    shelf.keep()
    assert shelf.find(wanted("baseline"), (), None) is None
    assert shelf.find(wanted("candidate"), (), None) is shelf.find(wanted("previous"), (), None) is apart
    here = await version(Variant("baseline", REF))
    shelf.add(here, wanted("baseline"))
    shelf.keep()
    assert shelf.find(wanted("baseline"), (), None) is here
    assert shelf.find(wanted("previous"), (apart,), None) is here
    assert shelf.find(wanted("candidate"), (), here.under("candidate", 0.0)) is here
    strict = EndpointSettings(model="m", isolate="process")
    assert shelf.find(wanted("baseline", REF, strict), (), None) is apart
    hasty = EndpointSettings(model="m", isolate="process", timeout_ms=1)
    assert shelf.find(wanted("candidate", REF, hasty), (), None) is None  # its time for an answer is fixed at its start


async def test_where_it_could_not_be_isolated_it_is_not_loaded_again_and_again() -> None:
    shelf = Shelf()
    strict = EndpointSettings(model="m", isolate="process")
    here = await version(Variant("candidate", REF), strict)
    shelf.add(here, wanted("candidate", REF, strict))
    assert shelf.find(wanted("candidate", REF, strict), (), None) is here


async def test_fresh_ones_are_found_kept_or_handed_over() -> None:
    shelf = Shelf()
    one, other = await version(Variant("baseline", REF)), await version(Variant("candidate", REF))
    shelf.add(one, wanted("baseline"))
    shelf.add(other, wanted("candidate"))
    assert list(shelf) == []
    assert shelf.take_fresh(but=[one]) == [other]
    shelf.keep()
    assert (list(shelf), shelf.take_fresh()) == ([one], [])
    shelf.remove(one)
    assert shelf.find(wanted("baseline"), (), None) is None


async def test_a_version_under_another_name_shares_all_but_the_name() -> None:
    one = await version(Variant("candidate", REF))
    other = one.under("baseline", 0.5)
    assert (other.variant, other.timeout, one.variant) == ("baseline", 0.5, "candidate")
    assert other.batcher is one.batcher
    assert other.breaker is one.breaker
    assert other.limit is one.limit
    assert other.under("candidate", 0.0) is one
    assert one.under("baseline", 0.5) is other
    assert other.origin is one
