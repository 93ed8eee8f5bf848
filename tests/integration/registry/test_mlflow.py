"""MLflow's registry on a real server: the contract, and what users of MLflow have besides."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from tests.services import paused, running
from tests.unit.control.registry.contract import RegistryContract
from tidegate import settings
from tidegate.control.registry.base import Registry, RegistryAway
from tidegate.control.registry.mlflow import MlflowRegistry
from tidegate.errors import InvalidInput, ModelError, NotFound
from tidegate.serving.runtimes.load import load_model
from tidegate.settings import Trust
from tidegate.testing import models

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # MLflow warns about MLflow


@pytest.fixture
def registry(mlflow_server: str) -> Registry:
    return MlflowRegistry(settings.Registry(kind="mlflow", uri=mlflow_server))


class TestMlflowRegistry(RegistryContract):
    pass


class TestMlflowRegistryOnPostgreSQL(RegistryContract):
    @pytest.fixture
    def registry(self, mlflow_on_postgresql: str) -> Registry:
        return MlflowRegistry(settings.Registry(kind="mlflow", uri=mlflow_on_postgresql))


@pytest.fixture
def client(mlflow_server: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

    return MlflowClient(tracking_uri=mlflow_server, registry_uri=mlflow_server)


@pytest.fixture
def name() -> str:
    return f"churn {uuid.uuid4().hex[:8]}"


@pytest.fixture
def run(mlflow_server: str, tmp_path: Path) -> str:
    """A run with a model that somebody's training logged."""
    import mlflow

    os.environ["MLFLOW_TRACKING_URI"] = mlflow_server
    mlflow.set_experiment("training")
    with mlflow.start_run() as started:
        folder = models.write_mlflow_sklearn(models.iris_logistic(), tmp_path / "logged", models.iris()[0][:3])
        mlflow.log_artifacts(str(folder), "model")
    run_id: str = started.info.run_id
    return run_id


def test_a_model_that_is_made_again_is_another(
    registry: Registry, client: Any, name: str, run: str, tmp_path: Path
) -> None:
    """MLflow numbers its versions from 1 again."""
    client.create_registered_model(name)
    client.create_model_version(name, f"runs:/{run}/model", run_id=run)
    before = registry.ref(f"models:/{name}/1")
    assert registry.get(name, "1").signature is not None
    client.delete_registered_model(name)
    (tmp_path / "other.bin").write_bytes(b"no model")
    client.log_artifact(run, str(tmp_path / "other.bin"), "other")
    client.create_registered_model(name)
    client.create_model_version(name, f"runs:/{run}/other", run_id=run)
    after = registry.ref(f"models:/{name}/1")
    assert after.digest != before.digest
    assert registry.get(name, "1").signature is None


def test_what_others_registered_is_read(registry: Registry, client: Any, name: str, run: str) -> None:
    client.create_registered_model(name)
    client.create_model_version(name, f"runs:/{run}/model", run_id=run, tags={"team": "churn"})
    client.set_registered_model_alias(name, "Champion", "1")
    found = registry.get(name, "Champion")
    assert (found.run_id, found.metadata, found.aliases) == (run, {"team": "churn"}, ("Champion",))
    assert found.signature is not None
    assert found.signature.inputs[0].shape == (-1, 4)
    assert found.digest == ""
    pinned = registry.ref(f"models:/{name}@Champion")
    assert pinned.digest.startswith("sha256:")
    assert registry.get(name, "1").digest == pinned.digest
    assert registry.ref(f"runs:/{run}/model").digest == pinned.digest


def test_a_run_is_registered(registry: Registry, name: str, run: str) -> None:
    made = registry.register(name, f"runs:/{run}/model", metadata={}, aliases=("challenger",))
    assert (made.run_id, made.aliases) == (run, ("challenger",))
    assert registry.ref(made.uri).digest.startswith("sha256:")


@pytest.mark.filterwarnings("ignore")
def test_older_stages(registry: Registry, client: Any, name: str, run: str) -> None:
    for _ in range(3):
        registry.register(name, f"runs:/{run}/model", metadata={}, aliases=("champion",))
    with pytest.raises(ModelError, match=f"aliases in place of stages: models:/{name}@champion"):
        registry.ref(f"models:/{name}/Production")
    for number in ("1", "2"):
        client.transition_model_version_stage(name, number, "Production")
    client.transition_model_version_stage(name, "3", "Staging")
    assert registry.ref(f"models:/{name}/Production").version == "2"
    assert registry.get(name, "staging").version == "3"
    assert registry.get(name, "2").stage == "Production"
    assert [version.stage for version in registry.versions(name)] == ["Staging", "Production", "Production"]


def test_latest_is_the_newest_version(registry: Registry, name: str, run: str) -> None:
    for _ in range(4):
        made = registry.register(name, f"runs:/{run}/model", metadata={})
    assert registry.get(name, "latest").version == made.version == "4"
    assert len([version for version in registry.versions("") if version.name == name]) == 1


def test_mistakes_are_one_line_and_ours(registry: Registry, name: str, run: str) -> None:
    with pytest.raises(ModelError, match="cannot fetch it"):
        registry.ref("runs:/0123456789abcdef0123456789abcdef/model")
    with pytest.raises(ModelError, match="MLflow"):
        registry.ref(f"runs:/{run}/nothing")
    with pytest.raises((ModelError, InvalidInput, NotFound)) as caught:
        registry.register(name, "runs:/0123456789abcdef0123456789abcdef/model", metadata={})
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


@pytest.fixture
def breakable(tmp_path: Path) -> Iterator[Any]:
    with running("mlflow", tmp_path / "server") as started:
        yield started


def test_a_server_that_is_away_is_said_in_time(breakable: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    registry = MlflowRegistry(settings.Registry(kind="mlflow", uri=breakable.url))
    assert registry.versions("") == []
    tree = [psutil.Process(breakable.pid), *psutil.Process(breakable.pid).children(recursive=True)]
    began = time.monotonic()
    with paused(breakable.pid), pytest.raises(RegistryAway):
        registry.versions("")
    assert registry.versions("") == []  # it comes back by itself
    for process in reversed(tree):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    with pytest.raises(RegistryAway, match="MLflow") as caught:
        registry.set_alias(name, "champion", "1")
    assert "\n" not in str(caught.value)
    with pytest.raises(RegistryAway):
        registry.ref(f"models:/{name}@champion")
    assert time.monotonic() - began < 60


def test_nothing_is_made_where_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    registry = MlflowRegistry(settings.Registry(kind="mlflow", uri="http://127.0.0.1:9"))
    with pytest.raises(RegistryAway):
        registry.versions("")
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_a_known_signature_is_told_all_the_same(registry: Registry, name: str, tmp_path: Path) -> None:
    file = models.write_joblib(models.iris_logistic(), tmp_path / "iris.joblib")
    registry.register(name, file, metadata={}, aliases=("champion",))
    assert registry.get(name, "champion").signature is None
    found = registry.ref(f"models:/{name}@champion")
    loaded = load_model(found, Trust(pickles=("models:/",)))
    assert loaded.facts.digest == found.digest
