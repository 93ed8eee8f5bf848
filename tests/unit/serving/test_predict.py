"""The story of a request on a real data plane: routing, fallback, cache, units, counts."""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter

import numpy as np
import pytest

from tests.unit.serving.plane import Gate, Plane, column, failing, serving, times
from tidegate.errors import CallerGone, DeadlineExceeded, InvalidInput, ModelFailed, NotFound, Overloaded, QueueFull
from tidegate.settings import Batching, Cache
from tidegate.telemetry import CACHE, FALLBACKS, REJECTED, REQUEST_SECONDS, REQUESTS
from tidegate.types import Tensors

pytestmark = pytest.mark.usefixtures("unblocked")

BOTH = {"baseline": times(1), "canary": times(-1)}


def nan(inputs: Tensors) -> Tensors:
    return {"predictions": inputs["x"] * np.nan}


def short(inputs: Tensors) -> Tensors:
    return {"predictions": inputs["x"][1:]}


def sticky(plane: Plane, variant: str) -> str:
    """A unit that belongs to the variant."""
    router = plane.live.endpoint("e").router
    return next(u for u in map(str, range(10_000)) if router.choose(u, "", "", lambda: 0.0).variant.name == variant)


async def test_the_baseline_answers_and_is_counted_once() -> None:
    async with serving({"baseline": times(2)}) as plane:
        prediction = await plane.predictor.predict(plane.call(1, 2, 3))
        assert list(prediction.outputs["predictions"]) == [2, 4, 6]
        assert (prediction.variant, prediction.version, prediction.forced) == ("baseline", "baseline", False)
        assert prediction.timing.batch_rows == 3
        assert plane.counts(REQUESTS) == {("baseline", "native", "ok"): 1}
        latency = plane.metrics.read()[REQUEST_SECONDS.name, "e", "baseline"]
        assert sum(latency[:-1]) == 1


async def test_each_way_to_a_variant() -> None:
    async with serving(BOTH, shares={"canary": 50}) as plane:
        plane.draws = [0.0, 0.6]
        assert await plane.ask(1) == [-1]
        assert await plane.ask(1) == [1]
        for _ in range(3):
            assert await plane.ask(1, unit=sticky(plane, "canary")) == [-1]
            assert await plane.ask(1, unit=sticky(plane, "baseline")) == [1]
        assert await plane.ask(1, forced="canary") == [-1]
        assert await plane.ask(1, version="canary", forced="baseline") == [-1]
        forced = await plane.predictor.predict(plane.call(1, forced="canary"))
        assert forced.forced
        with pytest.raises(InvalidInput, match="baseline, canary"):
            await plane.ask(1, forced="other")
        with pytest.raises(NotFound):
            await plane.ask(1, version="7")


async def test_what_is_configured_is_what_is_served() -> None:
    """kserve/kserve#5335, #2130, SeldonIO/seldon-core#5181: the canary's share was ignored, or an old one stayed."""
    async with serving(BOTH, shares={"canary": 100}) as plane:
        assert [await plane.ask(1) for _ in range(5)] == [[-1]] * 5
        await plane.apply(2, shares={"canary": 0})
        assert [await plane.ask(1) for _ in range(5)] == [[1]] * 5
        assert plane.live.snapshot.number == 2


@pytest.mark.parametrize("broken", [failing, nan, short], ids=["raises", "nan", "wrong rows"])
async def test_a_candidates_failure_is_not_the_users(broken: Gate) -> None:
    async with serving({"baseline": times(1), "canary": broken}, shares={"canary": 100}) as plane:
        prediction = await plane.predictor.predict(plane.call(1, 2))
        assert list(prediction.outputs["predictions"]) == [1, 2]
        assert prediction.variant == "baseline"
        assert plane.counts(REQUESTS) == {("baseline", "native", "ok"): 1, ("canary", "native", "failed"): 1}
        assert plane.counts(FALLBACKS) == {("failed",): 1}
        for _ in range(20):
            assert await plane.ask(3) == [3]
        # Five failures in a row, then it is ejected, without waiting for anybody.
        assert plane.counts(REQUESTS)["canary", "native", "failed"] == 5
        assert plane.counts(FALLBACKS) == {("failed",): 5, ("breaker_open",): 16}


