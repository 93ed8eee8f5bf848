"""Whose request it was, what became of it, and that it reaches the store: on a real data plane, with a store in memory."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.unit.serving.plane import Gate, Model, Plane, failing, times, until
from tidegate.clock import ManualClock
from tidegate.errors import DeadlineExceeded, InvalidInput, ModelFailed, NotReady, Overloaded, StoreAway, UserError
from tidegate.metrics import Metrics
from tidegate.observations import Feedback, VariantWindow
from tidegate.serving.events.base import Batch
from tidegate.serving.events.recorder import LONGEST_WAIT, MOST_FEEDBACK, TRIES, Recorder
from tidegate.serving.events.spool import open_spool
from tidegate.settings import Cache, Store
from tidegate.telemetry import EVENTS_DROPPED
from tidegate.testing.sink import MemorySink
from tidegate.types import Exposing, Tensors

BOTH = {"baseline": times(1), "canary": times(-1)}


class Recorded(Plane):
    """A plane whose recorder is drained by hand; ``clock`` is the recorder's."""

    def __init__(self, models: Mapping[str, Model], folder: Path, **store: Any) -> None:
        self.clock = ManualClock()
        self.sink = MemorySink()
        metrics = Metrics()
        settings = Store(url="memory", **{"event_sample": 0.0, **store})
        self.recorder = Recorder(settings, self.sink, metrics, folder, clock=self.clock, draw=lambda: 0.5)
        super().__init__(models, recorder=self.recorder, metrics=metrics)

    def drain(self, seconds: float = 1.0) -> bool:
        self.clock.advance(seconds)
        return self.recorder.drain()

    def windows(self) -> dict[str, VariantWindow]:
        """The newest of each variant."""
        assert self.drain()
        return {window.variant: window for window in self.sink.windows}

    def dropped(self) -> dict[tuple[str, ...], float]:
        read = self.metrics.read()
        return {key[1:]: cells[0] for key, cells in read.items() if key[0] == EVENTS_DROPPED.name and cells[0]}


@asynccontextmanager
async def recorded(models: Mapping[str, Model], folder: Path, **applied: Any) -> AsyncIterator[Recorded]:
    store = {name: applied.pop(name) for name in ("buffer_mb", "event_sample") if name in applied}
    plane = Recorded(models, folder, **store)
    await plane.apply(**applied)
    try:
        yield plane
    finally:
        await plane.live.close()
        plane.recorder.close(5.0)


async def test_requests_count_for_the_variant_that_was_chosen(tmp_path: Path) -> None:
    async with recorded(BOTH, tmp_path, shares={"canary": 30}, number=5) as plane:
        plane.draws = [0.1] * 3 + [0.9] * 5
        for _ in range(8):
            await plane.ask(1)
        await plane.ask(1, forced="canary")
        await plane.ask(1, unit="someone")
        found = plane.windows()
    baseline, canary = found["baseline"], found["canary"]
    assert baseline.requests + canary.requests == 9
    assert (baseline.unitless, canary.unitless) == (5, 3)
    assert (canary.forced, baseline.forced) == (1, 0)
    assert (canary.share, baseline.share, canary.snapshot, canary.version) == (3000, 7000, 5, "canary")
    assert sum(canary.latency.values()) == canary.requests
    assert canary.failures == baseline.failures == 0
    assert sum(canary.outputs.values()) == canary.requests
    assert not set(canary.outputs) & set(baseline.outputs)


async def test_an_answer_of_the_baseline_for_a_candidate_is_the_candidates(tmp_path: Path) -> None:
    """The user's answer came late and from elsewhere: both are the candidate's doing. spinnaker/kayenta#377: failures
    that nobody counted let a broken canary pass."""
    async with recorded({"baseline": times(1), "canary": failing}, tmp_path, shares={"canary": 100}) as plane:
        for _ in range(8):
            assert await plane.ask(1) == [1]
        [window] = plane.windows().values()
    assert window.variant == "canary"
    assert window.outcomes == {"failed": 5, "breaker_open": 3}
    assert (window.requests, window.failures, sum(window.latency.values())) == (8, 8, 8)
    assert window.outputs == {}


