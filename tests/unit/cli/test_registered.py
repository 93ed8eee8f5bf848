"""``tidegate model register|list|alias`` on a registry of files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result

from tests.unit.cli.command import run
from tidegate.serving.runtimes.load import load_model
from tidegate.serving.snapshots.file import snapshot_of, trusted, watched_files
from tidegate.settings import EndpointSettings, Registry, Settings, VariantSettings
from tidegate.testing import models


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "tidegate.yaml").write_text("registry: {uri: kept}\n")
    return tmp_path


def model(folder: Path, *arguments: str) -> Result:
    named = ("--config", str(folder / "tidegate.yaml"))
    return run("model", *arguments, *named)


@pytest.fixture
def iris(folder: Path) -> Path:
    return models.write_joblib(models.iris_forest(3), folder / "forest.joblib")


@pytest.mark.slow
def test_register_list_and_alias(folder: Path, iris: Path) -> None:
    empty = model(folder, "list")
    assert "nothing is registered yet" in empty.stdout
    made = model(folder, "register", "iris", str(iris), "--alias", "champion", "--meta", "accuracy=0.93")
    assert made.exit_code == 0, made.output
    assert "iris version 1 is registered, sha256:" in made.stdout
    assert "serve it as models:/iris@champion" in made.stdout
    again = json.loads(model(folder, "register", "iris", str(iris), "--json").stdout)
    assert (again["version"], again["signature"]["inputs"][0]["shape"]) == ("2", [-1, 4])
    assert Path(again["uri"]).is_relative_to(folder / "kept")
    shown = model(folder, "list", "iris").stdout
    for text in ("champion", "accuracy=0.93", "4 columns", again["digest"][7:15]):
        assert text in shown
    model(folder, "register", "odd", str(iris), "--meta", "a=[/b]", "--unchecked")
    assert "a=[/b]" in model(folder, "list", "odd").stdout
    moved = model(folder, "alias", "iris", "champion", "latest")
    assert moved.stdout == "champion of iris points to version 2\n"
    assert json.loads(model(folder, "list", "--json").stdout)[0]["aliases"] == ["champion"]
    assert model(folder, "alias", "iris", "champion", "--remove").stdout == "champion of iris is removed\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("register", "../iris", "{model}"), "cannot be a model's name"),
        (("register", "iris", "{model}", "--alias", "v1"), "cannot be an alias"),
        (("register", "iris", "missing.onnx"), "no such file or folder"),
        (("register", "iris", "{model}", "--meta", "accuracy"), "write KEY=VALUE"),
        (("register", "iris", "runs:/abc/model", "--unchecked"), "keeps copies of files and folders"),
        (("list", "nobody"), "the registry has no model nobody"),
        (("alias", "nobody", "champion", "1"), "no version 1 of nobody"),
        (("alias", "iris", "champion"), "give a version, or --remove"),
        (("alias", "iris", "champion", "1", "--remove"), "give a version, or --remove"),
    ],
)
def test_a_mistake_is_one_line(folder: Path, iris: Path, arguments: tuple[str, ...], said: str) -> None:
    failed = model(folder, *(argument.format(model=iris) for argument in arguments))
    assert failed.exit_code == 2
    assert failed.stderr.count("\n") == 1
    assert said in failed.stderr
    assert not (folder / "kept").exists()


def test_what_cannot_serve_is_not_registered(folder: Path) -> None:
    (folder / "broken.onnx").write_bytes(b"\x08\x07\x12no graph")
    failed = model(folder, "register", "iris", str(folder / "broken.onnx"))
    assert failed.exit_code == 2
    assert not (folder / "kept").exists()
    assert model(folder, "register", "iris", str(folder / "broken.onnx"), "--unchecked").exit_code == 0


def test_without_an_address_nothing_is_made_for_mlflow(folder: Path, iris: Path) -> None:
    (folder / "tidegate.yaml").write_text("registry: {kind: mlflow}\n")
    before = sorted(folder.iterdir())
    failed = model(folder, "register", "iris", str(iris))
    assert failed.exit_code == 2
    assert "registry.uri in tidegate.yaml or MLFLOW_TRACKING_URI" in failed.stderr
    assert sorted(folder.iterdir()) == before


@pytest.mark.slow
def test_the_data_plane_loads_what_was_registered(folder: Path, iris: Path) -> None:
    """mlflow/mlflow#1768, #12589: the alias moves, and the next look at the configuration follows it."""
    model(folder, "register", "iris", str(iris), "--alias", "champion")
    settings = Settings(
        endpoints={
            "flowers": EndpointSettings(
                model="models:/iris@champion", variants={"old": VariantSettings(model="models:/iris/1")}
            )
        },
        registry=Registry(uri="kept"),
    )
    trust = trusted(settings, folder)
    first = snapshot_of(settings, folder, 1, trust).endpoints["flowers"]
    assert first.variants[0].model.digest == first.variants[1].model.digest
    assert (first.baseline.model.name, first.baseline.model.version) == ("iris", "1")
    assert load_model(first.baseline.model, trust).facts.digest == first.baseline.model.digest
    watched = watched_files(settings, folder)

    models.write_joblib(models.iris_forest(5), iris)
    model(folder, "register", "iris", str(iris), "--alias", "champion")
    assert watched_files(settings, folder) != watched  # so that server.watch notices
    then = snapshot_of(settings, folder, 2, trust).endpoints["flowers"]
    assert (then.baseline.model.version, then.variants[1].model.version) == ("2", "1")
    assert load_model(then.baseline.model, trust).facts.digest == then.baseline.model.digest
