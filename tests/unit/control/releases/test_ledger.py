"""Every window counts once, whenever it comes."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from sqlalchemy import update

from tests.unit.control.releases.plane import PLAN, Plane
from tidegate.observations import VariantWindow
from tidegate.settings import StepPlan
from tidegate.storage.tables import windows


def candidate_requests(plane: Plane, id: str) -> int:  # noqa: A002
    return plane.service.evidence(id)[-1].sides["candidate"].requests


def stored_requests(plane: Plane) -> int:
    with plane.store.read() as unit:
        found = [stored.window for stored in unit.windows.after("iris", 0)]
    return sum(window.requests for window in found if window.variant == "candidate")


def slow(plane: Plane) -> str:
    """A release that stays in its first step."""
    plan = replace(PLAN, step=StepPlan(min_requests=100_000, min_seconds=1, max_seconds=1e6))
    release = plane.start(plan=plan)
    plane.seconds(4)
    return release.id


def test_windows_that_were_committed_late_under_a_lower_id_are_counted_once(plane: Plane) -> None:
    release = slow(plane)
    with plane.store.begin() as unit:  # the next ids are given away, and the one that has them is still writing
        late = plane.instances[0].windows(unit, {}, 50)
        unit.windows.add(late)
        ids = [stored.id for stored in unit.windows.after("iris", 0)][-len(late) :]
        for number in ids:
            query = update(windows).where(windows.c.id == number)
            unit.connection.execute(query.values(endpoint="hidden"))
    plane.seconds(5)
    assert candidate_requests(plane, release) == stored_requests(plane)
    with plane.store.begin() as unit:
        unit.connection.execute(update(windows).where(windows.c.id.in_(ids)).values(endpoint="iris"))
    plane.seconds(7)
    assert candidate_requests(plane, release) == stored_requests(plane)
    restarted = plane.another("two")
    plane.service.stop()
    plane.seconds(7, service=restarted)
    assert candidate_requests(plane, release) == stored_requests(plane)
    assert restarted.replay(release).agrees


def test_windows_of_before_and_of_others_do_not_count(plane: Plane) -> None:
    plane.seconds(5)
    release = slow(plane)
    first = plane.service.get(release).first
    strange = [
        VariantWindow(
            process="x", sequence=number, endpoint="iris", variant=variant, version="9", snapshot=snapshot, share=1000,
            start=plane.clock.wall(), seconds=1.0, requests=1000, failures=1000,
        )
        for number, (variant, snapshot) in enumerate((("candidate", first - 1), ("previous", first), ("other", first)))
    ]  # fmt: skip
    with plane.store.begin() as unit:
        unit.windows.add(strange)
    plane.seconds(3)
    assert plane.service.get(release).state == "ramping"
    assert candidate_requests(plane, release) == stored_requests(plane) - 1000


@pytest.mark.slow
def test_after_a_long_absence_windows_are_read_in_portions(plane: Plane) -> None:
    release = slow(plane)
    for _ in range(200):
        plane.clock.advance(1.0)
        plane.follow({}, 20)
    plane.seconds(2)
    assert candidate_requests(plane, release) == stored_requests(plane)
