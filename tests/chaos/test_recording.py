"""R7 and R8: what was promised to be kept is kept through kills, and a store that is away harms nobody's answer."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.caller import Caller, Load, sum_of_row
from tests.process import Server, serving, until
from tests.services import paused, running
from tidegate.observations import VariantWindow
from tidegate.storage.store import Store, open_store
from tidegate.storage.tables import exposures
from tidegate.types import EndpointPlan, Exposing, ModelRef, RoutingSnapshot, Variant

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

NAMES = ("baseline", "candidate")
ROW = {"features": [[1.0, 2.0, 3.0, 4.0]]}


def config(url: str, **store: Any) -> dict[str, Any]:
    return {
        "endpoints": {"sum": {"model": "fake:", "event_sample": 1.0}},
        "store": {"url": url, **store},
    }


def experiment() -> RoutingSnapshot:
    variants = (
        Variant("baseline", ModelRef("fake:", "sum", "1")),
        Variant("candidate", ModelRef("fake:", "sum", "2"), share=5000),
    )
    plan = EndpointPlan("sum", variants, salt="s", experiment=Exposing("ab"))
    return RoutingSnapshot(0, {"sum": plan}, "sum")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{tmp_path}/tidegate.db", migrate=True)
    yield store
    store.close()


def url_of(store: Store) -> str:
    return store.engine.url.render_as_string(hide_password=False)


def publish(store: Store, server: Server) -> None:
    with store.begin() as unit:
        number = unit.snapshots.publish(experiment(), reason="test", author="test", at=time.time()).number
    until(lambda: server.call("GET", "/info").json["snapshot"] == number, f"snapshot {number} in force")


def windows(store: Store) -> list[VariantWindow]:
    with store.read() as unit:
        return unit.windows.between("sum", 0.0, 1e12)


def requests(store: Store) -> int:
    return sum(window.requests for window in windows(store))


class Units:
    """Each request is of a unit of its own; ``answered`` says who got which variant."""

    def __init__(self) -> None:
        self.answered: dict[str, str] = {}

    def __call__(self, caller: Caller, number: int) -> str:
        unit = f"unit-{number}"
        answer = caller.call("POST", "/predict", ROW, {"x-user-id": unit})
        if answer.status == 200:
            self.answered[unit] = answer.headers["x-model-variant"]
        return ""


@pytest.mark.parametrize("workers", [1, 2])
def test_every_exposure_of_an_answered_unit_outlives_a_kill(tmp_path: Path, store: Store, workers: int) -> None:
    """R7. Killed under load, with a store that takes nothing: what the answers promised is only in the spools."""
    units = Units()
    settings = config(url_of(store))
    with serving(tmp_path, settings, workers=workers) as server:
        publish(store, server)
        with locked(tmp_path / "tidegate.db"), Load(server.port, units, clients=6) as clients:
            until(lambda: len(units.answered) > 1500, "requests were answered", 60)
            server.kill()
            clients.tally.failures.clear()
    answered = dict(units.answered)
    assert set(answered.values()) == set(NAMES)

    def known() -> dict[str, str]:
        with store.read() as unit:
            rows = unit.connection.execute(select(exposures.c.unit, exposures.c.variant))
            return {row.unit: row.variant for row in rows}

    before = known()
    assert answered.keys() - before.keys()
    with serving(tmp_path, settings, workers=workers) as server:
        until(lambda: answered.keys() <= known().keys(), "what was left in the spools is in the store", 60)
        assert server.stop() == 0
    found = known()
    assert {unit: found[unit] for unit in answered} == answered
    assert list((tmp_path / "run").glob("*.spool")) == []


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process writes, and does not end."""
    writer = sqlite3.connect(path, timeout=30, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        writer.execute("ROLLBACK")
        writer.close()


def feed(server: Server) -> int:
    answer = server.call("POST", "/feedback", {"unit": "a", "metric": "m", "value": 1})
    assert (answer.status == 503) == ("retry-after" in answer.headers)
    return answer.status


def test_a_store_that_is_away_harms_no_answer(tmp_path: Path, store: Store) -> None:
    """R8. Predictions go on, what waits is bounded, what is dropped is counted, and it recovers by itself."""
    with serving(tmp_path, config(url_of(store), buffer_mb=0.5)) as server:
        with Load(server.port, sum_of_row(0.0), clients=4, most=400) as clients:
            clients.join(60).assert_clean(400)
        until(lambda: requests(store) == 400, "the store has it")
        resident = server.resident()
        with locked(tmp_path / "tidegate.db"), Load(server.port, sum_of_row(0.0), clients=4) as clients:
            until(lambda: server.counted("tidegate_events_dropped_total", kind="event") > 0, "events are dropped", 60)
            assert feed(server) == 503
            server.wait_logged("the store is away", seconds=60)
        clients.tally.assert_clean()
        assert server.resident() - resident < 64 * 2**20
        asked = 400 + clients.tally.answered
        until(lambda: requests(store) == asked, f"all of {asked} requests are in windows afterwards", 60)
        assert feed(server) == 200
        server.wait_logged("the store is back")
        assert server.stop() == 0


def test_a_server_that_starts_without_its_store_finds_it_later(tmp_path: Path) -> None:
    """R8."""
    url = f"sqlite:///{tmp_path}/tidegate.db"
    with serving(tmp_path, config(url)) as server:
        with Load(server.port, sum_of_row(0.0), clients=2, most=100) as clients:
            clients.join(60).assert_clean(100)
        assert feed(server) == 503
        server.wait_logged("the store is away")
        store = open_store(url, migrate=True)
        until(lambda: requests(store) == 100, "what was counted before there was a store is in it", 60)
        assert feed(server) == 200
        assert server.stop() == 0
    store.close()


def test_a_paused_database_harms_no_answer(tmp_path: Path) -> None:
    """R8, with connections that are open and answer nothing."""
    with running("postgresql", tmp_path / "postgresql") as database:
        check_paused(tmp_path / "server", database.url, database.pid)


def check_paused(folder: Path, url: str, pid: int) -> None:
    folder.mkdir()
    store = open_store(url, migrate=True)
    with serving(folder, config(url, buffer_mb=0.5)) as server:
        publish(store, server)
        with Load(server.port, sum_of_row(0.0), clients=4, most=200) as clients:
            clients.join(60).assert_clean(200)
        until(lambda: requests(store) == 200, "the store has it")
        with paused(pid), Load(server.port, sum_of_row(0.0), clients=4) as clients:
            until(lambda: server.counted("tidegate_events_dropped_total", kind="event") > 0, "events are dropped", 60)
            assert feed(server) == 503
        clients.tally.assert_clean()
        asked = 200 + clients.tally.answered
        until(lambda: requests(store) == asked, f"all of {asked} requests are in windows afterwards", 90)
        assert server.stop() == 0
    store.close()


def test_feedback_that_was_acknowledged_outlives_a_kill(tmp_path: Path, store: Store) -> None:
    """R7, and sent twice it is there once."""
    acknowledged: list[str] = []

    def send(caller: Caller, number: int) -> str:
        row = {"request_id": f"r{number}", "metric": "accuracy", "label": number % 3}
        if caller.call("POST", "/feedback", [row, row]).status == 200:
            acknowledged.append(row["request_id"])  # type: ignore[arg-type]
        return ""

    with serving(tmp_path, config(url_of(store))) as server, Load(server.port, send, clients=4):
        until(lambda: len(acknowledged) > 100, "feedback was acknowledged", 60)
        server.kill()
        kept = set(acknowledged)
    with store.read() as unit:
        found = [row[0] for row in unit.connection.exec_driver_sql("SELECT request_id FROM feedback")]
    assert kept <= set(found)
    assert len(found) == len(set(found))
