from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.process import until
from tests.stores import sqlite_store
from tests.unit.control.api.client import Client
from tidegate.apps.control import ControlPlane, Front, address_of, clean, control
from tidegate.clock import ManualClock, SystemClock
from tidegate.config import Loaded
from tidegate.control.api.services import Services
from tidegate.control.ticks import Step
from tidegate.errors import ConfigError, StoreAway, UserError
from tidegate.settings import Control, EndpointSettings, Settings
from tidegate.settings import Store as StoreSettings
from tidegate.storage.records import IdempotencyRow, SessionRow
from tidegate.storage.store import Store, open_store
from tidegate.testing.models import write_classifier_onnx


def loaded(folder: Path, **more: object) -> Loaded:
    settings = Settings(
        endpoints={"iris": EndpointSettings(model="iris.onnx")},
        store=StoreSettings(url=f"sqlite:///{folder}/store.db"),
        control=Control(tick_seconds=0.01),
    )
    return Loaded(settings=settings, origins={}, base=folder, file=None)


class Opener:
    """The store, once it is back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.error: Exception | None = StoreAway("the store cannot be reached")
        self.asked = 0

    def __call__(self) -> Store:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return sqlite_store(self.folder)


@pytest.fixture
def opener(tmp_path: Path) -> Opener:
    write_classifier_onnx(tmp_path / "iris.onnx")
    return Opener(tmp_path)


@pytest.fixture
def plane(tmp_path: Path, opener: Opener) -> Iterator[ControlPlane]:
    made = ControlPlane(loaded(tmp_path), SystemClock(), opener, retry_seconds=0.01)
    yield made
    made.stopping.set()
    assert made.join(20)


def test_the_port_answers_while_the_store_is_away_and_goes_on_by_itself(
    plane: ControlPlane, opener: Opener, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plane.start()
    client = Client(plane.front)
    until(lambda: opener.asked > 2, "asked for the store")
    assert client.get("/healthz").status_code == 200
    away = client.get("/readyz")
    assert (away.status_code, away.json()["detail"]) == (503, "the store cannot be reached")
    assert client.get("/api/v1/releases").headers["content-type"] == "application/problem+json"
    opener.error = None
    until(lambda: client.get("/readyz").status_code == 200, "ready")
    key = (tmp_path / "run" / "admin.key").read_text().strip()
    until(
        lambda: client.get("/api/v1/snapshots", headers={"X-API-Key": key}).json()["items"],
        "the configuration published",
    )
    until((tmp_path / "run" / "audit.heads").exists, "a head of the audit log")
    plane.stopping.set()
    assert plane.join(20)
    assert plane.error is None
    client.close()
    assert capsys.readouterr().out.count(key) == 1


class Hanging(ControlPlane):
    """Its chores wait for a registry that never answers."""

    let_go = threading.Event()

    def _chores(self, services: Services) -> list[Step]:
        return [Step("aliases", 0.0, self.let_go.wait)]


def test_releases_go_on_while_a_chore_hangs(tmp_path: Path, opener: Opener) -> None:
    opener.error = None
    plane = Hanging(loaded(tmp_path), SystemClock(), opener, retry_seconds=0.01)
    plane.start()
    client = Client(plane.front)
    until(lambda: client.get("/readyz").status_code == 200, "ready")
    store = open_store(f"sqlite:///{tmp_path}/store.db")

    def leads() -> bool:
        with store.begin() as unit:
            return unit.leases.acquire("releases", "another", time.time(), 1.0) is None

    until(leads, "the lease of releases held")
    store.close()
    plane.let_go.set()
    plane.stopping.set()
    assert plane.join(30)
    client.close()


def test_it_throws_away_what_is_too_old(opener: Opener, tmp_path: Path) -> None:
    store = sqlite_store(tmp_path)
    with store.begin() as unit:
        unit.sessions.add(SessionRow("old", "k", 1.0, 2.0, ""))
    plane = ControlPlane(loaded(tmp_path), SystemClock(), lambda: store)
    watching = open_store(f"sqlite:///{tmp_path}/store.db")

    def gone() -> bool:
        with watching.read() as unit:
            return unit.sessions.get("old") is None

    plane.start()
    until(gone, "nothing old in the store")
    plane.stopping.set()
    assert plane.join(20)
    watching.close()


def test_told_to_end_while_the_store_is_away(plane: ControlPlane, opener: Opener) -> None:
    plane.start()
    until(lambda: opener.asked, "asked for the store")
    plane.stopping.set()
    assert plane.join(20)
    assert plane.error is None


def test_a_mistake_of_the_operator_ends_it_with_its_reason(plane: ControlPlane, opener: Opener) -> None:
    opener.error = ConfigError("store.url: no store of kind x")
    ended: list[bool] = []
    plane.on_end = lambda: ended.append(True)
    plane.start()
    assert plane.join(20)
    assert isinstance(plane.error, UserError)
    assert ended


class Gone(Store):
    """Reached, and away as soon as it is to be used."""

    def begin(self, durable: bool = True) -> NoReturn:
        raise StoreAway("the store went away")

    read = begin


def test_a_store_that_goes_away_again_at_once_is_waited_for(tmp_path: Path, opener: Opener) -> None:
    """A restart of the database in the wrong moment must not be the end of the control plane."""
    opener.error = None
    reached = opener()
    stores = [Gone(reached.engine, SystemClock()), reached]
    plane = ControlPlane(loaded(tmp_path), SystemClock(), lambda: stores.pop(0), retry_seconds=0.01)
    plane.start()
    client = Client(plane.front)
    until(lambda: client.get("/readyz").status_code == 200, "ready")
    plane.stopping.set()
    assert plane.join(20)
    assert plane.error is None
    client.close()


def test_what_nobody_foresaw_is_no_orderly_end(plane: ControlPlane, opener: Opener) -> None:
    """Or whoever keeps it running takes the crash for a stop."""
    opener.error = ZeroDivisionError("by zero")
    plane.start()
    assert plane.join(20)
    assert isinstance(plane.error, ZeroDivisionError)


def test_without_a_store_there_is_no_control_plane(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"store\.url"):
        control(Loaded(settings=Settings(), origins={}, base=tmp_path, file=None))


async def test_before_anything_is_there_only_health_answers() -> None:
    client = Client(Front())
    assert client.get("/healthz").json()["status"] == "ok"
    assert client.get("/").status_code == 503
    client.close()


def test_what_is_too_old_is_thrown_away(tmp_path: Path) -> None:
    clock = ManualClock(1.8e9)
    now = clock.wall()
    with_store = sqlite_store(tmp_path, clock)
    with with_store.begin() as unit:
        unit.idempotency.put(IdempotencyRow("old", "a", "", 200, "{}", now - 90_000))
        unit.idempotency.put(IdempotencyRow("new", "a", "", 200, "{}", now))
        unit.sessions.add(SessionRow("s", "k", now - 10, now - 1, ""))
        unit.deliveries.add("older:d", now - 90_000)
        unit.deliveries.add("mlflow:d", now - 90_000)
    clean(with_store, StoreSettings().retention, now)
    with with_store.begin() as unit:
        assert unit.idempotency.get("old", "a") is None
        assert unit.idempotency.get("new", "a") is not None
        assert unit.sessions.get("s") is None
        assert unit.deliveries.add("mlflow:d", now)
        assert not unit.deliveries.add("older:d", now)  # such a webhook has no time of its own: it is remembered
    with_store.close()


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        (Control(), "http://localhost:7"),
        (Control(host="10.0.0.1"), "http://10.0.0.1:7"),
        (Control(url="https://tidegate.example"), "https://tidegate.example"),
    ],
)
def test_the_address_for_people(settings: Control, address: str) -> None:
    assert address_of(settings, 7) == address
