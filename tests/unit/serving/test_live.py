"""Swapping what is served: all or nothing, nothing loaded twice, nothing closed too early."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Mapping
from time import perf_counter

import msgspec
import pytest

from tests.unit.serving.plane import SIGNATURE, Gate, Plane, column, failing, loaded, serving, times, until, version_of
from tidegate.errors import ModelError, ModelFailed, NotFound, NotReady
from tidegate.metrics import Metrics
from tidegate.serving.live import Live
from tidegate.serving.runtimes.base import LoadedModel
from tidegate.settings import Batching, Cache, EndpointSettings, VariantSettings
from tidegate.telemetry import MODEL_LOAD_SECONDS, MODEL_MEMORY_BYTES, RELEASE_SHARE, REQUESTS, SNAPSHOT_NUMBER
from tidegate.testing.predictor import FunctionRuntime
from tidegate.types import EndpointPlan, ModelRef, RoutingSnapshot, Signature, Tensors, TensorSpec, Variant

pytestmark = pytest.mark.usefixtures("unblocked")


class Closing(FunctionRuntime):
    """Tells when it was closed, and refuses to answer after that."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__(SIGNATURE, self.run)
        self.closed = 0
        self.calls = 0
        self._factor = factor

    def run(self, inputs: Tensors) -> Tensors:
        self.calls += 1
        assert not self.closed, "asked after it was closed"
        return times(self._factor)(inputs)

    def close(self) -> None:
        self.closed += 1


def closing(factor: float = 1.0) -> tuple[LoadedModel, Closing]:
    runtime = Closing(factor)
    return LoadedModel(runtime, loaded(times(1)).facts), runtime


async def test_before_the_first_snapshot_nothing_is_ready() -> None:
    live = Live(lambda variant, settings: loaded(times(1)), Metrics())
    assert live.not_ready() == ["no snapshot in force yet"]
    with pytest.raises(NotReady):
        live.endpoint("e")


async def test_endpoints_by_name_and_by_default() -> None:
    async with serving({"baseline": times(1)}) as plane:
        assert plane.live.endpoint("").name == plane.live.endpoint("e").name == "e"
        with pytest.raises(NotFound, match=r"no endpoint 'x+'; served: e") as refused:
            plane.live.endpoint("x" * 5000)
        assert len(str(refused.value)) < 200
        await plane.live.apply(RoutingSnapshot(2, {}), {})
        with pytest.raises(NotFound, match="no default endpoint; served: none"):
            plane.live.endpoint("")


async def test_a_failed_load_keeps_the_old_and_closes_the_new() -> None:
    fresh, runtime = closing()
    async with serving({"baseline": times(1), "canary": times(2)}, shares={"canary": 50}) as plane:
        before = plane.live.endpoints
        plane.models |= {"fresh": fresh}
        with pytest.raises(KeyError):  # the canary's model cannot be found
            await plane.apply(2, shares={"canary": 50}, versions={"baseline": "fresh", "canary": "missing"})
        assert plane.live.endpoints is before
        assert plane.live.snapshot.number == 1
        assert plane.live.last_error == "KeyError"
        assert await plane.ask(3, forced="baseline") == [3]
        await until(lambda: runtime.closed == 1)
        await plane.apply(3, shares={"canary": 50})
        assert plane.live.last_error == ""


def only(name: str, number: int = 2) -> tuple[RoutingSnapshot, dict[str, EndpointSettings]]:
    """One endpoint with one model, which the plane has under this name."""
    plan = EndpointPlan("e", (Variant("baseline", ModelRef(name, "e", name, f"sha256:{name}")),))
    return RoutingSnapshot(number, {"e": plan}, "e"), {"e": EndpointSettings(model="baseline")}


async def test_what_is_prepared_takes_no_traffic_until_it_is_committed_in_one_step() -> None:
    old, retired = closing(1)
    fresh, runtime = closing(2)
    async with serving({"baseline": old, "fresh": fresh}) as plane:
        before, calls = plane.live.endpoints, runtime.calls
        prepared = await plane.live.prepare(*only("fresh"))
        assert plane.live.endpoints is before
        assert plane.live.snapshot.number == 1
        assert await plane.ask(3) == [3]
        assert runtime.calls == calls
        plane.live.commit(prepared)
        assert plane.live.snapshot.number == 2
        assert plane.live.endpoints is prepared.endpoints
        assert await plane.ask(3) == [6]
        await until(lambda: retired.closed == 1)
        assert plane.loads == ["baseline", "baseline"]
        with pytest.raises(ValueError, match="snapshot 2 is not prepared"):
            plane.live.commit(prepared)


