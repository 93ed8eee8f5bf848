"""What the configuration says of endpoints, and when it is published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.unit.control.releases.plane import Plane
from tidegate.control.registry.base import RegistryAway
from tidegate.errors import DigestMismatch
from tidegate.serving.snapshots.file import snapshot_of
from tidegate.settings import EndpointSettings, Settings, Trust, VariantSettings
from tidegate.storage.records import ExperimentRow

Make = Callable[..., Plane]


def configure(plane: Plane, **endpoints: EndpointSettings) -> None:
    plane.settings = replace(plane.settings, endpoints=endpoints)
    plane.service = plane.another("next")


def test_the_first_time_every_endpoint_is_published_and_pinned(plane: Plane) -> None:
    with plane.store.read() as unit:
        newest = unit.snapshots.latest()
    assert newest is not None
    assert (newest.number, newest.author) == (2, "configuration")
    model = plane.plan().baseline.model
    assert (model.name, model.version, model.digest) == ("iris", "1", "sha256:iris-1")
    assert plane.service.bootstrap() is None
    assert plane.another("two").bootstrap() is None


def test_what_was_promoted_stays_when_the_configuration_did_not_change(plane: Plane) -> None:
    release = plane.start()
    plane.until(release.id, "promoted")
    plane.seconds(2)
    assert plane.another("two").bootstrap() is None
    assert plane.plan().baseline.model.version == "2"


def test_a_change_of_the_configuration_is_published_at_once_and_audited(plane: Plane) -> None:
    configure(plane, iris=EndpointSettings(model="models:/iris/3"))
    published = plane.service.bootstrap()
    assert published is not None
    assert published.reason == "configuration: iris serves /models/iris/3 version 3"
    assert plane.plan().baseline.model.version == "3"
    with plane.store.read() as unit:
        [row] = [row for row in unit.audit.list(limit=10, target="configuration:iris") if row.sequence > 1]
    assert (row.who, row.action) == ("configuration", "endpoint.configure")
    assert plane.service.bootstrap() is None


def test_a_change_waits_for_an_open_release(plane: Plane, caplog: pytest.LogCaptureFixture) -> None:
    release = plane.start()
    configure(plane, iris=EndpointSettings(model="models:/iris/3"))
    assert plane.service.bootstrap() is None
    assert f"release {release.id} is open: not now" in caplog.text
    assert plane.plan().baseline.model.version == "1"
    plane.service.rollback(release.id, who="ann")
    assert plane.service.bootstrap() is not None
    assert plane.plan().baseline.model.version == "3"


def test_a_change_waits_for_an_open_experiment(plane: Plane, caplog: pytest.LogCaptureFixture) -> None:
    with plane.store.begin() as unit:
        unit.experiments.add(ExperimentRow("elsewhere", "wine", "running", 1.0, 0, "{}"))
        row = ExperimentRow("colours", "iris", "running", 2.0, 0, "{}")
        unit.experiments.add(row)
    configure(plane, iris=EndpointSettings(model="models:/iris/3"))
    assert plane.service.bootstrap() is None
    assert "endpoint iris was changed in the configuration, but experiment colours is running: not now" in caplog.text
    assert plane.plan().baseline.model.version == "1"
    with plane.store.begin() as unit:
        unit.experiments.save(replace(row, state="stopped", revision=1), expected=0)
    assert plane.service.bootstrap() is not None
    assert plane.plan().baseline.model.version == "3"


def test_a_configuration_without_endpoints_changes_nothing(plane: Plane) -> None:
    configure(plane)
    assert plane.service.bootstrap() is None
    with plane.store.read() as unit:
        newest = unit.snapshots.latest()
    assert newest is not None
    assert newest.snapshot.default_endpoint == "iris"


def test_a_new_endpoint_is_added_beside_the_others(plane: Plane) -> None:
    configure(
        plane,
        iris=plane.settings.endpoints["iris"],
        wine=EndpointSettings(
            model="./wine.onnx", runtime="onnx", variants={"next": VariantSettings(model="./next.onnx", share=5)}
        ),
    )
    published = plane.service.bootstrap()
    assert published is not None
    plan = published.snapshot.endpoints["wine"]
    assert [(variant.name, variant.share) for variant in plan.variants] == [("baseline", 0), ("next", 500)]
    assert plan.baseline.model.runtime == "onnx"
    assert "iris" in published.snapshot.endpoints
    assert published.snapshot.default_endpoint == "iris"


def test_bytes_that_are_not_the_pinned_ones_are_refused(plane: Plane) -> None:
    configure(plane, iris=EndpointSettings(model="models:/iris/3", digest=f"sha256:{'0' * 64}"))
    with pytest.raises(DigestMismatch):
        plane.service.bootstrap()


def test_a_registry_that_is_away_publishes_nothing(plane: Plane) -> None:
    plane.registry.away = True
    with pytest.raises(RegistryAway):
        plane.service.bootstrap()


@pytest.mark.slow
def test_a_fake_model_is_pinned_as_the_data_plane_pins_it(plane: Plane, tmp_path: Path) -> None:
    endpoint = EndpointSettings(model="fake:", options={"offset": 1.0})
    [served] = snapshot_of(Settings(endpoints={"iris": endpoint}), tmp_path, 1, Trust()).endpoints["iris"].variants
    configure(plane, iris=endpoint)
    assert plane.service.bootstrap() is not None
    model = plane.plan().baseline.model
    assert (model.uri, model.version, model.digest) == ("fake:", served.model.version, served.model.digest)
