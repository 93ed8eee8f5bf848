"""Paths that callers name: of models to register, to release, to try in an experiment."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.unit.control.api.plane import SETTINGS, Plane, control_plane
from tidegate.control.api.sources import served_from, source_of
from tidegate.errors import NotAllowed
from tidegate.settings import Trust

ELSEWHERE = ["/etc/passwd", "file:///etc/passwd", "../outside", "/proc/kcore", "file:/etc", "a/../../outside"]


@pytest.mark.parametrize("uri", ELSEWHERE)
def test_a_path_outside_is_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(NotAllowed, match="not below"):
        source_of(uri, Trust(), tmp_path)


def test_a_link_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(NotAllowed):
        source_of("link/passwd", Trust(), tmp_path)


def test_a_path_below_the_folder_or_a_trusted_one_is_made_absolute(tmp_path: Path) -> None:
    trusted = tmp_path / "trusted"
    here = tmp_path / "here"
    assert source_of("iris.onnx", Trust(), here) == str(here / "iris.onnx")
    assert source_of(f"file://{trusted}/a", Trust(pickles=(str(trusted),)), here) == str(trusted / "a")


def test_a_service_that_starts_in_the_root_does_not_open_the_whole_disk() -> None:
    with pytest.raises(NotAllowed):
        source_of("/etc/passwd", Trust(), Path("/"))


def test_what_is_no_path_is_left_to_the_registry() -> None:
    for uri in ("models:/iris/4", "runs:/1/model", "http://192.0.2.1/", " ", "\0"):
        assert served_from(uri, Trust()) == uri


@pytest.mark.parametrize("uri", ["/etc/passwd", "file:///etc/passwd", "/proc/kcore"])
def test_no_release_and_no_experiment_reads_the_disk(plane: Plane, uri: str) -> None:
    """Else its answer would tell the digest of any file, and reading a device never ends."""
    headers = plane.headers()
    answer = plane.client.post("/api/v1/releases", json={"endpoint": "iris", "model": uri}, headers=headers)
    assert answer.status_code == 403, answer.text
    spec = {
        "name": "t",
        "endpoint": "iris",
        "arms": [{"name": "b", "model": uri, "share": 50}],
        "metrics": [{"name": "m"}],
    }
    answer = plane.client.post("/api/v1/experiments", json=spec, headers=headers)
    assert answer.status_code == 403, answer.text


def test_what_was_uploaded_becomes_no_model(tmp_path: Path) -> None:
    """Else a key that may operate runs code of its own: registered files are trusted, and a pickle is known by its content."""
    trust = Trust(pickles=(str(tmp_path),))
    with control_plane(tmp_path, msgspec.structs.replace(SETTINGS, trust=trust)) as plane:
        headers = plane.headers()
        octets = {"Content-Type": "application/octet-stream", **headers}
        source = plane.client.post("/api/v1/batch-inputs", content=b"\x80\x04.", headers=octets).json()["source"]
        uri = str(plane.folder / "jobs" / "inputs" / source.removeprefix("upload:"))
        assert Path(uri).is_file()
        (tmp_path / "link").symlink_to(uri)
        arms = [{"name": "b", "model": uri, "share": 50}]
        asked = {
            "models": {"name": "m", "uri": uri},
            "releases": {"endpoint": "iris", "model": str(tmp_path / "link")},
            "experiments": {"name": "t", "endpoint": "iris", "arms": arms, "metrics": [{"name": "m"}]},
            "batch-jobs": {"endpoint": "iris", "format": "csv", "source": source, "model": f"file://{uri}"},
        }
        for path, body in asked.items():
            answer = plane.client.post(f"/api/v1/{path}", json=body, headers=headers)
            assert (answer.status_code, "was uploaded" in answer.text) == (403, True), f"{path}: {answer.text}"