async def test_what_is_discarded_is_closed_and_what_is_in_force_is_not() -> None:
    old, kept = closing(1)
    fresh, runtime = closing(2)
    async with serving({"baseline": old, "fresh": fresh}) as plane:
        prepared = await plane.live.prepare(*only("fresh"))
        plane.live.discard(prepared)
        plane.live.discard(prepared)
        await until(lambda: runtime.closed == 1)
        assert (plane.live.snapshot.number, kept.closed) == (1, 0)
        assert await plane.ask(3) == [3]
        with pytest.raises(ValueError, match="not prepared"):
            plane.live.commit(prepared)
        same = await plane.live.prepare(*only("baseline", 3))  # shares its model with what is in force
        plane.live.discard(same)
        assert await plane.ask(3) == [3]
    assert (runtime.closed, kept.closed) == (1, 1)


async def test_a_newer_preparation_takes_the_place_of_the_one_before() -> None:
    (first, forgotten), (second, runtime) = closing(2), closing(5)
    async with serving({"baseline": times(1), "first": first, "second": second}) as plane:
        early = await plane.live.prepare(*only("first", 2))
        late = await plane.live.prepare(*only("second", 3))
        await until(lambda: forgotten.closed == 1)
        with pytest.raises(ValueError, match="snapshot 2 is not prepared"):
            plane.live.commit(early)
        plane.live.discard(early)
        plane.live.commit(late)
        assert await plane.ask(3) == [15]
        assert runtime.closed == 0


async def test_what_was_prepared_is_closed_at_the_end() -> None:
    fresh, runtime = closing()
    async with serving({"baseline": times(1), "fresh": fresh}) as plane:
        await plane.live.prepare(*only("fresh"))
    assert runtime.closed == 1


async def test_figures_of_what_is_no_longer_served_go() -> None:
    metrics = Metrics()
    facts = msgspec.structs.replace(loaded(times(1)).facts, memory_bytes=500)
    live = Live(lambda variant, settings: LoadedModel(FunctionRuntime(SIGNATURE, times(1)), facts), metrics)
    plan = EndpointPlan(
        "e", (Variant("baseline", ModelRef("a")), Variant("canary", ModelRef("b", version="2"), share=2500))
    )
    await live.apply(
        RoutingSnapshot(1, {"e": plan}),
        {"e": EndpointSettings(model="a", variants={"canary": VariantSettings(model="b")})},
    )
    share, memory = metrics.gauge(RELEASE_SHARE, "e"), metrics.gauge(MODEL_MEMORY_BYTES, "e", "2")
    assert (share.value, memory.value) == (0.25, 500)
    assert any("2" in key for key in metrics.read())
    await live.apply(RoutingSnapshot(2, {}), {})
    await until(lambda: not any("2" in key for key in metrics.read()))
    assert share.value == 0


async def test_unchanged_versions_are_not_loaded_again() -> None:
    async with serving({"baseline": times(1), "canary": times(2)}, shares={"canary": 1}) as plane:
        versions = plane.live.endpoint("e").versions
        await plane.apply(2, shares={"canary": 50})  # a release's step must not reload the candidate
        assert plane.live.endpoint("e").versions == versions
        await plane.apply(3, shares={"canary": 50}, cache=Cache())
        assert plane.loads == ["baseline", "canary"]
        await plane.apply(4, shares={"canary": 50}, batching=Batching(max_rows=7))
        assert plane.loads == ["baseline", "canary"] * 2
        await plane.apply(5, shares={"canary": 50}, timeouts={"canary": 9}, batching=Batching(max_rows=7))
        assert plane.loads == ["baseline", "canary"] * 2  # how long it is waited for is not the model's business
        assert plane.live.endpoint("e").versions["canary"].timeout == 0.009


async def test_a_retired_version_is_closed_after_its_last_request() -> None:
    gate = Gate(5)
    async with serving({"baseline": gate}) as plane:
        running = asyncio.ensure_future(plane.ask(1))
        await gate.entered()
        old = plane.live.endpoint("e").baseline
        plane.models["newer"] = times(7)
        await plane.apply(2, versions={"baseline": "newer"})
        assert await plane.ask(1) == [7]
        assert old.busy
        gate.open()
        assert await running == [5]