async def test_a_candidate_that_hangs_has_timed_out(tmp_path: Path) -> None:
    gate = Gate()
    async with recorded(
        {"baseline": times(1), "canary": gate}, tmp_path, shares={"canary": 100}, timeouts={"canary": 20}
    ) as plane:
        assert await plane.ask(1, unit="a") == [1]
        assert await plane.ask(1, unit="a") == [1]
        gate.open()
        [window] = plane.windows().values()
    assert (window.outcomes, window.failures) == ({"timeout": 2}, 1)
    assert min(window.latency) > 380  # 10 ms


async def test_who_allows_next_to_nothing_is_to_blame_alone(tmp_path: Path) -> None:
    """Nobody may bring a release down by asking for answers within a microsecond."""
    gate = Gate()
    async with recorded({"baseline": gate}, tmp_path) as plane:
        plane.live.endpoint("e").baseline.batcher.cost.observe(1, 5.0)
        with pytest.raises(DeadlineExceeded):
            await plane.ask(1, seconds=0.01)
        gate.open()
        [window] = plane.windows().values()
        assert (window.outcomes, window.failures) == ({"deadline": 1}, 0)
        assert sum(window.latency.values()) == 1


async def test_a_deadline_that_a_variant_let_pass_is_its_failure(tmp_path: Path) -> None:
    gate = Gate()
    async with recorded({"baseline": gate}, tmp_path, timeout_ms=30.0) as plane:
        with pytest.raises(DeadlineExceeded):
            await plane.ask(1, seconds=0.03)
        gate.open()
        [window] = plane.windows().values()
    assert (window.outcomes, window.failures) == ({"timeout": 1}, 1)


async def test_a_failed_baseline_is_counted_alike(tmp_path: Path) -> None:
    async with recorded({"baseline": failing}, tmp_path) as plane:
        for _ in range(3):
            with pytest.raises(ModelFailed):
                await plane.ask(1, unit="a")
        with pytest.raises(ModelFailed):
            await plane.ask(1)
        [window] = plane.windows().values()
    assert (window.outcomes, window.failures, window.latency) == ({"failed": 4}, 2, {})


async def test_when_both_fail_the_candidate_was_the_one_chosen(tmp_path: Path) -> None:
    async with recorded({"baseline": failing, "canary": failing}, tmp_path, shares={"canary": 100}) as plane:
        with pytest.raises(ModelFailed):
            await plane.ask(1)
        [window] = plane.windows().values()
    assert (window.variant, window.outcomes, window.latency) == ("canary", {"failed": 1}, {})


async def test_a_candidate_that_hangs_is_to_blame_for_it_when_the_baseline_fails(tmp_path: Path) -> None:
    gate = Gate()
    async with recorded(
        {"baseline": failing, "canary": gate}, tmp_path, shares={"canary": 100}, timeouts={"canary": 20}
    ) as plane:
        with pytest.raises(ModelFailed):
            await plane.ask(1)
        gate.open()
        [window] = plane.windows().values()
    assert (window.variant, window.outcomes, window.failures) == ("canary", {"timeout": 1}, 1)


async def test_who_leaves_and_what_cannot_be_meant_is_nobodys_failure(tmp_path: Path) -> None:
    def picky(inputs: Tensors) -> Tensors:
        raise InvalidInput("no")

    gate = Gate()
    async with recorded({"baseline": gate, "picky": picky}, tmp_path, shares={"picky": 50}) as plane:
        plane.draws = [0.9, 0.1]
        asking = asyncio.create_task(plane.ask(1))
        await gate.entered()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        with pytest.raises(InvalidInput):
            await plane.ask(1)
        with pytest.raises(InvalidInput):
            await plane.ask(1, forced="nobody")
        gate.open()
        [window] = plane.windows().values()
    assert (window.outcomes, window.failures) == ({"gone": 1}, 0)
    assert sum(window.latency.values()) == 1


async def test_shadows_have_windows_of_their_own(tmp_path: Path) -> None:
    async with recorded(
        {"baseline": times(1), "same": times(1), "other": failing}, tmp_path, shadows=("same", "other")
    ) as plane:
        for number in range(8):
            await plane.ask(1, unit=f"{number % 2}")
            await until(lambda: plane.live.endpoint("e").shadows_in_flight == 0)
        found = plane.windows()
    assert (found["same"].shadow, found["same"].share, found["same"].outcomes) == (True, 0, {"agree": 8})
    assert sum(found["same"].latency.values()) == sum(found["same"].outputs.values()) == 8
    assert found["other"].outcomes == {"failed": 5, "breaker_open": 3}
    assert found["other"].failures == 2
    assert found["baseline"].requests == 8


