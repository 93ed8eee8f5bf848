"""``tidegate store`` on a SQLite file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import Result

from tests.unit.cli.command import run
from tests.unit.storage.makers import START, an_event
from tidegate.apps.up import DATABASE, defaults
from tidegate.settings import Settings
from tidegate.storage.schema import HEAD
from tidegate.storage.store import open_store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    url = f"sqlite:///{(tmp_path / 'store.db').as_posix()}"
    (tmp_path / "tidegate.yaml").write_text(f"store: {{url: '{url}', retention: {{events: 1d}}}}\n")
    return tmp_path


def store(folder: Path, *arguments: str) -> Result:
    return run("store", *arguments, "--config", str(folder / "tidegate.yaml"))


def test_migrate_then_status(folder: Path) -> None:
    for _ in range(2):
        migrated = store(folder, "migrate")
        assert (migrated.exit_code, migrated.output) == (0, f"the store is at version {HEAD}\n")
    shown = store(folder, "status")
    assert shown.exit_code == 0
    assert shown.output.startswith(f"version {HEAD}\n")
    assert "release_evidence" in shown.output


@pytest.mark.parametrize("command", ["status", "purge"])
def test_a_store_that_is_not_migrated(folder: Path, command: str) -> None:
    result = store(folder, command)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: there is no store at")
    assert result.stderr.endswith("run: tidegate store migrate\n")


def test_purge_follows_the_configuration(folder: Path) -> None:
    store(folder, "migrate")
    opened = open_store(f"sqlite:///{folder / 'store.db'}")
    with opened.begin() as unit:
        unit.events.add([an_event("old", time=START), an_event("new", time=9e9)])
    result = store(folder, "purge")
    assert result.exit_code == 0
    assert result.output.split() == ["events", "1", "1", "rows", "deleted"]
    with opened.read() as unit:
        assert unit.events.count() == 1
    opened.close()


def test_the_store_that_up_keeps_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tidegate.yaml").write_text("{}\n")
    monkeypatch.chdir(tmp_path)
    open_store(f"sqlite:///{tmp_path}/run/{DATABASE}", migrate=True).close()
    assert store(tmp_path, "status").output.startswith(f"version {HEAD}\n")


@pytest.mark.parametrize("name", ["a#b", "a%41b", "a b@é", *(["what?", "c:d"] if sys.platform != "win32" else [])])
def test_any_folder_may_hold_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    config = folder / "tidegate.yaml"
    config.write_text("{}\n")
    environment = defaults(Settings(), folder / "run")
    migrated = run("store", "migrate", "--config", str(config), environment=environment)
    assert migrated.output == f"the store is at version {HEAD}\n"
    assert (folder / "run" / DATABASE).exists()
    assert store(folder, "status").output.startswith(f"version {HEAD}\n")
    config.write_text("store: {url: 'sqlite:///beside.db?timeout=3'}\n")
    assert store(folder, "migrate").output == f"the store is at version {HEAD}\n"
    assert (folder / "beside.db").exists()
    assert list(tmp_path.iterdir()) == [folder]


def test_no_store_is_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tidegate.yaml").write_text("{}\n")
    result = store(tmp_path, "status")
    assert result.exit_code == 2
    assert "set store.url" in result.stderr


def test_a_store_that_is_away_is_one_line(folder: Path) -> None:
    (folder / "broken.db").write_bytes(b"x" * 5000)
    result = store(folder, "status", "--url", f"sqlite:///{folder / 'broken.db'}")
    assert result.exit_code == 2
    assert result.stderr == "error: the file of the store is no SQLite database: file is not a database\n"