async def test_a_call_that_was_made_before_a_swap_can_still_fall_back() -> None:
    """The candidate holds the call while its baseline is replaced: the old baseline must be there to answer."""
    gate = Gate()
    old, runtime = closing(4)
    async with serving({"baseline": old, "canary": gate}, shares={"canary": 100}, timeouts={"canary": 200}) as plane:
        running = asyncio.ensure_future(plane.ask(1))
        await gate.entered()
        plane.models["newer"] = times(7)
        await plane.apply(2, shares={"canary": 100}, timeouts={"canary": 200}, versions={"baseline": "newer"})
        assert await running == [4]
        await until(lambda: runtime.closed == 1)
        gate.open()


async def test_many_swaps_under_load_lose_nothing() -> None:
    runtimes = []
    async with serving({"baseline": times(0)}, cache=Cache()) as plane:
        stop = False
        answers: list[list[float]] = []

        async def ask(number: int) -> None:
            while not stop:
                units = ("a", "b") if number % 2 else ()
                answers.append(await plane.ask(1, 2, units=units))
                await asyncio.sleep(0)

        asking = [asyncio.ensure_future(ask(number)) for number in range(4)]
        for number in range(2, 42):
            model, runtime = closing(number)
            runtimes.append(runtime)
            plane.models[f"m{number}"] = model
            await plane.apply(number, versions={"baseline": f"m{number}"}, cache=Cache() if number % 3 else None)
        stop = True
        await asyncio.gather(*asking)
        await until(lambda: all(runtime.closed == 1 for runtime in runtimes[:-1]))
        assert not runtimes[-1].closed
        assert len(answers) > 40
        assert all(second == 2 * first for first, second in answers)


async def test_variants_must_take_the_baselines_inputs() -> None:
    wide = Signature((TensorSpec("x", "FP64", (-1, 3)),), SIGNATURE.outputs)
    other = loaded(times(1), signature=wide)
    async with serving({"baseline": times(1), "canary": other}) as plane:
        with pytest.raises(ModelError, match=r"variant 'canary' takes other inputs .*x\[-1, 3\] instead of x\[-1\]"):
            await plane.apply(2, shares={"canary": 1})
        assert plane.live.snapshot.number == 1


async def test_the_snapshot_in_force_is_shown_in_the_metrics() -> None:
    async with serving({"baseline": times(1), "canary": times(1)}, shares={"canary": 25}, number=7) as plane:
        read = plane.metrics.read()
        assert read[SNAPSHOT_NUMBER.name,] == [7]
        assert read[RELEASE_SHARE.name, "e"] == [0.25]
        assert (MODEL_LOAD_SECONDS.name, "e", "canary") in read


async def test_draining_is_not_ready_but_still_answers() -> None:
    async with serving({"baseline": times(1)}) as plane:
        plane.live.draining = True
        assert await plane.live.probe() == ["draining"]
        assert await plane.ask(1) == [1]


async def test_readiness_tries_a_baseline_that_failed_again_and_again() -> None:
    """Lightning-AI/LitServe#663, #660, #347: health said yes while the model did not answer."""
    broken = True

    def sometimes(inputs: Tensors) -> Tensors:
        return failing(inputs) if broken else times(1)(inputs)

    async with serving({"baseline": sometimes}) as plane:
        for _ in range(5):
            assert await plane.live.probe() == []
            with pytest.raises(ModelFailed):
                await plane.ask(1)
        for _ in range(3):
            assert await plane.live.probe() == ["e: the model does not answer (ValueError)"]
        broken = False
        assert await plane.live.probe() == []
        assert not plane.live.endpoint("e").baseline.breaker.tripped


async def test_a_probe_of_a_model_that_hangs_ends_in_time() -> None:
    gate = Gate()
    async with serving({"baseline": gate}) as plane:
        for _ in range(5):
            with contextlib.suppress(Exception):
                await plane.ask(1, seconds=0.005)
        began = perf_counter()
        assert await plane.live.probe(0.02) == ["e: the model does not answer (DeadlineExceeded)"]
        assert perf_counter() - began < 10  # the model itself never ends
        gate.open()


