"""The tests of the release service once more, on PostgreSQL; and what only several writers at once can show."""

from __future__ import annotations

import threading

import pytest

from tests.unit.control.releases.plane import Plane
from tests.unit.control.releases.test_aliases import *  # noqa: F403
from tests.unit.control.releases.test_configured import *  # noqa: F403
from tests.unit.control.releases.test_leading import *  # noqa: F403
from tests.unit.control.releases.test_service import *  # noqa: F403
from tidegate.control.releases.release import Release
from tidegate.errors import TidegateError

pytestmark = pytest.mark.slow


def test_of_several_starts_at_once_one_wins(plane: Plane) -> None:
    services = [plane.another(f"control-{number}") for number in range(6)]
    found: list[Release | TidegateError] = []
    together = threading.Barrier(len(services))

    def start(number: int) -> None:
        together.wait(10)
        try:
            found.append(services[number].start("iris", f"models:/iris/{2 + number}", who="ann"))
        except TidegateError as error:
            found.append(error)

    threads = [threading.Thread(target=start, args=(number,)) for number in range(len(services))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    begun = [one for one in found if isinstance(one, Release)]
    assert len(begun) == 1
    assert all("is open on iris" in str(one) for one in found if not isinstance(one, Release))
    assert plane.plan().variants[1].model == begun[0].candidate


def test_acts_and_looks_at_once_lose_nothing(plane: Plane) -> None:
    """Publications build on each other: none of them undoes another one's."""
    release = plane.start()
    plane.until(release.id, "ramping")
    second = plane.another("two")

    def meddle() -> None:
        for _ in range(10):
            second.pause(release.id, who="bob")
            second.resume(release.id, who="bob")

    thread = threading.Thread(target=meddle)
    thread.start()
    while thread.is_alive():
        plane.seconds(1)
    thread.join(30)
    assert plane.until(release.id, "promoted").state == "promoted"
    plane.seconds(3)
    plane.check()
    replay = plane.service.replay(release.id)
    assert replay.agrees, replay.findings
