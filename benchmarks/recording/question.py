from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.harness import models
from benchmarks.harness.closed import compare, rates
from benchmarks.harness.measure import Effort, ratio
from benchmarks.harness.request import Request
from benchmarks.harness.results import Result
from benchmarks.harness.server import Server
from benchmarks.harness.subjects import PREDICT, tidegate
from tidegate.storage.store import Store, open_store
from tidegate.types import EndpointPlan, Exposing, ModelRef, RoutingSnapshot, Variant

FOLLOWED_SECONDS = 2.0
"""After which a published snapshot is in force."""


@contextlib.contextmanager
def stored(folder: Path, name: str) -> Iterator[tuple[str, Store]]:
    url = f"sqlite:///{folder / name}.db"
    store = open_store(url, migrate=True)
    try:
        yield url, store
    finally:
        store.close()


def publish(store: Store, server: Server, model: Path) -> None:
    variants = (
        Variant("baseline", ModelRef(str(model), "iris", "1")),
        Variant("candidate", ModelRef(str(model), "iris", "2"), share=5000),
    )
    plan = EndpointPlan("iris", variants, experiment=Exposing("ab"))
    with store.begin() as unit:
        unit.snapshots.publish(
            RoutingSnapshot(0, {"iris": plan}, "iris"), reason="", author="benchmark", at=time.time()
        )
    time.sleep(FOLLOWED_SECONDS)


def run(effort: Effort) -> Result:
    result = Result("recording")
    model = models.make().forest
    plain = {"iris": {"model": str(model)}}
    split = {"iris": {"model": str(model), "variants": {"candidate": {"model": str(model), "share": 50}}}}
    unit = replace(PREDICT, headers={**PREDICT.headers, "X-User-Id": "user-1"})
    with (
        tempfile.TemporaryDirectory() as folder,
        stored(Path(folder), "windows") as (windows, _),
        stored(Path(folder), "events") as (events, _),
        stored(Path(folder), "exposures") as (exposures, store),
    ):
        with (
            tidegate(plain) as off,
            tidegate(plain, {"store": {"url": windows}}) as on,
            tidegate(plain, {"store": {"url": events, "event_sample": 1.0}}) as all_events,
        ):
            cases = {"off": (off, PREDICT), "windows + 1 % events": (on, PREDICT), "all events": (all_events, PREDICT)}
            for connections in (32, 128):
                measure(effort, cases, connections, result, {"windows + 1 % events": 0.99})
        with tidegate(split) as off, tidegate(plain, {"store": {"url": exposures}}) as experiment:
            publish(store, experiment, model)
            measure(effort, {"split": (off, unit), "experiment": (experiment, unit)}, 32, result, {"experiment": 0.97})
    return result


def measure(
    effort: Effort, cases: dict[str, tuple[Server, Request]], connections: int, result: Result, aims: dict[str, float]
) -> None:
    found = compare(effort, cases, connections=connections, result=result, label=f"{connections} connections")
    first, *others = cases
    for name in others:
        aim = {"side": "at least", "bound": aims[name]} if name in aims else {}
        result.add(
            f"{connections} connections: {name} / {first}", ratio(rates(found[name]), rates(found[first])), **aim
        )