async def test_a_cached_answer_of_the_baseline_for_a_candidate_is_the_candidates(tmp_path: Path) -> None:
    gate = Gate()

    def broken(inputs: Tensors) -> Tensors:
        gate(inputs)
        raise ValueError("fails")

    async with recorded(
        {"baseline": times(1), "canary": broken}, tmp_path, shares={"canary": 100}, cache=Cache()
    ) as plane:
        asking = [asyncio.create_task(plane.ask(1)) for _ in range(3)]
        await gate.entered()
        gate.open()
        assert await asyncio.gather(*asking) == [[1]] * 3
        [window] = plane.windows().values()
    assert window.outcomes == {"failed": 3}


async def test_rows_of_several_units_count_for_each_variant(tmp_path: Path) -> None:
    async with recorded(BOTH, tmp_path, shares={"canary": 50}) as plane:
        units = tuple(f"u{number}" for number in range(20))
        answers = await plane.ask(*range(1, 21), units=units)
        found = plane.windows()
    assert {name: window.requests for name, window in found.items()} == {"baseline": 1, "canary": 1}
    assert sum(found["canary"].outputs.values()) == sum(answer < 0 for answer in answers)


async def test_a_window_never_spans_two_snapshots(tmp_path: Path) -> None:
    """Evidence is for one share: a request that began under the old snapshot stays with it, however late it ends."""
    gate = Gate()
    async with recorded({"baseline": gate, "canary": times(-1)}, tmp_path, shares={"canary": 0}, number=1) as plane:
        early = asyncio.create_task(plane.ask(1))
        await gate.entered()
        await plane.apply(2, shares={"canary": 100})
        await plane.ask(1)
        plane.drain()
        gate.open()
        await early
        del early
        plane.drain()
        found = [(w.snapshot, w.variant, w.share, w.requests) for w in plane.sink.windows]
        assert found == [(2, "canary", 10_000, 1), (1, "baseline", 10_000, 1)]
        await plane.apply(3, shares={"canary": 100})
        gc.collect()
        plane.drain()
        assert len(plane.recorder.recordings) == 1  # the others have ended


async def test_the_share_of_events_is_the_configured_one(tmp_path: Path) -> None:
    async with recorded(BOTH, tmp_path, shares={"canary": 0}, event_sample=0.25) as plane:
        for _ in range(90):
            await plane.ask(1)
        plane.drain()
        assert len(plane.sink.events) == 30  # every draw is its median: two are passed over each time


async def test_an_event_holds_the_prediction(tmp_path: Path) -> None:
    async with recorded(BOTH, tmp_path, shares={"canary": 0}, event_sample=0.0) as plane:
        await plane.apply(3, shares={"canary": 0}, event_sample=1.0)
        await plane.ask(1.5, 2, unit="müller", forced="canary")
        plane.drain()
        [event] = plane.sink.events
    assert (event.request_id, event.unit, event.variant, event.version) == ("id-1", "müller", "canary", "canary")
    assert (event.rows, event.forced, event.cached, event.snapshot) == (2, True, False, 3)
    assert msgspec.json.decode(event.inputs) == {"x": [1.5, 2.0]}
    assert msgspec.json.decode(event.outputs) == {"predictions": [-1.5, -2.0]}
    assert 0 < event.seconds < 10


class Unspeakable:
    def __str__(self) -> str:
        raise ValueError("no words")


async def test_an_event_without_a_text_is_dropped_and_keeps_nothing_else_back(tmp_path: Path) -> None:
    async with recorded(BOTH, tmp_path, shares={"canary": 0}, event_sample=1.0) as plane:
        await plane.ask(1)
        samples = plane.recorder.samples
        for odd in (np.str_("a"), np.float64(0.5), Unspeakable()):
            samples.add(msgspec.structs.replace(samples.first(1)[0], outputs={"predictions": np.array([odd], object)}))
        assert plane.drain()
        assert not samples
        found = [msgspec.json.decode(event.outputs)["predictions"] for event in plane.sink.events]
        assert found == [[1.0], ["a"], [0.5]]
        assert len(plane.sink.windows) == 1
        assert plane.dropped() == {("event", "refused"): 1.0}


