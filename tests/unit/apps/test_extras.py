"""Without its extra a command says so in one line, and starts nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.unit.cli.command import run
from tidegate.apps.serve import serve
from tidegate.config import Loaded
from tidegate.errors import ConfigError, MissingExtra
from tidegate.settings import EndpointSettings, Settings, Store


def serve_with(url: str, folder: Path) -> None:
    settings = Settings(endpoints={"a": EndpointSettings(model="fake:")}, store=Store(url=url))
    loaded = Loaded(settings=settings, origins={}, base=folder, file=None)
    serve(loaded, lambda: loaded)


@pytest.mark.parametrize("command", ["up", "control", "demo"])
def test_the_control_plane_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    (tmp_path / "tidegate.yaml").write_text("endpoints: {a: {model: 'fake:'}}\n")
    monkeypatch.chdir(tmp_path)
    result = run(command)
    assert result.exit_code == 2
    assert result.stderr == (
        'error: tidegate[control] is needed for the control plane: pip install "tidegate[control]"\n'
    )
    assert [path.name for path in tmp_path.iterdir()] == ["tidegate.yaml"]


def test_serving_needs_an_extra_for_a_store_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(MissingExtra, match=r"tidegate\[store\] is needed for a store"):
        serve_with("sqlite:///x.db", tmp_path)


def test_serving_needs_the_driver_of_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or it would serve on, and take the store for one that is away."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match=r"tidegate\[postgres\] is needed for a store in PostgreSQL"):
        serve_with("postgresql+psycopg://db/tidegate", tmp_path)


@pytest.mark.parametrize("url", ["mysql://ann:secret@db/tidegate", "store.db"])
def test_a_url_that_names_no_store_ends_the_start(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"store\.url: .*sqlite:///file") as refused:
        serve_with(url, tmp_path)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("arguments", [["store", "status", "--url", "sqlite:///x.db"]])
def test_store_commands_need_the_stores_extra(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.setitem(sys.modules, "alembic", None)
    result = run(*arguments)
    assert (result.exit_code, result.stderr[:32]) == (2, "error: tidegate[store] is needed")
