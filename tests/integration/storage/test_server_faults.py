"""PostgreSQL stopped, killed, paused, started again: the store says so, and goes on by itself."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]
import psycopg
import pytest
from sqlalchemy.engine import make_url

from tests.process import until
from tests.services import Running, halt, launch, paused, running
from tests.unit.storage.makers import START, a_change, a_release, a_snapshot
from tidegate.errors import Conflict, StoreAway
from tidegate.storage import postgres
from tidegate.storage.store import Store, open_store

pytestmark = pytest.mark.slow


class Server:
    """A server of one's own, to be broken at will; it keeps its port and its data."""

    def __init__(self, folder: Path, started: Running) -> None:
        self.url = started.url
        self._folder = folder
        self._pid = started.pid

    def stop(self) -> None:
        halt("postgresql", self._pid)

    def kill(self) -> None:
        main = psutil.Process(self._pid)
        tree = [main, *main.children(recursive=True)]
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(tree, timeout=20)

    def start(self) -> None:
        self._pid = launch("postgresql", self._folder, make_url(self.url).port or 0).pid

    def paused(self) -> contextlib.AbstractContextManager[None]:
        return paused(self._pid)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "own"
    with running("postgresql", folder) as started:
        server = Server(folder, started)
        yield server
        server.stop()


@pytest.fixture
def kept(own: Server) -> Iterator[Store]:
    opened = open_store(own.url, migrate=True)
    yield opened
    opened.close()


def publish(store: Store) -> int:
    with store.begin() as unit:
        return unit.snapshots.publish(a_snapshot(), reason="r", author="ann", at=START).number


def answers(store: Store) -> bool:
    try:
        store.ping()
    except StoreAway:
        return False
    return True


@pytest.mark.parametrize("end", [Server.stop, Server.kill], ids=["stopped", "killed"])
def test_a_server_that_went_away_and_came_back(own: Server, kept: Store, end: Callable[[Server], None]) -> None:
    """R8: StoreAway at once while it is away; nothing that was taken is lost; pool and listener recover."""
    listener = kept.listen()
    published = publish(kept)
    assert listener.wait(20)
    end(own)
    with pytest.raises(StoreAway, match="the store") as caught:
        publish(kept)
    assert caught.value.retry_after > 0
    assert "127.0.0.1" not in str(caught.value)
    assert not listener.wait(0.1)
    own.start()
    until(lambda: answers(kept), "the store answers again", 60)
    with kept.read() as unit:
        found = unit.snapshots.latest()
        assert found is not None
        assert found.number == published
    assert publish(kept) == published + 1
    assert listener.wait(30)
    listener.close()


def test_a_store_that_is_away_when_it_is_opened(own: Server, kept: Store) -> None:
    publish(kept)
    own.stop()
    opened = open_store(own.url)
    listener = opened.listen()
    assert not answers(opened)
    assert not listener.wait(0.1)
    with pytest.raises(StoreAway):
        open_store(own.url, migrate=True)
    own.start()
    until(lambda: answers(opened), "the store answers", 60)
    assert listener.wait(30)
    listener.close()
    opened.close()


def test_a_server_that_is_silent(own: Server, kept: Store) -> None:
    """R8, SIGSTOP: the connection stands, and nobody answers."""

    def ask() -> None:
        with kept.read() as unit:
            driver = unit.connection.connection.driver_connection
            assert isinstance(driver, postgres.PatientConnection)
            driver.patience = 0.5
            with own.paused():
                unit.events.count()

    with pytest.raises(StoreAway, match="cannot be reached"):
        ask()
    listening = postgres.connect(kept.engine, patience=0.5)
    with own.paused(), pytest.raises(psycopg.OperationalError, match="silent"):
        listening.execute("SELECT 1")
    assert listening.closed
    until(lambda: answers(kept), "the store answers again", 60)


def test_a_wrong_password_or_database(own: Server) -> None:
    right = make_url(own.url)
    for wrong, text in [
        (right.set(password="wrong"), "the user or the password"),
        (right.set(database="nowhere"), "does not exist"),
        (right.set(host="127.0.0.1", port=1), "cannot be reached"),
    ]:
        opened = open_store(wrong.render_as_string(hide_password=False))
        with pytest.raises(StoreAway, match=text):
            opened.ping()
        opened.close()


def test_a_deadlock_is_a_lost_race(store: Store) -> None:
    """Two changes that take the same things in opposite order: one wins, the other is told to look again."""
    with store.begin() as unit:
        unit.releases.add(a_release("r1"), a_change("r1"))
    both, results = threading.Barrier(2), list[str]()

    def save(forwards: bool) -> None:
        row = msgspec.structs.replace(a_release("r1"), body="{}")
        steps: list[Callable[[], object]] = [
            lambda: unit.releases.save(row, None, expected=1),
            lambda: unit.audit.append("ann", "a", "t", "{}", START),
        ]
        try:
            with store.begin() as unit:
                steps[0 if forwards else 1]()
                both.wait(30)
                steps[1 if forwards else 0]()
            results.append("done")
        except Conflict:
            results.append("conflict")

    threads = [threading.Thread(target=save, args=(forwards,)) for forwards in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["conflict", "done"]


def test_a_conflict_that_was_swallowed_is_not_taken_for_success(store: Store) -> None:
    def change() -> None:
        with store.begin() as unit:
            unit.audit.append("ann", "a", "t", "{}", START)
            for _ in range(2):
                with contextlib.suppress(Conflict):
                    unit.releases.add(a_release("r1"), a_change("r1"))

    with pytest.raises(Conflict, match="nothing of it was kept"):
        change()
    with store.read() as unit:
        assert unit.audit.last() is None


def test_more_threads_than_connections(store: Store) -> None:
    together, counts = threading.Barrier(30), list[int]()

    def look() -> None:
        together.wait(60)
        with store.read() as unit:
            counts.append(unit.events.count())

    threads = [threading.Thread(target=look) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [0] * 30


def test_what_need_not_wait_for_the_disk_does_not(store: Store) -> None:
    def setting(durable: bool) -> object:
        with store.begin(durable) as unit:
            return unit.connection.exec_driver_sql("SHOW synchronous_commit").scalar()

    assert [setting(True), setting(False), setting(True)] == ["on", "off", "on"]
