"""The whole way of a release, on a real store with fake instances."""

from __future__ import annotations

from tests.unit.control.releases.plane import Plane


def test_a_good_candidate_is_promoted(plane: Plane) -> None:
    release = plane.start(reason="retrained")
    assert release.state == "pending"
    assert [variant.share for variant in plane.plan().variants] == [0, 0]

    seen: list[str] = [release.state]
    for _ in range(60):
        plane.seconds(1)
        release = plane.service.get(release.id)
        if release.state != seen[-1]:
            seen.append(release.state)
        if release.state == "promoted":
            break
    assert seen == ["pending", "ramping", "baking", "promoted"], release.waiting
    assert plane.plan().baseline.model.version == "2"
    assert [(variant.name, variant.share) for variant in plane.plan().variants] == [("baseline", 0), ("previous", 0)]
    plane.seconds(1)
    plane.check()
    replay = plane.service.replay(release.id)
    assert replay.agrees, replay.findings
    assert replay.windows > 0