async def test_statistics_are_sums_over_the_requests() -> None:
    async with serving({"baseline": times(1), "canary": failing}, shares={"canary": 50}, shadows=()) as plane:
        for _ in range(4):
            await plane.ask(1, 2, forced="baseline")
        await plane.ask(1, forced="canary")
        statistics = plane.live.statistics("e")
        baseline = statistics["baseline"]
        assert baseline["success"] == 5
        assert baseline["fail"] == 0
        assert baseline["executions"] == 5
        assert baseline["rows"] == 9
        assert 0 < baseline["p50_ms"] <= baseline["p99_ms"]
        assert baseline["run_seconds"] > 0
        assert statistics["canary"]["fail"] == 1
        assert statistics["canary"]["success"] == 0
        with pytest.raises(NotFound):
            plane.live.statistics("other")


async def test_loading_and_unloading_is_asked_of_the_owner() -> None:
    asked: list[tuple[str, str]] = []

    async def operate(operation: str, name: str) -> None:
        asked.append((operation, name))

    plane = Plane({"baseline": times(1)})
    live = Live(plane._load, plane.metrics, operate)
    plane.live = live
    await plane.apply()
    await live.load_endpoint("other")
    await live.unload_endpoint("e")
    with pytest.raises(NotFound):
        await live.unload_endpoint("other")
    assert asked == [("load", "other"), ("unload", "e")]
    await live.close()


async def test_without_an_owner_nothing_can_be_loaded() -> None:
    async with serving({"baseline": times(1)}) as plane:
        with pytest.raises(NotReady, match="without the means"):
            await plane.live.load_endpoint("e")


async def test_the_cache_survives_a_swap_that_does_not_concern_it() -> None:
    async with serving({"baseline": times(1), "canary": times(1)}, cache=Cache()) as plane:
        cache = plane.live.endpoint("e").cache
        await plane.apply(2, shares={"canary": 1}, cache=Cache())
        assert plane.live.endpoint("e").cache is cache
        await plane.apply(3, shares={"canary": 1}, cache=Cache(ttl_seconds=5))
        assert plane.live.endpoint("e").cache is not cache


async def test_a_version_gives_back_its_permits_whatever_happens() -> None:
    version = version_of(loaded(failing), max_rows=4, max_queue_rows=8)
    for seconds in (10.0, -1.0):
        with pytest.raises(Exception, match=r"fails|deadline"):
            await version.run(column(1), 1, perf_counter() + seconds, 1, None)
    task = asyncio.ensure_future(version.run(column(1), 1, perf_counter() + 10, 1, None))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert version.limit.in_flight == 0
    await until(lambda: not version.busy)
    await version.close()


async def test_an_operator_reads_why_a_load_failed() -> None:
    """Not the words for a prediction that failed: whoever may load may know what is wrong with the model."""
    async with serving({"baseline": times(1)}) as plane:

        async def operate(operation: str, name: str) -> None:
            raise ModelError("m.onnx: no such file or folder")

        live = Live(plane._load, plane.metrics, operate)
        with pytest.raises(NotReady, match=r"load of 'e' failed, what was in force stays: m\.onnx: no such file"):
            await live.load_endpoint("e")


def named(number: int, shares: Mapping[str, int], **models: str) -> tuple[RoutingSnapshot, dict[str, EndpointSettings]]:
    """One endpoint: which model each variant has, in order, and its share in basis points."""
    variants = tuple(
        Variant(name, ModelRef(model, "e", model, f"sha256:{model}"), share=shares.get(name, 0))
        for name, model in models.items()
    )
    return RoutingSnapshot(number, {"e": EndpointPlan("e", variants)}, "e"), {"e": EndpointSettings(model="m")}


async def test_a_release_and_its_rollback_load_each_model_once() -> None:
    """argoproj/argo-rollouts#574, #2939: the way back is one publication, from any state, with nothing to wait for."""
    async with serving({"baseline": times(1), "new": times(2)}) as plane:
        live = plane.live
        await live.apply(*named(2, {}, baseline="baseline", candidate="new"))
        assert plane.loads == ["baseline", "candidate"]
        assert await plane.ask(3, forced="candidate") == [6]
        old = live.endpoint("e").baseline
        for number, share in ((3, 100), (4, 5000), (5, 10_000)):
            await live.apply(*named(number, {"candidate": share}, baseline="baseline", candidate="new"))
        await live.apply(*named(6, {}, baseline="new", previous="baseline"))
        endpoint = live.endpoint("e")
        assert await plane.ask(3) == [6]
        assert await plane.ask(3, forced="previous") == [3]
        assert endpoint.versions["previous"].batcher is old.batcher
        assert endpoint.versions["previous"].variant == "previous"
        await live.apply(*named(7, {}, baseline="baseline"))
        assert await plane.ask(3) == [3]
        assert live.endpoint("e").baseline is old
        assert plane.loads == ["baseline", "candidate"]
        assert plane.count(REQUESTS, "e", "baseline") == 2  # by the name that each had when it answered
        assert plane.count(REQUESTS, "e", "candidate") == plane.count(REQUESTS, "e", "previous") == 1


