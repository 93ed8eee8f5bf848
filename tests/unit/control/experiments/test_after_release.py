"""An experiment on an endpoint where a release was just promoted, and its old version is still warm."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.control.experiments.test_service import a_spec
from tests.unit.control.releases.plane import Plane
from tidegate.control.experiments.service import ExperimentService
from tidegate.control.releases.machine import IllegalTransition


def test_an_experiment_gives_up_the_version_that_a_release_kept_warm(tmp_path: Path) -> None:
    plane = Plane(tmp_path, instances=1)
    release = plane.start()
    release = plane.until(release.id, "promoted", requests=300)
    assert "previous" in {variant.name for variant in plane.plan().variants}
    assert release.warm_until > plane.clock.wall()
    service = ExperimentService(plane.store, plane.registry, plane.settings, plane.clock, "one")
    service.start(a_spec(endpoint="iris", arms=[{"name": "green", "model": "models:/iris/3", "share": 50}]), who="ann")
    for _ in range(4):
        plane.clock.advance(1)
        plane.follow()
        service.tick()
        plane.service.tick()
    assert service.get("button").state == "running"
    assert any("experiment button began" in line.text for line in plane.service.events(release.id))
    with pytest.raises(IllegalTransition, match="not kept warm"):
        plane.service.rollback(release.id, who="ann")
    plane.clock.advance(release.warm_until)
    plane.follow()
    plane.service.tick()
    service.tick()
    assert service.get("button").state == "running", "what was to be retired later is no longer its business"
    service.stop("button", who="ann", reason="enough")
    assert [(variant.name, variant.model.version) for variant in plane.plan().variants] == [("baseline", "2")]
    assert plane.service.replay(release.id).agrees
    plane.close()
