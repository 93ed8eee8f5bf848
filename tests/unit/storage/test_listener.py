from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from pathlib import Path

from tests.process import until
from tests.unit.storage.makers import START, a_snapshot, a_window
from tidegate.errors import StoreAway
from tidegate.storage.listener import REPLACED_SECONDS, SqliteListener
from tidegate.storage.store import Store, Unit, open_store


def publish(store: Store) -> None:
    with store.begin() as unit:
        unit.snapshots.publish(a_snapshot(), reason="r", author="ann", at=START)


def test_a_listener_hears_of_what_was_there_before_it(store: Store) -> None:
    publish(store)
    listener = store.listen()
    assert listener.wait(10)
    assert not listener.wait(0)
    listener.close()


def test_a_listener_hears_of_each_publication_and_of_nothing_else(store: Store) -> None:
    listener = store.listen()
    assert not listener.wait(0)
    for _ in range(3):
        publish(store)
        assert listener.wait(10)
    with store.begin() as unit:
        unit.windows.add([a_window(1)])
    assert not listener.wait(0.1)
    listener.close()


def test_a_waiting_listener_is_woken_by_a_publication(store: Store) -> None:
    listener, heard, entered = store.listen(), list[bool](), threading.Event()
    assert not listener.wait(0)

    def wait() -> None:
        entered.set()
        heard.append(listener.wait(30))

    thread = threading.Thread(target=wait)
    thread.start()
    entered.wait()
    publish(store)
    thread.join(20)
    assert heard == [True]
    listener.close()


def test_closing_ends_a_wait(store: Store) -> None:
    listener, heard = store.listen(), list[bool]()
    thread = threading.Thread(target=lambda: heard.append(listener.wait(60)))
    thread.start()
    listener.close()
    until(lambda: heard == [False], "the wait ended")
    thread.join()


class Looks:
    """How often the store was read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.number = 0
        self.away = False

    def read(self) -> AbstractContextManager[Unit]:
        self.number += 1
        if self.away:
            raise StoreAway("the store is busy")
        return self._store.read()


def test_a_file_that_nobody_writes_is_not_read_again(tmp_path: Path) -> None:
    """An idle instance asks twenty times a second, so that asking must cost next to nothing."""
    path = tmp_path / "store.db"
    store = open_store(f"sqlite:///{path}", migrate=True)
    looks = Looks(store)
    listener = SqliteListener(looks.read, path, monotonic=lambda: 0.0)
    listener.wait(0)
    before = looks.number
    for _ in range(100):
        assert not listener.wait(0)
    assert looks.number == before
    publish(store)
    assert listener.wait(0)
    assert looks.number == before + 1
    listener.close()
    store.close()


def test_it_is_read_now_and_then_in_case_another_was_put_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = open_store(f"sqlite:///{path}", migrate=True)
    looks, now = Looks(store), [0.0]
    listener = SqliteListener(looks.read, path, monotonic=lambda: now[0])
    listener.wait(0)
    before = looks.number
    now[0] += REPLACED_SECONDS
    listener.wait(0)
    assert looks.number == before + 1
    listener.close()
    store.close()


def test_what_could_not_be_read_when_it_was_written_is_read_at_the_next_look(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = open_store(f"sqlite:///{path}", migrate=True)
    looks = Looks(store)
    listener = SqliteListener(looks.read, path, monotonic=lambda: 0.0)
    listener.wait(0)
    publish(store)
    looks.away = True
    assert not listener.wait(0)
    looks.away = False
    assert listener.wait(0)
    listener.close()
    store.close()


def test_of_a_file_that_was_put_in_its_place_it_hears_as_soon(tmp_path: Path) -> None:
    path, fresh = tmp_path / "store.db", tmp_path / "fresh.db"
    store = open_store(f"sqlite:///{path}", migrate=True)
    open_store(f"sqlite:///{fresh}", migrate=True).close()
    now = [0.0]
    listener = SqliteListener(store.read, path, monotonic=lambda: now[0])
    listener.wait(0)
    for file in tmp_path.glob("store.db*"):
        file.unlink()
    fresh.rename(path)
    now[0] += REPLACED_SECONDS
    assert not listener.wait(0)
    publish(store)
    assert listener.wait(0)
    listener.close()
    store.close()
