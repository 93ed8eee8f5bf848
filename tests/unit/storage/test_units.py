from __future__ import annotations

import pytest

from tests.unit.storage.makers import START, a_change, a_release, a_snapshot, a_window, an_event
from tidegate.errors import Conflict
from tidegate.storage.store import Store, open_store


def test_all_of_a_unit_or_nothing(store: Store) -> None:
    def change() -> None:
        with store.begin() as unit:
            unit.releases.add(a_release("r1"), a_change("r1"))
            unit.snapshots.publish(a_snapshot(), reason="r", author="ann", at=START)
            unit.audit.append("ann", "a", "t", "{}", START)
            unit.releases.save(a_release("r1", revision=3), None, expected=2)

    with pytest.raises(Conflict):
        change()
    with store.read() as unit:
        assert unit.releases.get("r1") is None
        assert unit.snapshots.latest() is None
        assert unit.audit.last() is None


def test_a_read_sees_one_state(store: Store) -> None:
    with store.read() as unit:
        assert unit.events.count() == 0
        with store.begin() as other:
            other.events.add([an_event("r1")])
        assert unit.events.count() == 0
    with store.read() as unit:
        assert unit.events.count() == 1


def test_a_reading_unit_cannot_write(store: Store) -> None:
    with pytest.raises(Exception, match=r"read-?only"), store.read() as unit:
        unit.events.add([an_event("r1")])
    with store.begin() as unit:
        unit.events.add([an_event("r1")])


def test_what_one_store_wrote_another_reads(store: Store, url: str) -> None:
    with store.begin(durable=False) as unit:
        unit.windows.add([a_window(1)])
    other = open_store(url)
    with other.read() as unit:
        assert len(unit.windows.after("iris", 0)) == 1
    other.close()


def test_ping(store: Store) -> None:
    store.ping()