async def test_what_waits_keeps_nothing_of_the_batch_that_it_was_a_part_of(tmp_path: Path) -> None:
    """Or the bound on memory would count a row and hold a batch."""
    gate = Gate()
    async with recorded({"baseline": gate}, tmp_path, event_sample=1.0) as plane:
        asking = [asyncio.create_task(plane.ask(0))]
        await gate.entered()
        asking += [asyncio.create_task(plane.ask(number)) for number in range(1, 9)]
        await asyncio.sleep(0)  # they wait together for the model
        gate.open()
        await asyncio.gather(*asking)
        assert len(gate.batches[1]) == 8
        kept = [sampled.outputs["predictions"] for sampled in plane.recorder.samples.first(9)]
    assert sorted(array.item() for array in kept) == list(range(9))
    assert all(array.base is None or array.base.nbytes == array.nbytes for array in kept)


async def test_while_the_store_is_away_answers_go_on_and_what_was_counted_waits(tmp_path: Path) -> None:
    async with recorded(BOTH, tmp_path, shares={"canary": 0}, event_sample=1.0) as plane:
        plane.sink.away = True
        for _ in range(5):
            await plane.ask(1)
            assert not plane.drain()
        assert plane.sink.windows == []
        plane.sink.away = False
        await until(lambda: plane.drain(LONGEST_WAIT))
        assert [window.sequence for window in plane.sink.windows] == [1, 2, 3, 4, 5]
        assert len(plane.sink.events) == 5
        assert plane.dropped() == {}


async def test_pauses_between_tries_grow_to_a_bound(tmp_path: Path) -> None:
    async with recorded(BOTH, tmp_path, shares={"canary": 0}) as plane:
        plane.sink.away = True
        await plane.ask(1)
        tried = []
        write = plane.sink.write

        def note(batch: Batch) -> None:
            tried.append(plane.clock.monotonic())
            write(batch)

        plane.sink.write = note  # type: ignore[method-assign]
        for _ in range(100):
            plane.drain(1.0)
        pauses = [later - earlier for earlier, later in pairwise(tried)]
        assert pauses == sorted(pauses)
        assert pauses[0] <= 2
        assert LONGEST_WAIT / 2 <= pauses[-1] <= LONGEST_WAIT + 1


async def test_what_waits_is_bounded_and_what_is_dropped_is_counted(tmp_path: Path) -> None:
    async with recorded(BOTH, tmp_path, shares={"canary": 0}, event_sample=1.0, buffer_mb=0.02) as plane:
        plane.sink.away = True
        for _ in range(50):
            await plane.ask(1)
            plane.drain(LONGEST_WAIT)
        plane.sink.away = False
        assert plane.drain(LONGEST_WAIT)
        windows, events = plane.sink.windows, plane.sink.events
        assert 1 <= len(windows) < 10
        assert windows[-1].sequence == 50  # the oldest went
        assert plane.dropped() == {
            ("window", "buffer_full"): 50 - len(windows),
            ("event", "buffer_full"): 50 - len(events),
        }
        await plane.ask(1)
        plane.drain()
        assert len(plane.sink.events) == len(events)  # a list that grew again


async def test_one_record_that_the_store_never_takes_does_not_hold_up_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with recorded(BOTH, tmp_path, shares={"canary": 50}) as plane:
        plane.draws = [0.1, 0.9]
        await plane.ask(1)
        await plane.ask(1)
        plane.sink.odd = ValueError("the disk is made of cheese")
        plane.clock.advance(1)
        with caplog.at_level(logging.CRITICAL, "tidegate.events"):
            assert not plane.recorder.drain()
            taken = list(plane.recorder.waiting)
            plane.sink.poison = taken[0]
            for _ in range(TRIES - 1):
                plane.drain(LONGEST_WAIT)
        assert plane.sink.windows == taken[1:]
        assert plane.dropped() == {("window", "refused"): 1}


