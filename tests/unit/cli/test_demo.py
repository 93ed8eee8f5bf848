"""What the demo prepares before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.cli.demo import register
from tidegate.cli.demo_models import Made
from tidegate.cli.demo_traffic import Traffic
from tidegate.control.registry.files import FilesRegistry


def test_a_folder_below_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `make run`, which names none: run/demo."""
    monkeypatch.chdir(tmp_path)
    folder = Path("run") / "demo"
    folder.mkdir(parents=True)
    for name in ("weak", "better", "faulty"):
        (folder / name).write_text(name)
    register(folder, Made(folder / "weak", folder / "better", folder / "faulty", [], []))
    versions = FilesRegistry(folder / "registry").versions("iris")
    assert [(version.version, version.aliases) for version in versions] == [("3", ()), ("2", ()), ("1", ("champion",))]


def test_traffic_that_never_began_can_be_stopped() -> None:
    """Else a server that does not come up is left running, for its end comes after that of the traffic."""
    nothing = Made(Path(), Path(), Path(), [], [])
    Traffic(1, nothing, 1.0).stop()
