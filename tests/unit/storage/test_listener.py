from __future__ import annotations

import threading

from tests.process import until
from tests.unit.storage.makers import START, a_snapshot, a_window
from tidegate.storage.store import Store


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
