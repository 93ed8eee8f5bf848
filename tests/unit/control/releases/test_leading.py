"""Several control planes on one store: one looks, and a killed or sleeping one does no harm."""

from __future__ import annotations

import gc

import pytest
from msgspec.structs import replace

from tests.unit.control.releases.plane import PLAN, Plane
from tidegate.control.releases.ledger import Ledger
from tidegate.errors import StoreAway
from tidegate.storage.store import Store


def test_one_of_two_looks_and_the_other_takes_over(plane: Plane) -> None:
    """R13."""
    second = plane.another("two")
    release = plane.start()
    plane.seconds(3)
    second.tick()
    assert (plane.service.leads, second.leads) == (True, False)
    step = plane.service.get(release.id)
    plane.seconds(5, service=second)
    assert plane.service.get(release.id).tick == step.tick, "the other one only watches"
    plane.seconds(6, service=second)
    assert second.leads
    assert plane.service.get(release.id).tick > step.tick
    plane.service.tick()
    assert not plane.service.leads
    plane.seconds(40, service=second)
    assert second.get(release.id).state == "promoted"
    replay = second.replay(release.id)
    assert replay.agrees, replay.findings


def test_the_lease_that_is_handed_back_is_taken_at_once(plane: Plane) -> None:
    plane.seconds(1)
    second = plane.another("two")
    plane.service.stop()
    second.tick()
    assert second.leads
    assert not plane.service.leads


def test_a_leader_that_takes_its_place_again_knows_what_the_other_did(plane: Plane) -> None:
    """It slept through the whole turn of the other, and never heard that it was not the leader."""
    release = plane.start()
    plane.seconds(2)
    second = plane.another("two")
    plane.seconds(11, service=second)
    tick = second.get(release.id).tick
    assert second.leads
    assert second.get(release.id).state == "ramping"
    second.stop()
    plane.seconds(40)
    assert plane.service.get(release.id).tick > tick
    assert plane.service.get(release.id).state == "promoted"
    replay = plane.service.replay(release.id)
    assert replay.agrees, replay.findings


def test_a_person_acts_through_any_of_them(plane: Plane) -> None:
    release = plane.start()
    plane.seconds(3)
    second = plane.another("two")
    second.pause(release.id, who="ann", reason="wait")
    plane.seconds(3)
    assert plane.service.get(release.id).state == "paused"
    second.resume(release.id, who="ann")
    plane.until(release.id, "promoted")
    assert plane.service.replay(release.id).agrees


@pytest.mark.slow
def test_evidence_survives_a_restart(plane: Plane) -> None:
    release = plane.start()
    for number in range(60):
        plane.service = plane.another(f"life-{number}") if number % 7 == 3 else plane.service
        plane.seconds(1, requests=30)
        if number % 7 == 2:
            plane.service.stop()
    release = plane.service.get(release.id)
    assert release.state == "promoted"
    replay = plane.service.replay(release.id)
    assert replay.agrees, replay.findings
    with plane.store.read() as unit:
        stored = [s for s in unit.windows.after("iris", 0) if s.window.snapshot >= release.first]
    counted = sum(stored_.window.requests for stored_ in stored if stored_.window.snapshot < release.snapshot)
    seen = plane.service.evidence(release.id)[-1].sides
    assert sum(side.requests for side in seen.values()) <= counted


def test_a_store_that_is_away_is_waited_for(plane: Plane, caplog: pytest.LogCaptureFixture) -> None:
    class Away(Store):
        def __init__(self) -> None:
            super().__init__(plane.store.engine, plane.clock)

        def begin(self, durable: bool = True) -> object:  # type: ignore[override]
            raise StoreAway("the store cannot be reached")

        read = begin  # type: ignore[assignment]

    kept, plane.store = plane.store, Away()
    lonely = plane.another("lonely")
    for _ in range(5):
        lonely.tick()
    assert caplog.text.count("releases wait for the store") == 1
    plane.store = kept


@pytest.mark.slow
def test_nothing_is_remembered_of_a_release_that_has_ended(plane: Plane) -> None:
    """Also where the last thing that happened to it was no look: its alias was moved."""

    def remembered() -> int:
        gc.collect()
        return sum(isinstance(one, Ledger) for one in gc.get_objects())

    before = remembered()
    release = plane.start(plan=replace(PLAN, keep_warm_seconds=0))
    plane.until(release.id, "baking")
    plane.registry.away = True
    plane.until(release.id, "promoted")
    plane.seconds(5)
    assert remembered() > before
    plane.registry.away = False
    plane.seconds(61)
    plane.check()
    assert remembered() == before
