from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from benchmarks.harness.measure import Effort, Spread
from benchmarks.harness.results import Result
from tests.services import running
from tidegate.observations import Exposure, Feedback, PredictionEvent, VariantWindow
from tidegate.storage.store import Store, Unit, open_store

EVENTS = int(os.environ.get("BENCHMARK_EVENTS", "1000000"))
BATCH = 500
"""Events in one transaction, as the data plane's writer has them."""
NOW = 1_700_000_000.0
INPUTS = b'{"sepal_length":[5.1],"sepal_width":[3.5],"petal_length":[1.4],"petal_width":[0.2],"source":["web"]}' * 2
OUTPUTS = b'{"label":["setosa"],"scores":[[0.9703125,0.0214844,0.0082031]]}' * 3


def run(effort: Effort) -> Result:
    result = Result("store")
    for name, opened in (("SQLite", sqlite), ("PostgreSQL", postgresql)):
        with opened() as store:
            _measure(result, effort, name, store)
    return result


@contextmanager
def sqlite() -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"sqlite:///{folder}/store.db", migrate=True)
        yield store
        store.close()


@contextmanager
def postgresql() -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as folder, running("postgresql", Path(folder) / "postgresql") as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = on")
            connection.execute("SELECT pg_reload_conf()")
        store = open_store(server.url, migrate=True)
        yield store
        store.close()


def _measure(result: Result, effort: Effort, name: str, store: Store) -> None:
    result.add(
        f"{name}: events/s, one process, {EVENTS:,} of them", _fill(store), unit="/s", side="at least", bound=20_000
    )
    _fill_windows(store)
    _fill_outcomes(store)
    if store.is_postgres:  # what autovacuum does by itself, a minute later
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
    for what, durable in (("kept at once", False), ("on the disk at once", True)):
        cost = Spread.of([_windows_cost(store, number, durable) for number in range(10 * effort.rounds)])
        result.add(f"{name}: 40 windows of one second, {what}", cost, unit="ms")
    result.add(f"{name}: 100 exposures, on the disk at once", _exposures_cost(store, 10 * effort.rounds), unit="ms")
    counted = Spread.of([_milliseconds(store, lambda unit: unit.events.count()) for _ in range(effort.rounds)])
    result.add(f"{name}: counting all events, which no page does", counted, unit="ms")
    for what, read in READS.items():
        times = Spread.of([_milliseconds(store, read) for _ in range(2 * effort.rounds)])
        result.add(f"{name}, {EVENTS:,} events: {what}", times, unit="ms", side="at most", bound=100)


READS: dict[str, Callable[[Unit], object]] = {
    "figures of the last minute": lambda unit: unit.windows.between("iris", NOW - 60, NOW),
    "totals of the last hour": lambda unit: unit.windows.totals(NOW - 3600, NOW),
    "the newest 1 000 windows by id": lambda unit: unit.windows.after("iris", 56_000, limit=1000),
    "the newest 50 predictions": lambda unit: unit.events.between("iris", NOW - 86_400, NOW, limit=50),
    "100 predictions by request": lambda unit: unit.events.by_request_ids([f"r{n * 37}" for n in range(100)], "iris"),
    "labels of the last 10 minutes": lambda unit: [*unit.feedback.labels("iris", "bought", NOW - 600, NOW)],
    "units per variant of an experiment": lambda unit: unit.exposures.counts("colours"),
    "newest snapshot, open releases, audit log": lambda unit: (
        unit.snapshots.latest(),
        unit.releases.list(open=True),
        unit.audit.list(),
    ),
}


def _fill(store: Store) -> Spread:
    """Events a second, in tenths of the whole: the last ones meet large indexes."""
    rates = []
    for part in range(10):
        batches = [
            [_event(part * EVENTS // 10 + begin + number) for number in range(BATCH)]
            for begin in range(0, EVENTS // 10, BATCH)
        ]
        start = time.perf_counter()
        for batch in batches:
            with store.begin(durable=False) as unit:
                unit.events.add(batch)
        rates.append(EVENTS / 10 / (time.perf_counter() - start))
    return Spread.of(rates)


def _event(number: int) -> PredictionEvent:
    return PredictionEvent(
        request_id=f"r{number}",
        process="host-1234-abcdef",
        endpoint="iris",
        variant="candidate" if number % 10 == 0 else "baseline",
        version="1a2b3c4d5e6f",
        snapshot=2,
        time=NOW - 86_400 * (1 - number / EVENTS),
        unit=f"user-{number % 50_000}",
        seconds=0.0012,
        inputs=INPUTS,
        outputs=OUTPUTS,
    )


def _windows(second: int, process: str, endpoint: str = "iris") -> list[VariantWindow]:
    return [
        VariantWindow(
            process=process, sequence=second, endpoint=endpoint, variant=variant, version="1a2b3c4d5e6f", snapshot=2,
            share=5000, start=NOW - 7200 + second, seconds=1.0, requests=1000, failures=1,
            outcomes={"ok": 999, "failed": 1}, latency=dict.fromkeys(range(300, 350), 20),
            outputs={"setosa": 300, "versicolor": 400, "virginica": 300},
        )
        for variant in ("baseline", "candidate")
    ]  # fmt: skip


def _fill_windows(store: Store) -> None:
    for process in range(4):
        with store.begin(durable=False) as unit:
            unit.windows.add([one for second in range(7200) for one in _windows(second, f"p{process}")])


def _fill_outcomes(store: Store) -> None:
    for begin in range(0, 100_000, 10_000):
        numbers = range(begin, begin + 10_000)
        with store.begin(durable=False) as unit:
            unit.exposures.add([_exposure(number) for number in numbers])
            unit.feedback.add(
                [Feedback(metric="bought", request_id=f"r{10 * n}", value=1.0, time=NOW, received=NOW) for n in numbers]
            )


def _exposure(number: int) -> Exposure:
    variant = "baseline" if number % 2 else "candidate"
    return Exposure(experiment="colours", endpoint="iris", unit=f"user-{number}", variant=variant, time=NOW - number)


def _windows_cost(store: Store, number: int, durable: bool) -> float:
    """Milliseconds for what one process with 20 endpoints and two variants has to tell each second."""
    batch = [one for endpoint in range(20) for one in _windows(number, f"new-{durable}", f"e{endpoint}")]
    start = time.perf_counter()
    with store.begin(durable) as unit:
        unit.windows.add(batch)
    return 1000 * (time.perf_counter() - start)


def _exposures_cost(store: Store, rounds: int) -> Spread:
    times = []
    for number in range(rounds):
        batch = [_exposure(1_000_000 + 100 * number + part) for part in range(100)]
        start = time.perf_counter()
        with store.begin() as unit:
            unit.exposures.add(batch)
        times.append(1000 * (time.perf_counter() - start))
    return Spread.of(times)


def _milliseconds(store: Store, read: Callable[[Unit], object]) -> float:
    start = time.perf_counter()
    with store.read() as unit:
        read(unit)
    return 1000 * (time.perf_counter() - start)
