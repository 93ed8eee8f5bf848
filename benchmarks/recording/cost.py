"""What each part of recording costs the event loop, alone and without a network: nanoseconds a request.

``python -m benchmarks.recording.cost``. The least of many repetitions, so that others on the machine matter little.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from time import thread_time

import numpy as np

from benchmarks.harness import models
from tidegate.apps.desired import Desired
from tidegate.apps.process import ServingProcess
from tidegate.config.load import load_settings
from tidegate.serving.batching import Ran
from tidegate.serving.call import Call
from tidegate.serving.live import Endpoint
from tidegate.serving.routing import Route
from tidegate.types import EndpointPlan, Exposing, ModelRef, RoutingSnapshot, Variant

REQUESTS, REPETITIONS = 10_000, 20


def nanoseconds(work: Callable[[], object], after: Callable[[], object] = lambda: None) -> float:
    """Of one call of ``work``, folding in between included; ``after`` is another thread's work and is not."""
    best = float("inf")
    for _ in range(REPETITIONS):
        began = thread_time()
        for _ in range(REQUESTS):
            work()
        best = min(best, thread_time() - began)
        after()
    return best / REQUESTS * 1e9


async def process(folder: Path, event_sample: float) -> ServingProcess:
    document = {
        "endpoints": {"iris": {"model": str(models.make().regression)}},
        "store": {"url": f"sqlite:///{folder}/nowhere.db", "event_sample": event_sample, "buffer_mb": 256},
    }
    path = folder / "tidegate.yaml"
    path.write_text(json.dumps(document), encoding="utf-8")
    loaded = load_settings(path, environment={})
    with socket.socket() as listening:
        made = ServingProcess(Desired(loaded), listening)
    await made.apply(Desired(loaded))
    return made


def call_of(endpoint: Endpoint, unit: str = "") -> Call:
    return Call(endpoint, {"features": np.zeros((1, 4), np.float32)}, 1, "native", "id", 0.0, 30.0, unit=unit)


def answer() -> Ran:
    return Ran({"predictions": np.array([1]), "scores": np.zeros((1, 3))}, 0.0, 0.0, 1)


async def windows(folder: Path, event_sample: float) -> float:
    made = await process(folder, event_sample)
    endpoint, recorder = made.live.endpoint(""), made.live.recorder
    assert endpoint.recording is not None
    assert recorder is not None
    call, route, version = call_of(endpoint), Route(endpoint.plan.baseline), endpoint.baseline
    record, answers = endpoint.recording.answered, [answer() for _ in range(REQUESTS)]
    numbers = count()

    def forget() -> None:
        recorder.collect()
        recorder.samples.forget(len(recorder.samples))

    def one() -> None:
        record(call, route, version, answers[next(numbers) % REQUESTS], False, 0.001)

    idle = nanoseconds(lambda: answers[next(numbers) % REQUESTS])
    spent = nanoseconds(one, forget)
    await made.live.close()
    return spent - idle


async def exposures(folder: Path) -> dict[str, float]:
    made = await process(folder, 0.0)
    ref = made.live.endpoint("").plan.baseline.model
    variants = (Variant("baseline", ref), Variant("candidate", ModelRef(ref.uri, "iris", "2", ref.digest), 5000))
    found = {}
    for name, experiment in (("split", None), ("whole layer", Exposing("ab")), ("part", Exposing("ab", end=9_999))):
        plan = EndpointPlan("iris", variants, experiment=experiment)
        await made.live.apply(RoutingSnapshot(2, {"iris": plan}, "iris"), made.settings.endpoints)
        endpoint = made.live.endpoint("")
        choose, call = made.predictor.choose, call_of(endpoint, "user-1")
        found[name] = nanoseconds(lambda choose=choose, call=call: choose(call, "user-1"))  # type: ignore[misc]
    numbers = count()
    spool = made.live.recorder and made.live.recorder.spool
    assert spool
    found["first exposure"] = nanoseconds(
        lambda: choose(call, f"new-{next(numbers)}"), lambda: spool.forget(spool.read(REQUESTS)[1])
    )
    await made.live.close()
    spool.close(remove=True)
    return found


async def main() -> None:
    with contextlib.ExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(4)]
        for folder, sample in zip(folders, (0.0, 0.01, 1.0), strict=False):
            print(f"windows and {sample:.0%} events: {await windows(folder, sample):.0f} ns")
        found = await exposures(folders[3])
        split = found.pop("split")
        print(f"a unit's choice between two variants: {split:.0f} ns, and in an experiment, more:")
        for name, spent in found.items():
            print(f"  {name}: {spent - split:.0f} ns")


if __name__ == "__main__":
    asyncio.run(main())
