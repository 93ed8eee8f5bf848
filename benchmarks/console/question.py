from __future__ import annotations

import tempfile
import time
from pathlib import Path

import httpx

from benchmarks.harness.measure import Effort, Spread
from benchmarks.harness.results import Result
from tests.e2e import seed
from tests.e2e.plane import Plane, plane
from tidegate.observations import PredictionEvent, VariantWindow
from tidegate.storage.records import EvidenceRow

EVENTS = 1_000_000
WINDOWS = 100_000
LOOKS = 7_200
"""An hour of looks at one release, two a second."""
AIM_MS = 100.0
PATHS = (
    "/", "/endpoints/iris", "/releases", "/releases/r-iris-4", "/releases/r-fraud-2", "/experiments",
    "/experiments/homepage-order", "/models", "/models/iris", "/audit", "/keys",
)  # fmt: skip


def run(effort: Effort) -> Result:
    result = Result("console")
    with tempfile.TemporaryDirectory() as folder, plane(Path(folder)) as found:
        fill(found)
        for path, times in measure(found, 5 * effort.rounds).items():
            what = f"{path} with {EVENTS:,} events and {WINDOWS:,} windows"
            result.add(what, Spread.of(times), unit="ms", side="at most", bound=AIM_MS)
    return result


def fill(found: Plane, events: int = EVENTS, windows: int = WINDOWS, looks: int = LOOKS) -> None:
    store = found.services.store
    inputs, outputs = b'{"features":[[5.1,3.5,1.4,0.2]]}', b'{"label":["setosa"]}'
    for start in range(0, events, 10_000):
        batch = [
            PredictionEvent(
                request_id=f"request-{number}",
                process="p0",
                endpoint="iris",
                variant="baseline",
                version="3",
                snapshot=2,
                time=seed.NOW - number / 100,
                unit=f"user-{number % 50_000}",
                seconds=0.003,
                inputs=inputs,
                outputs=outputs,
            )
            for number in range(start, start + 10_000)
        ]
        with store.begin(durable=False) as unit:
            unit.events.add(batch)
    latency = dict.fromkeys(range(300, 360), 4)
    for start in range(0, windows, 5_000):
        batch_ = [
            VariantWindow(
                process=f"old-{number % 8}",
                sequence=number + 1,
                endpoint=seed.ENDPOINTS[number % 5],
                variant="baseline",
                version="3",
                snapshot=2,
                share=0,
                start=seed.NOW - 120 - number,
                seconds=1.0,
                requests=240,
                outcomes={"ok": 240},
                latency=latency,
                outputs={"setosa": 80, "versicolor": 80, "virginica": 80},
            )
            for number in range(start, start + 5_000)
        ]
        with store.begin(durable=False) as unit:
            unit.windows.add(batch_)
    with store.begin() as unit:
        kept = unit.releases.evidence("r-fraud-2", limit=1)[0]
        first = unit.releases.evidence("r-fraud-2", after=148)[0].tick + 1
        for tick in range(first, first + looks):
            unit.releases.add_evidence(EvidenceRow("r-fraud-2", tick, kept.time + tick / 2, kept.body))


def measure(found: Plane, repeat: int) -> dict[str, list[float]]:
    """Path -> milliseconds of each call through the whole application, with the figures read afresh."""
    taken: dict[str, list[float]] = {}
    with httpx.Client(base_url=found.url, timeout=60) as client:
        client.post("/api/v1/session", json={"key": found.keys["admin"]}).raise_for_status()
        for path in PATHS:
            for _ in range(repeat):
                found.services.figures.forget()
                begin = time.perf_counter()
                client.get(path).raise_for_status()
                taken.setdefault(path, []).append((time.perf_counter() - begin) * 1000)
    return taken