async def test_a_candidate_that_hangs_costs_its_timeout_only() -> None:
    gate = Gate()
    async with serving(
        {"baseline": times(1), "canary": gate}, shares={"canary": 100}, timeouts={"canary": 30}
    ) as plane:
        began = perf_counter()
        assert await plane.ask(1) == [1]
        assert perf_counter() - began < 5
        assert plane.counts(FALLBACKS) == {("timeout",): 1}
        assert plane.counts(REQUESTS)["canary", "native", "deadline"] == 1
        for _ in range(6):
            assert await plane.ask(1) == [1]
        assert plane.counts(FALLBACKS) == {("timeout",): 5, ("breaker_open",): 2}
        gate.open()


async def test_without_a_timeout_a_candidate_gets_half_of_what_is_left() -> None:
    gate = Gate()
    async with serving({"baseline": times(1), "canary": gate}, shares={"canary": 100}) as plane:
        assert await plane.ask(1, seconds=0.2) == [1]
        assert plane.counts(FALLBACKS) == {("timeout",): 1}
        gate.open()


@pytest.mark.parametrize(("usual", "ejected"), [(0.5, False), (0.0001, True)])
async def test_hasty_callers_cannot_eject_a_candidate(usual: float, ejected: bool) -> None:
    """One that gets less time than it usually takes is not to blame; one that hangs is."""
    gate = Gate()
    async with serving({"baseline": times(1), "canary": gate}, shares={"canary": 100}) as plane:
        version = plane.live.endpoint("e").versions["canary"]
        for _ in range(5):
            version.batcher.cost.observe(1, usual)
        for _ in range(6):
            assert await plane.ask(1, seconds=0.1) == [1]
        assert version.breaker.tripped is ejected
        gate.open()


async def test_a_candidate_that_is_full_hands_over_and_is_not_blamed() -> None:
    gate = Gate()
    batching = Batching(max_rows=1, max_queue_rows=1)
    async with serving({"baseline": times(1), "canary": gate}, shares={"canary": 100}, batching=batching) as plane:
        first = asyncio.ensure_future(plane.ask(1))
        await gate.entered()
        second = asyncio.ensure_future(plane.ask(2))
        await asyncio.sleep(0)
        assert [await plane.ask(3) for _ in range(8)] == [[3]] * 8
        assert plane.counts(FALLBACKS) == {("refused",): 8}
        gate.open()
        assert [await first, await second] == [[1], [2]]
        assert not plane.live.endpoint("e").versions["canary"].breaker.tripped


async def test_an_exact_version_is_not_replaced() -> None:
    async with serving({"baseline": times(1), "canary": failing}, shares={"canary": 50}) as plane:
        for _ in range(7):  # also after it would have been ejected
            with pytest.raises(ModelFailed, match="ValueError: the model fails"):
                await plane.ask(1, version="canary")
        assert plane.counts(REQUESTS) == {("canary", "native", "failed"): 7}
        assert plane.counts(FALLBACKS) == {}


async def test_a_baselines_failure_is_counted_against_the_baseline() -> None:
    async with serving({"baseline": failing, "canary": failing}, shares={"canary": 100}) as plane:
        with pytest.raises(ModelFailed):
            await plane.ask(1)
        assert plane.counts(REQUESTS) == {("baseline", "native", "failed"): 1, ("canary", "native", "failed"): 1}


async def test_a_candidates_own_callers_errors_are_theirs() -> None:
    def picky(inputs: Tensors) -> Tensors:
        raise InvalidInput("row 0: not so")

    async with serving({"baseline": times(1), "canary": picky}, shares={"canary": 100}) as plane:
        for _ in range(10):
            with pytest.raises(InvalidInput):
                await plane.ask(1)
        assert plane.counts(FALLBACKS) == {}
        assert plane.counts(REQUESTS) == {}  # counted where the bodies are read


async def test_failures_are_logged_with_their_request_and_without_inputs(caplog: pytest.LogCaptureFixture) -> None:
    async with serving({"baseline": failing}) as plane:
        with caplog.at_level(logging.ERROR), pytest.raises(ModelFailed):
            await plane.ask(12345.678)
    (record,) = [record for record in caplog.records if record.name == "tidegate.predict"]
    assert vars(record)["correlation_id"] == "id-1"
    assert vars(record)["endpoint"] == "e"
    assert record.exc_info is not None
    assert "12345" not in caplog.text