async def test_a_store_without_tables_is_waited_for(tmp_path: Path) -> None:
    async with recorded(BOTH, tmp_path, shares={"canary": 0}) as plane:
        await plane.ask(1)
        plane.sink.odd = UserError("the store has no tables yet")
        plane.sink.poison = None
        for _ in range(2 * TRIES):
            plane.sink.away = True
            assert not plane.drain(LONGEST_WAIT)
        plane.sink.away, plane.sink.odd = False, None
        assert plane.drain(LONGEST_WAIT)
        assert len(plane.sink.windows) == 1


async def test_the_end_of_the_process_writes_what_is_left(tmp_path: Path) -> None:
    async with recorded(BOTH, tmp_path, shares={"canary": 0}) as plane:
        plane.recorder.start()
        await plane.ask(1)
        await asyncio.to_thread(plane.recorder.close, 20.0)
        assert [window.requests for window in plane.sink.windows] == [1]
        assert plane.sink.closed


@pytest.mark.slow
async def test_a_store_that_hangs_does_not_keep_the_process_from_ending(tmp_path: Path) -> None:
    async with recorded(BOTH, tmp_path, shares={"canary": 0}) as plane:
        let_go, asked = threading.Event(), threading.Event()

        def hang(batch: object) -> None:
            asked.set()
            assert let_go.wait(20)

        plane.sink.write = hang  # type: ignore[method-assign]
        await plane.ask(1)
        plane.recorder.start()
        await asyncio.to_thread(asked.wait, 20)
        await asyncio.to_thread(plane.recorder.close, 0.01)
        assert not plane.sink.closed
        let_go.set()


EXPERIMENT = Exposing("ab")


