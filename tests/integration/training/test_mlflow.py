"""A training against a real MLflow server: the run, the model that MLflow itself can load, the version and its profile."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from tests.databases import server
from tests.integration.registry.conftest import mlflow_server
from tests.integration.training.customers import Database, none_of
from tests.integration.training.place import Place
from tests.unit.control.training.tables import churn
from tidegate.control.monitoring.profiles import decode
from tidegate.control.registry.base import open_registry
from tidegate.control.training.champion import champion_of
from tidegate.control.training.retraining import outcome_of, outcome_of_version

__all__ = ["mlflow_server", "server"]

pytestmark = pytest.mark.slow


def test_a_run_holds_all_and_a_version_points_to_it(tmp_path: Path, mlflow_server: str, server: str) -> None:
    place = Place(tmp_path, registry={"kind": "mlflow", "uri": mlflow_server}, trust={"pickles": ["models:/"]})
    database = Database(server)
    place.describe(
        name="trained-churn",
        experiment="churn trainings",
        data=database.source(),
        families={"logistic_regression": None},
    )
    settings = place.loaded.settings
    registry = open_registry(settings.registry, settings.trust, base=tmp_path)
    assert champion_of(registry, "trained-churn") is None
    trained = place.train("t-m1", champion=None)
    version = registry.get("trained-churn", "champion")
    assert (version.version, version.run_id) == ("1", trained.run_id)
    assert version.signature is not None
    assert version.signature.columns == ("age", "charges", "plan")
    assert "prediction" in decode(registry.profile(version, 10_000_000)).columns
    kept = outcome_of_version(version)
    assert (kept.gate, kept.rows, kept.metrics) == (trained.gate, trained.rows, outcome_of(trained).metrics)

    from mlflow import MlflowClient, sklearn

    client = MlflowClient(mlflow_server)
    run = client.get_run(trained.run_id)
    assert run.data.tags["tidegate.gate"] == "accepted"
    assert run.data.tags["data.digest"] == trained.data_digest
    assert run.data.params["family"] == "logistic_regression"
    assert run.data.metrics["holdout.accuracy"] == pytest.approx(trained.metrics["accuracy"].value)
    assert {file.path for file in client.list_artifacts(trained.run_id)} >= {"report.html", "roc.png", "profile.json"}
    assert run.data.tags["data.sql"] == "the query"
    files = [file for file in Path(client.download_artifacts(trained.run_id, "")).rglob("*") if file.is_file()]
    assert len(files) > 8
    texts = [file.read_bytes().decode("utf-8", "replace") for file in files]
    none_of(database.url, str(run.to_dictionary()), str(version), *texts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = sklearn.load_model(f"runs:/{trained.run_id}/model")
    rows = churn(5)[["age", "charges", "plan"]]
    assert set(loaded.predict(rows)) <= {0, 1}

    again = place.train("t-m1", champion=None)
    assert (again.run_id, again.version) == (trained.run_id, "1"), "begun again with one key: one run, one version"
    compared = place.train("t-m2", champion=champion_of(registry, "trained-churn"))
    assert compared.gate.champion == compared.gate.challenger
    assert compared.gate.champion_version == "1"
    assert list(tmp_path.rglob(".mlflow-*")) == [], "what was made for the upload is gone"