async def test_an_address_that_is_pinned_later_is_the_model_that_is_there() -> None:
    """The configuration names a version of a registry; the control plane publishes it with its digest."""
    async with serving({"baseline": loaded(times(1), digest="sha256:found")}) as plane:
        for number, digest in ((2, ""), (3, "sha256:found"), (4, "sha256:other")):
            plan = EndpointPlan("e", (Variant("baseline", ModelRef("baseline", "e", "1", digest)),))
            await plane.live.apply(RoutingSnapshot(number, {"e": plan}, "e"), {"e": EndpointSettings(model="m")})
        assert plane.loads == ["baseline"] * 3  # the first is the plane's own, under another version


async def test_two_variants_of_one_model_have_a_version_each() -> None:
    """So that an A/A experiment has two queues, two breakers and two sets of figures."""
    async with serving({"baseline": times(1)}) as plane:
        await plane.live.apply(*named(2, {"candidate": 5000}, baseline="baseline", candidate="baseline"))
        versions = plane.live.endpoint("e").versions
        assert versions["baseline"].breaker is not versions["candidate"].breaker
        await plane.live.apply(*named(3, {"candidate": 1}, baseline="baseline", candidate="baseline"))
        assert plane.live.endpoint("e").versions == versions
        assert plane.loads == ["baseline", "candidate"]


class Held:
    """A loader that is held while it loads some models, and tells which it began."""

    def __init__(self, *models: str) -> None:
        self.began: list[str] = []
        self.closed: list[Closing] = []
        self._held = models
        self._go = threading.Event()

    def __call__(self, variant: Variant, settings: EndpointSettings) -> LoadedModel:
        self.began.append(variant.model.uri)
        if variant.model.uri in self._held:
            assert self._go.wait(20), "nobody let it go"
        model, runtime = closing(2.0)
        self.closed.append(runtime)
        return model

    def let_go(self) -> None:
        self._go.set()


async def test_a_rollback_does_not_wait_for_the_candidate_that_it_removes() -> None:
    loader = Held("slow")
    live = Live(loader, Metrics())
    await live.apply(*named(2, {}, baseline="old"))
    preparing = asyncio.ensure_future(live.prepare(*named(3, {}, baseline="old", candidate="slow")))
    await until(lambda: "slow" in loader.began)
    await live.apply(*named(4, {}, baseline="old"))
    assert live.snapshot.number == 4
    loader.let_go()
    with pytest.raises(ModelError, match="snapshot 3 was overtaken"):
        await preparing
    await until(lambda: len(loader.closed) == 2 and loader.closed[1].closed == 1)  # nobody wants it any more
    assert loader.closed[0].closed == 0
    await live.close()


async def test_a_load_that_a_newer_snapshot_needs_too_goes_on() -> None:
    loader = Held("slow")
    live = Live(loader, Metrics())
    await live.apply(*named(2, {}, baseline="old"))
    first = asyncio.ensure_future(live.prepare(*named(3, {}, baseline="old", candidate="slow")))
    await until(lambda: "slow" in loader.began)
    first.cancel()
    second = asyncio.ensure_future(live.apply(*named(4, {"candidate": 100}, baseline="old", candidate="slow")))
    await asyncio.sleep(0)
    loader.let_go()
    await second
    assert loader.began == ["old", "slow"]
    assert [runtime.closed for runtime in loader.closed] == [0, 0]
    assert live.snapshot.number == 4
    await live.close()


async def test_what_a_cancelled_preparation_was_loading_is_closed() -> None:
    loader = Held("slow")
    live = Live(loader, Metrics())
    await live.apply(*named(2, {}, baseline="old"))
    first = asyncio.ensure_future(live.prepare(*named(3, {}, baseline="old", candidate="slow")))
    await until(lambda: "slow" in loader.began)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    loader.let_go()
    await until(lambda: len(loader.closed) == 2 and loader.closed[1].closed == 1)
    await live.close()