def spools(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_exposures_are_on_record_before_the_answer(tmp_path: Path) -> None:
    gate = Gate(-1)
    async with recorded(
        {"baseline": times(1), "canary": gate}, tmp_path, shares={"canary": 50}, experiment=EXPERIMENT
    ) as plane:
        router = plane.live.endpoint("e").router
        unit = next(u for u in map(str, range(100)) if router.choose(u, "", "", lambda: 0.0).variant.name == "canary")
        asking = asyncio.create_task(plane.ask(1, unit=unit))
        await gate.entered()
        plane.drain()
        [exposure] = plane.sink.exposures
        assert (exposure.experiment, exposure.endpoint, exposure.unit) == ("ab", "e", unit)
        assert (exposure.variant, exposure.request_id) == ("canary", "id-1")
        gate.open()
        await asking


async def test_each_unit_is_exposed_once(tmp_path: Path) -> None:
    async with recorded(BOTH, tmp_path, shares={"canary": 50}, experiment=EXPERIMENT) as plane:
        for _ in range(3):
            for number in range(40):
                [answer] = await plane.ask(1, unit=f"u{number}")
                del answer
        await plane.ask(*range(60), units=tuple(f"u{number}" for number in range(60)))
        plane.drain()
        shown = Counter(exposure.variant for exposure in plane.sink.exposures)
        assert shown.total() == 60
        assert min(shown.values()) > 10
        await plane.apply(2, shares={"canary": 50}, experiment=EXPERIMENT)
        await plane.ask(1, unit="u1")
        assert plane.recorder.spool is not None
        assert plane.recorder.spool.used == 0  # remembered over snapshots


async def test_who_takes_no_part_is_not_exposed(tmp_path: Path) -> None:
    nobody = Exposing("ab", start=10, end=10)
    async with recorded(BOTH, tmp_path, shares={"canary": 100}, experiment=EXPERIMENT) as plane:
        assert await plane.ask(1) == [1]  # no unit
        assert await plane.ask(1, unit="a", forced="canary") == [-1]
        await plane.apply(2, shares={"canary": 100}, experiment=nobody)
        assert await plane.ask(1, unit="a") == [1]
        plane.drain()
        assert plane.sink.exposures == []


async def test_without_room_for_its_exposure_a_unit_gets_the_baseline_and_that_is_counted(tmp_path: Path) -> None:
    async with recorded(BOTH, tmp_path, shares={"canary": 100}, experiment=EXPERIMENT, buffer_mb=0.004) as plane:
        plane.sink.away = True
        answers = {f"u{number}": await plane.ask(1, unit=f"u{number}") for number in range(100)}
        refused = [unit for unit, answer in answers.items() if answer == [1]]
        assert 0 < len(refused) < 100
        assert plane.dropped() == {("exposure", "spool_full"): len(refused)}
        assert await plane.ask(1, unit="u0") == [-1]  # on record before
        plane.sink.away = False
        plane.drain(LONGEST_WAIT)
        assert {exposure.unit for exposure in plane.sink.exposures} == answers.keys() - set(refused)
        assert await plane.ask(1, unit=refused[0]) == [-1]


async def test_without_a_spool_nobody_takes_part(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    async with recorded(BOTH, tmp_path / "file", shares={"canary": 100}, experiment=EXPERIMENT) as plane:
        assert await plane.ask(1, unit="a") == [1]
        assert plane.dropped() == {("exposure", "spool_full"): 1}
        assert "no spool for exposures" in caplog.text


async def test_exposures_that_the_store_did_not_take_stay_for_the_next_process(tmp_path: Path) -> None:
    async with recorded(BOTH, tmp_path, shares={"canary": 100}, experiment=EXPERIMENT) as plane:
        plane.sink.away = True
        await plane.ask(1, unit="a")
    async with recorded(BOTH, tmp_path, shares={"canary": 100}) as plane:
        plane.drain()
        assert [exposure.unit for exposure in plane.sink.exposures] == ["a"]
        assert spools(tmp_path) == []


async def test_exposures_of_another_store_are_left_alone(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, "exposures-000000000000", 4096)
    spool.append(b"of another store")
    spool.close()
    async with recorded(BOTH, tmp_path, shares={"canary": 100}, experiment=EXPERIMENT) as plane:
        await plane.ask(1, unit="a")
        plane.drain()
        assert len(plane.sink.exposures) == 1
    assert spools(tmp_path) == [spool.path.name]


async def test_a_record_of_the_spool_that_cannot_be_read_is_skipped_and_counted(tmp_path: Path) -> None:
    async with recorded(BOTH, tmp_path, shares={"canary": 100}, experiment=EXPERIMENT) as plane:
        spool = plane.recorder.spool
        assert spool is not None
        spool.append(b"{")
        await plane.ask(1, unit="a")
        plane.drain()
        assert [exposure.unit for exposure in plane.sink.exposures] == ["a"]
        assert plane.dropped() == {("exposure", "refused"): 1}


async def test_without_a_recorder_nobody_takes_part_in_an_experiment() -> None:
    plane = Plane(BOTH)
    await plane.apply(shares={"canary": 100}, experiment=EXPERIMENT)
    assert await plane.ask(1, unit="a") == [1]
    await plane.live.close()


FEEDBACK = [Feedback(metric="accuracy", request_id=f"r{number}", label="a") for number in range(3)]


async def test_feedback_is_durable_before_the_answer(tmp_path: Path) -> None:
    async with recorded(BOTH, tmp_path, shares={"canary": 0}) as plane:
        assert await plane.recorder.feedback(FEEDBACK) == 3
        assert await plane.recorder.feedback(FEEDBACK) == 0
        plane.sink.away = True
        with pytest.raises(StoreAway):
            await plane.recorder.feedback(FEEDBACK)


async def test_feedback_that_waits_for_the_store_is_bounded(tmp_path: Path) -> None:
    async with recorded(BOTH, tmp_path, shares={"canary": 0}) as plane:
        let_go = threading.Event()
        plane.sink.feedback = lambda rows: len(rows) if let_go.wait(20) else 0  # type: ignore[method-assign]
        asking = [asyncio.create_task(plane.recorder.feedback(FEEDBACK)) for _ in range(MOST_FEEDBACK)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await plane.recorder.feedback(FEEDBACK)
        let_go.set()
        assert await asyncio.gather(*asking) == [3] * MOST_FEEDBACK


async def test_feedback_to_a_store_without_tables_says_so(tmp_path: Path) -> None:
    async with recorded(BOTH, tmp_path, shares={"canary": 0}) as plane:

        def refuse(rows: object) -> int:
            raise UserError("the store has no tables yet; run: tidegate store migrate")

        plane.sink.feedback = refuse  # type: ignore[method-assign]
        with pytest.raises(NotReady, match="tidegate store migrate"):
            await plane.recorder.feedback(FEEDBACK)
