from __future__ import annotations

import threading

import msgspec
import pytest

from tests.unit.storage.makers import START, a_snapshot
from tidegate.storage.store import Store


def publish(store: Store, share: int = 0) -> int:
    with store.begin() as unit:
        return unit.snapshots.publish(a_snapshot(share), reason="r", author="ann", release="r1", at=START).number


def test_the_first_publication_is_number_two(store: Store) -> None:
    with store.read() as unit:
        assert unit.snapshots.latest() is None
    assert [publish(store, 100), publish(store, 500)] == [2, 3]


def test_what_was_published_comes_back_whole(store: Store) -> None:
    number = publish(store, 500)
    with store.read() as unit:
        found = unit.snapshots.latest()
        assert found is not None
        assert (found.number, found.published, found.reason, found.author, found.release) == (
            2,
            START,
            "r",
            "ann",
            "r1",
        )
        assert found.snapshot == msgspec.structs.replace(a_snapshot(500), number=number)
        assert unit.snapshots.get(number) == found
        assert unit.snapshots.get(99) is None


def test_history_goes_back_page_by_page(store: Store) -> None:
    for share in range(5):
        publish(store, share)
    with store.read() as unit:
        first = unit.snapshots.history(limit=3)
        second = unit.snapshots.history(limit=3, before=first[-1].number)
    assert [one.number for one in first + second] == [6, 5, 4, 3, 2]


def test_a_unit_that_fails_publishes_nothing(store: Store) -> None:
    def fail() -> None:
        with store.begin() as unit:
            unit.snapshots.publish(a_snapshot(), reason="r", author="ann", at=START)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert publish(store) == 2


def test_many_publishers_give_numbers_without_gaps(store: Store) -> None:
    """Lost or doubled numbers would leave a data plane on a route that nobody decided: kserve/kserve#5335."""
    found: list[int] = []

    def some() -> None:
        for _ in range(5):
            found.append(publish(store))

    threads = [threading.Thread(target=some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(2, 22))
    with store.read() as unit:
        assert [one.number for one in unit.snapshots.history()] == sorted(found, reverse=True)
