from __future__ import annotations

from tests.unit.storage.makers import START, a_beat
from tidegate.storage.records import Acknowledgement
from tidegate.storage.store import Store


def test_the_newest_beat_counts(store: Store) -> None:
    with store.begin() as unit:
        unit.instances.beat(a_beat("a", START + 5, snapshot=3, models={"iris": {"baseline": "1"}}))
        unit.instances.beat(a_beat("a", START + 4, snapshot=2))
    with store.read() as unit:
        [found] = unit.instances.all()
    assert found == a_beat("a", START + 5, snapshot=3, models={"iris": {"baseline": "1"}})


def test_a_clock_that_was_put_back_does_not_make_an_instance_live_for_ever(store: Store) -> None:
    """R11: releases would wait for it long after its end."""
    with store.begin() as unit:
        for time in (START + 3600, START):
            unit.instances.beat(a_beat("a", time))
    with store.read() as unit:
        assert unit.instances.live(START + 5, within=10) == [a_beat("a", START)]
        assert unit.instances.live(START + 11, within=10) == []


def test_live_are_those_heard_of_lately(store: Store) -> None:
    with store.begin() as unit:
        for name, age in [("b", 1), ("a", 10), ("old", 11)]:
            unit.instances.beat(a_beat(name, START - age))
    with store.read() as unit:
        assert [beat.instance for beat in unit.instances.live(START, within=10)] == ["a", "b"]
        assert len(unit.instances.all()) == 3


def test_an_acknowledgement_replaces_the_failure_before(store: Store) -> None:
    with store.begin() as unit:
        unit.instances.acknowledge(2, "a", START, error="no such file")
        unit.instances.acknowledge(2, "b", START + 1)
        unit.instances.acknowledge(3, "a", START)
        unit.instances.acknowledge(2, "a", START + 2)
    with store.read() as unit:
        assert unit.instances.acknowledgements(2) == [
            Acknowledgement(2, "b", START + 1),
            Acknowledgement(2, "a", START + 2),
        ]
        assert unit.instances.acknowledgements(9) == []