async def test_refusals_are_counted_by_reason() -> None:
    gate = Gate()
    async with serving({"baseline": gate}, batching=Batching(max_rows=1, max_queue_rows=1)) as plane:
        running = asyncio.ensure_future(plane.ask(1))
        await gate.entered()
        waiting = asyncio.ensure_future(plane.ask(2))
        await asyncio.sleep(0)
        with pytest.raises((QueueFull, Overloaded)):
            await plane.ask(3)
        with pytest.raises(DeadlineExceeded):
            await plane.ask(3, priority=0, seconds=0.01)
        with pytest.raises(QueueFull):
            await waiting  # made room for the critical one
        left = asyncio.ensure_future(plane.ask(4, gone=lambda: True))
        await asyncio.sleep(0)
        gate.open()
        with pytest.raises(CallerGone):
            await left
        assert await running == [1]
        reasons = plane.counts(REJECTED)
        assert reasons.pop(("deadline",)) == reasons.pop(("caller_gone",)) == 1
        assert sum(reasons.values()) == 2
        requests = plane.counts(REQUESTS)
        assert requests == {
            ("baseline", "native", "ok"): 1,
            ("baseline", "native", "refused"): 2,
            ("baseline", "native", "deadline"): 1,
            ("baseline", "native", "gone"): 1,
        }


async def test_critical_requests_pass_a_limit_full_of_bulk() -> None:
    gate = Gate()
    async with serving({"baseline": gate}, batching=Batching(max_rows=1, max_queue_rows=100)) as plane:
        limit = plane.live.endpoint("e").baseline.limit
        running = asyncio.ensure_future(plane.ask(0))
        await gate.entered()
        bulk = [asyncio.ensure_future(plane.ask(1, priority=2)) for _ in range(5)]
        await asyncio.sleep(0)
        limit.limit = 6.0  # as after an overload
        with pytest.raises(Overloaded):
            await plane.ask(2, priority=2)
        critical = asyncio.ensure_future(plane.ask(3, priority=0))
        with pytest.raises(QueueFull):
            await bulk[-1]
        gate.open()
        assert await critical == [3]
        await asyncio.gather(running, *bulk[:-1])
        assert gate.batches[1] == [3]
        assert limit.in_flight == 0


async def test_rows_go_where_their_units_belong_and_come_back_in_order() -> None:
    async with serving(BOTH, shares={"canary": 50}) as plane:
        baseline, canary = sticky(plane, "baseline"), sticky(plane, "canary")
        units = (canary, baseline, baseline, canary, baseline)
        prediction = await plane.predictor.predict(plane.call(1, 2, 3, 4, 5, units=units))
        assert list(prediction.outputs["predictions"]) == [-1, 2, 3, -4, 5]
        assert (prediction.variant, prediction.version) == ("mixed", "mixed")
        assert plane.counts(REQUESTS) == {("baseline", "native", "ok"): 1, ("canary", "native", "ok"): 1}
        same = await plane.predictor.predict(plane.call(1, 2, units=(canary, canary)))
        assert same.variant == "canary"


async def test_a_row_without_a_unit_does_not_move_its_neighbours() -> None:
    async with serving(BOTH, shares={"canary": 50}) as plane:
        canary = sticky(plane, "canary")
        plane.draws = [0.0, 0.99, 0.99]
        assert await plane.ask(1, 2, units=("", canary)) == [-1, -2]


async def test_one_failing_group_fails_the_request() -> None:
    async with serving({"baseline": failing, "canary": times(-1)}, shares={"canary": 50}) as plane:
        units = (sticky(plane, "canary"), sticky(plane, "baseline"))
        with pytest.raises(ModelFailed):
            await plane.ask(1, 2, units=units)


async def test_the_cache_answers_the_second_time() -> None:
    gate = Gate(3)
    async with serving({"baseline": gate}, cache=Cache()) as plane:
        gate.open()
        first, second = [await plane.predictor.predict(plane.call(1, 2)) for _ in range(2)]
        assert list(first.outputs["predictions"]) == list(second.outputs["predictions"]) == [3, 6]
        assert (first.cached, second.cached) == (False, True)
        assert second.timing.batch_rows == 0
        assert len(gate.batches) == 1
        assert plane.counts(CACHE) == {("miss",): 1, ("hit",): 1}
        assert plane.counts(REQUESTS) == {("baseline", "native", "ok"): 2}


async def test_headers_and_ids_are_not_in_the_key() -> None:
    """MLServer's data plane: key = model digest, version and inputs."""
    async with serving({"baseline": times(2)}, cache=Cache()) as plane:
        await plane.ask(1)
        for named in ({"unit": "alice"}, {"priority": 0}, {"traceparent": "x"}, {"seconds": 5.0}):
            call = plane.call(1, **named)
            call.request_id = "another"
            assert (await plane.predictor.predict(call)).cached


