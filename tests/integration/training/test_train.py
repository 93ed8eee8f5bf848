"""Trainings from the file to the registry, and what is served of them; real parts throughout."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import yaml

from tests.integration.training.place import Place
from tests.unit.control.training.tables import churn
from tidegate.apps.training import opening
from tidegate.cli import app
from tidegate.control.monitoring.profiles import decode
from tidegate.control.registry.files import FilesRegistry
from tidegate.control.training.train import version_of
from tidegate.errors import UserError
from tidegate.registry_files import registry_folder

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def registry(place: Place) -> FilesRegistry:
    return FilesRegistry(registry_folder(place.loaded.settings.registry, place.folder))


def test_from_a_table_to_what_is_served(place: Place) -> None:
    """One run through everything: families, hold-out, gate, profile, registry, and the same rows in another order."""
    place.describe(
        families={
            "logistic_regression": {"C": [0.1, 1.0]},
            "random_forest": {"n_estimators": 20},
            "knn": {"n_neighbors": 900},
        }
    )
    trained = place.train()
    assert trained.accepted
    assert trained.gate.reason.startswith("there is no champion; accuracy 0.")
    assert trained.compiled, trained.compile_note
    assert (trained.rows.read, trained.rows.train + trained.rows.test) == (400, 400)
    [failed] = [one for one in trained.tried if one.error]
    assert failed.family == "knn", "a family that cannot be fitted is told, and no reason to end"

    version = registry(place).get("churn", "1")
    assert version.aliases == ("challenger", "champion")
    assert version.signature is not None
    assert version.signature.columns == ("age", "charges", "plan")
    assert json.loads(version.metadata["metrics"])["accuracy"]["value"] == trained.metrics["accuracy"].value
    profile = decode(registry(place).profile(version, 10_000_000))
    assert set(profile.columns) == {"age", "charges", "plan", "prediction", "score"}
    assert profile.rows == 400, "each row by a fit that had not seen it"

    served = opening(place.loaded.settings, place.folder)(registry(place).ref("models:/churn@champion"))
    rows = {
        "age": np.array([40.0, np.nan]),
        "charges": np.array([99.0, 11.0]),
        "plan": np.array(["monthly"] * 2, object),
    }
    assert served.predict(rows)["predictions"].tolist() == [1, 0]

    files = {file.name for file in (place.folder / "run" / "t-1").iterdir()}
    assert files >= {"report.html", "report.md", "report.json", "rejected.csv", "roc.png", "confusion_matrix.png"}

    place.write(churn(400).sample(frac=1, random_state=1))
    again = place.train("t-2", register=False)
    assert (again.data_digest, again.model_digest) == (trained.data_digest, trained.model_digest)
    assert again.version == ""


def test_what_is_worse_is_refused_and_not_registered(place: Place) -> None:
    place.train()
    frame = churn(400)
    frame["churned"] = np.where(frame["charges"] > 55, frame["churned"], 1 - frame["churned"])
    place.describe(families={"decision_tree": {"max_depth": 1}}, gate={"min_gain": 0.05})
    refused = place.train("t-2")
    assert not refused.accepted
    assert "not shown to be better by 0.05" in refused.gate.reason
    assert refused.version == ""
    assert len(registry(place).versions("churn")) == 1
    assert "refused: not shown" in (place.folder / "run" / "t-2" / "report.md").read_text()


def test_gaps_smote_units_and_time(place: Place) -> None:
    """What changes the pipeline, in one training: it is still served, by name, with a category missing."""
    frame = churn(500)
    frame.loc[::9, "plan"] = None
    frame.loc[::11, "age"] = None
    frame = frame.assign(
        when=pandas.date_range("2026-01-01", periods=500, freq="h"), customer=[n // 2 for n in range(500)]
    )
    place.write(frame)
    place.describe(
        split={"by": "time", "time": "when", "unit": "customer"},
        features={"smote": True, "numbers": {"scale": "robust"}},
        gate={"metric": "f1"},
        families={"decision_tree": {"max_depth": 4}},
    )
    trained = place.train()
    assert trained.features == ("age", "charges", "plan")
    assert trained.rows.test == 100
    served = opening(place.loaded.settings, place.folder)(registry(place).ref("models:/churn@champion"))
    rows = {"age": np.array([np.nan]), "charges": np.array([99.0]), "plan": np.array([None], object)}
    assert served.predict(rows)["predictions"].tolist() == [1]


def test_regression_on_numbers_takes_a_matrix(place: Place) -> None:
    place.write(churn(300)[["age", "charges"]].assign(spent=lambda table: 3 * table["charges"] + table["age"]))
    place.describe(
        schema=None, target="spent", task="regression", families={"ridge": None, "knn": None}, gate={"metric": "rmse"}
    )
    trained = place.train()
    assert trained.best.family == "ridge"
    assert trained.metrics["rmse"].value < 1
    served = opening(place.loaded.settings, place.folder)(registry(place).ref("models:/churn@champion"))
    assert served.signature.is_matrix
    assert served.predict({"x": np.array([[40.0, 50.0]])})["predictions"][0] == pytest.approx(190, abs=2)


def test_rows_from_a_database(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with sqlite3.connect(place.folder / "data.db") as connection:
        churn(200).to_sql("customers", connection, index=False)
    connection.close()
    monkeypatch.setenv("CHURN_DATABASE", f"sqlite:///{place.folder / 'data.db'}")
    source = {"url": "$CHURN_DATABASE", "query": "SELECT * FROM customers"}
    place.describe(data={"sql": source})
    trained = place.train(register=False)
    assert (trained.rows.read, trained.origins[0].kind) == (200, "sql")
    place.describe(data={"sql": source | {"query": "SELECT * FROM nowhere"}})
    with pytest.raises(UserError, match=r"data\.sql: the query failed: no such table: nowhere"):
        place.train("t-2")


def test_rows_that_dvc_tracks(place: Place) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *words], cwd=place.folder, check=True)

    def dvc(*words: str) -> None:
        subprocess.run([sys.executable, "-W", "ignore", "-m", "dvc", *words], cwd=place.folder, check=True)

    git("init", "-q")
    dvc("init", "-q")
    dvc("add", "-q", "churn.csv")
    git("add", "churn.csv.dvc", ".dvc", ".gitignore")
    git("commit", "-qm", "first")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=place.folder, capture_output=True, check=True, text=True)
    place.write(churn(200, seed=5))
    dvc("add", "-q", "churn.csv")
    git("commit", "-qam", "second")
    place.describe(data={"dvc": {"path": "churn.csv", "rev": "HEAD~1"}})
    trained = place.train(register=False)
    [origin] = trained.origins
    assert trained.rows.read == 400
    assert (origin.kind, origin.revision) == ("dvc", commit.stdout.strip())
    assert len(origin.md5) == 32
    assert trained.environment.code.rstrip("+") != origin.revision


def test_a_metric_that_the_hold_out_does_not_define(place: Place) -> None:
    """All of the newest rows are of one class: there is no order of two to be right about."""
    frame = churn(300).assign(when=range(300))
    frame.loc[frame.index[-80:], "churned"] = 1
    place.write(frame)
    place.describe(split={"by": "time", "time": "when"}, gate={"metric": "roc_auc"})
    with pytest.raises(UserError, match="roc_auc is not defined on the 60 rows held out"):
        place.train()


def test_the_command_prints_what_it_decided(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", str(place.folder / "train.yaml"), "--config", str(place.configuration)]
    app(arguments, standalone_mode=False)
    said = capsys.readouterr().out
    assert "accepted: there is no champion" in said
    assert "registered as models:/churn/1; serve it with: tidegate serve models:/churn/1" in said
    place.describe(gate={"min_gain": 0.2})
    with pytest.raises(SystemExit) as ended:
        app([*arguments, "--json"], standalone_mode=False)
    assert ended.value.code == 1
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["gate"]["accepted"] is False
    assert version_of(registry(place), "churn", "nothing") is None


def test_a_mistake_is_one_line(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    text = yaml.safe_load((place.folder / "train.yaml").read_text()) | {"target": "gone", "schema": {}}
    (place.folder / "train.yaml").write_text(yaml.safe_dump(text))
    with pytest.raises(SystemExit) as ended:
        app(["train", str(place.folder / "train.yaml"), "--config", str(place.configuration)], standalone_mode=False)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: data: column 'gone' is missing; there are: age, charges, churned, plan\n"
