"""Paths that callers name: of models to register, to release, to try in an experiment."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.control.api.plane import Plane
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
