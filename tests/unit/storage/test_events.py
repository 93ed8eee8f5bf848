from __future__ import annotations

from tests.unit.storage.makers import START, an_event
from tidegate.storage.store import Store


def test_events_come_back_whole(store: Store) -> None:
    event = an_event("r1", unit="ann", rows=3, forced=True, cached=True, inputs=b"\x00\xff", outputs=b"")
    with store.begin() as unit:
        unit.events.add([event])
        unit.events.add([])
    with store.read() as unit:
        assert unit.events.between("iris", START, START + 1) == [event]
        assert unit.events.count() == 1


def test_units_that_do_nothing_else_are_kept(store: Store) -> None:
    """On PostgreSQL events go past SQLAlchemy, which has to be told of the transaction."""
    store.ping()
    for number in range(3):
        with store.begin(durable=number % 2 == 0) as unit:
            unit.events.add([an_event(f"r{number}")])
    with store.read() as unit:
        assert unit.events.count() == 3


def test_the_newest_come_first(store: Store) -> None:
    with store.begin() as unit:
        unit.events.add([an_event(f"r{n}", time=START + n) for n in range(5)])
        unit.events.add([an_event("other", endpoint="other")])
    with store.read() as unit:
        assert [one.request_id for one in unit.events.between("iris", START + 1, START + 4, limit=2)] == ["r3", "r2"]


def test_the_newest_of_a_variant(store: Store) -> None:
    with store.begin() as unit:
        unit.events.add([an_event(f"r{n}", time=START + n, variant="ab"[n % 2]) for n in range(400)])
        unit.events.add(
            [an_event("forced", forced=True, variant="a"), an_event("other", endpoint="other", variant="a")]
        )
    with store.read() as unit:
        found = [one.request_id for one in unit.events.newest_of("iris", "a", START, START + 399, 150)]
    assert found == [f"r{n}" for n in range(398, 98, -2)]


def test_events_by_the_requests_they_belong_to(store: Store) -> None:
    with store.begin() as unit:
        unit.events.add([an_event(f"r{n}") for n in range(1200)])
        unit.events.add([an_event("r1", variant="candidate"), an_event("r1", endpoint="other")])
    with store.read() as unit:
        found = unit.events.by_request_ids([*(f"r{n}" for n in range(1200)), "unknown"], "iris")
        elsewhere = unit.events.by_request_ids(["r0", "r1"], "other")
        endpoints = unit.events.endpoints_of([*(f"r{n}" for n in range(600)), "unknown"])
    assert len(found) == 1200
    assert found["r1"].variant == "baseline"
    assert {name: event.endpoint for name, event in elsewhere.items()} == {"r1": "other"}
    assert endpoints == {f"r{n}": {"iris"} for n in range(600)} | {"r1": {"iris", "other"}}


def test_text_that_a_database_cannot_keep(store: Store) -> None:
    """A unit from a request's body may hold any character; one that stays unwritten would hold up all that follow."""
    with store.begin() as unit:
        unit.events.add([an_event("r\0", unit="ann\0")])
    with store.read() as unit:
        [found] = unit.events.between("iris", START, START + 1)
    assert (found.request_id, found.unit) == ("r�", "ann�")


def test_answers_of_a_time_in_its_order_without_inputs(store: Store) -> None:
    with store.begin() as unit:
        unit.events.add([an_event(f"r{n}", time=START + n) for n in (3, 1, 2, 0)])
        unit.events.add([an_event("other", time=START + 1, endpoint="other")])
    with store.read() as unit:
        found = [*unit.events.answers("iris", START + 1, START + 3)]
    assert [event.request_id for event in found] == ["r1", "r2"]
    assert {(event.inputs, event.outputs) for event in found} == {(b"", b'{"label":["setosa"]}')}


def test_how_many_predictions_were_kept_of_a_time(store: Store) -> None:
    with store.begin() as unit:
        unit.events.add([an_event(f"r{n}", time=START + n) for n in range(4)])
        unit.events.add([an_event("c", variant="candidate", version="2"), an_event("f", forced=True)])
        unit.events.add([an_event("o", endpoint="other")])
    with store.read() as unit:
        assert unit.events.made("iris", START, START + 3) == {("baseline", "1"): 3, ("candidate", "2"): 1}