async def test_no_sharing_between_variants_or_versions() -> None:
    """MLServer's data plane shared cached answers between models and versions."""
    async with serving(BOTH, shares={"canary": 50}, cache=Cache()) as plane:
        assert await plane.ask(1, forced="baseline") == [1]
        assert await plane.ask(1, forced="canary") == [-1]
        plane.models["newer"] = times(5)
        await plane.apply(2, shares={"canary": 50}, versions={"baseline": "newer"}, cache=Cache())
        assert await plane.ask(1, forced="baseline") == [5]
        assert await plane.ask(1, forced="canary") == [-1]
        assert plane.counts(CACHE) == {("miss",): 3, ("hit",): 1}


async def test_equal_requests_that_come_together_run_once() -> None:
    gate = Gate(2)
    async with serving({"baseline": gate}, cache=Cache()) as plane:
        asked = [asyncio.ensure_future(plane.ask(1)) for _ in range(5)]
        await gate.entered()
        gate.open()
        assert await asyncio.gather(*asked) == [[2]] * 5
        assert gate.batches == [[1]]
        assert plane.counts(CACHE) == {("miss",): 1, ("joined",): 4}
        assert plane.counts(REQUESTS) == {("baseline", "native", "ok"): 5}


async def test_a_leader_with_a_short_deadline_fails_alone() -> None:
    gate = Gate(2)
    async with serving({"baseline": gate}, cache=Cache()) as plane:
        hasty = asyncio.ensure_future(plane.ask(1, seconds=0.02))
        await gate.entered()
        patient = asyncio.ensure_future(plane.ask(1))
        with pytest.raises(DeadlineExceeded):
            await hasty
        gate.open()
        assert await patient == [2]


async def test_a_leader_that_left_does_not_take_the_others_along() -> None:
    gate = Gate(2)
    async with serving({"baseline": gate}, cache=Cache()) as plane:
        leader = asyncio.ensure_future(plane.ask(1, gone=lambda: True))
        await asyncio.sleep(0)
        joined = asyncio.ensure_future(plane.ask(1))
        await gate.entered()
        gate.open()
        assert await joined == [2]
        await leader


async def test_a_failing_leader_fails_all_and_nothing_is_kept() -> None:
    async with serving({"baseline": failing}, cache=Cache()) as plane:
        answers = await asyncio.gather(*(plane.ask(1) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(answer, ModelFailed) for answer in answers)
        assert plane.counts(REQUESTS) == {("baseline", "native", "failed"): 3}
        with pytest.raises(ModelFailed):
            await plane.ask(1)


async def test_the_baselines_answer_is_not_kept_under_the_candidate() -> None:
    failures = [True, False]

    def recovers(inputs: Tensors) -> Tensors:
        return failing(inputs) if failures.pop(0) else times(-1)(inputs)

    async with serving({"baseline": times(1), "canary": recovers}, shares={"canary": 100}, cache=Cache()) as plane:
        assert await plane.ask(1) == [1]
        assert await plane.ask(1) == [-1]
        assert await plane.ask(1) == [-1]
        assert plane.counts(CACHE) == {("miss",): 1, ("hit",): 1}
        assert plane.counts(REQUESTS) == {
            ("canary", "native", "failed"): 1,
            ("baseline", "native", "ok"): 1,
            ("canary", "native", "ok"): 2,
        }


async def test_a_request_larger_than_a_batch_comes_back_whole() -> None:
    async with serving({"baseline": times(2)}, batching=Batching(max_rows=4)) as plane:
        values = [float(value) for value in range(50)]
        assert await plane.ask(*values) == [2 * value for value in values]
        assert plane.counts(REQUESTS) == {("baseline", "native", "ok"): 1}


async def test_counts_are_exact_under_a_mix() -> None:
    """Every request is counted once under the outcome its caller saw."""
    async with serving({"baseline": times(1), "canary": failing}, shares={"canary": 50}) as plane:
        calls = [plane.ask(float(number), unit=str(number)) for number in range(300)]
        calls += [plane.ask(1, unit="x", seconds=-1) for _ in range(20)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        ok = sum(isinstance(answer, list) for answer in answers)
        counts = plane.counts(REQUESTS)
        assert ok == 300
        assert counts["baseline", "native", "ok"] == 300
        late = sum(isinstance(answer, DeadlineExceeded) for answer in answers)
        assert late == 20 == counts["baseline", "native", "deadline"]
        assert plane.count(FALLBACKS) >= 5


async def test_inputs_of_a_call_are_not_changed() -> None:
    async with serving(BOTH, shares={"canary": 50}) as plane:
        call = plane.call(1, 2, 3, units=("a", "b", "c"))
        await plane.predictor.predict(call)
        assert list(call.inputs["x"]) == list(column(1, 2, 3)["x"])
