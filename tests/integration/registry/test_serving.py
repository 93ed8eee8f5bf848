"""The data plane loads from the registries, and follows an alias that moves."""

from __future__ import annotations

import threading
import uuid
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.process import Server, serving, until
from tests.services import paused, running
from tidegate import settings
from tidegate.control.registry.base import Registry
from tidegate.control.registry.files import FilesRegistry
from tidegate.control.registry.mlflow import MlflowRegistry
from tidegate.testing import models
from tidegate.testing.models import write_affine_onnx

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

ROW = [1.0, 2.0, 3.0]


@pytest.fixture
def name() -> str:
    return f"served-{uuid.uuid4().hex[:8]}"


def config(uri: str, kind: str, **endpoints: str) -> Mapping[str, Any]:
    return {
        "registry": {"kind": kind, "uri": uri},
        "trust": {"pickles": ["models:/", "runs:/"]},
        "endpoints": {endpoint: {"model": model} for endpoint, model in endpoints.items()},
    }


def register(registry: Registry, name: str, folder: Path, scale: float) -> str:
    """``y = scale * x + 1`` as the next version, which the champion then is."""
    file = write_affine_onnx(folder / f"affine-{scale:g}.onnx", scale=scale)
    return registry.register(name, file, metadata={}, aliases=("champion",)).version


@pytest.fixture(params=["files", "mlflow"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Registry, str, str]]:
    """A registry, its kind and its address."""
    if request.param == "files":
        folder = tmp_path / "registry"
        yield FilesRegistry(folder), "files", str(folder)
    else:
        address: str = request.getfixturevalue("mlflow_server")
        yield MlflowRegistry(settings.Registry(kind="mlflow", uri=address)), "mlflow", address


def version_of(server: Server, path: str = "/predict") -> tuple[str, list[float]]:
    answer = server.predict(ROW, path)
    assert answer.status == 200, answer.body
    said = answer.json
    return said["model"]["version"], said["predictions"][0]


def test_the_server_follows_the_alias(kept: tuple[Registry, str, str], name: str, tmp_path: Path) -> None:
    """mlflow/mlflow#1768, #12589: an update of a served model needs no restart, and costs no request."""
    registry, kind, address = kept
    assert register(registry, name, tmp_path, 2.0) == "1"
    configured = config(address, kind, iris=f"models:/{name}@champion", pinned=f"models:/{name}/1")
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    with serving(tmp_path, configured, environment={"TMPDIR": str(fetched)}) as server:
        assert version_of(server) == ("1", [3.0, 5.0, 7.0])
        statuses: set[int] = set()
        stop = threading.Event()

        def ask() -> None:
            with server.caller() as caller:
                while not stop.is_set():
                    statuses.add(caller.call("POST", "/predict", {"features": [ROW]}).status)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            assert register(registry, name, tmp_path, 3.0) == "2"
            server.signal_reload()
            until(lambda: version_of(server) == ("2", [4.0, 7.0, 10.0]), "the new champion answers", 60)
            registry.set_alias(name, "champion", "1")
            server.signal_reload()
            until(lambda: version_of(server)[0] == "1", "the old champion answers again", 60)
        finally:
            stop.set()
            asking.join()
        assert statuses == {200}
        assert version_of(server, "/predict/pinned")[0] == "1"
        shown = server.call("GET", "/models/iris").json
        assert shown["variants"][0]["digest"] == registry.get(name, "1").digest
        served = 2 if kind == "mlflow" else 0
        until(
            lambda: len(list(fetched.glob("tidegate-*-*"))) == served,
            "the files of what is served no longer are gone",
            60,
        )
        assert server.stop() == 0
    assert not list(fetched.glob("tidegate-*-*"))


@pytest.fixture
def logged(mlflow_server: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a training script does: two versions of a scikit-learn model, in stages; returns the run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow
        import mlflow.sklearn

    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    mlflow.set_experiment("training")
    for trees in (3, 5):
        with mlflow.start_run() as run:
            mlflow.sklearn.log_model(
                models.iris_forest(trees),
                name="model",
                registered_model_name=name,
                input_example=models.iris()[0][:2],
                serialization_format="cloudpickle",
                pip_requirements=["scikit-learn"],
            )
    client = mlflow.MlflowClient()
    client.transition_model_version_stage(name, "1", "Production")
    client.set_registered_model_alias(name, "champion", "2")
    run_id: str = run.info.run_id
    return run_id


def test_what_a_training_script_logged_is_served(mlflow_server: str, logged: str, name: str, tmp_path: Path) -> None:
    """By alias, by older stage, by number and by run, with the address in the environment that MLflow's users have."""
    configured = config(
        "", "files", alias=f"models:/{name}@champion", stage=f"models:/{name}/Production",
        number=f"models:/{name}/2", run=f"runs:/{logged}/model",
    )  # fmt: skip
    del configured["registry"]  # type: ignore[attr-defined]
    with serving(tmp_path, configured, environment={"MLFLOW_TRACKING_URI": mlflow_server}) as server:
        for endpoint, version in (("alias", "2"), ("stage", "1"), ("number", "2")):
            answer = server.predict([5.1, 3.5, 1.4, 0.2], f"/predict/{endpoint}").json
            assert (answer["predictions"], answer["model"]["version"]) == ([0], version)
        assert server.predict([5.1, 3.5, 1.4, 0.2], "/predict/run").json["predictions"] == [0]
    registry = MlflowRegistry(settings.Registry(kind="mlflow", uri=mlflow_server))
    found = registry.get(name, "Production")
    assert (found.version, found.stage) == ("1", "Production")
    assert found.signature is not None
    assert registry.get(name, "2").run_id == logged


def test_a_pickle_of_the_embedded_registry_needs_no_other_trust(tmp_path: Path) -> None:
    registry = FilesRegistry(tmp_path / "run" / "registry")
    registry.register("iris", models.write_joblib(models.iris_forest(3), tmp_path / "iris.joblib"), metadata={})
    with serving(tmp_path, {"endpoints": {"iris": {"model": "models:/iris/latest"}}}) as server:
        assert server.predict([5.1, 3.5, 1.4, 0.2]).json["model"]["version"] == "1"


@pytest.mark.parametrize("kind", ["files", "mlflow"])
def test_a_version_that_is_not_there_ends_the_start_with_one_line(kind: str, tmp_path: Path) -> None:
    configured = config("", kind, iris="models:/iris@champion")
    with serving(tmp_path, configured, environment={"MLFLOW_TRACKING_URI": ""}, ready=False) as server:
        assert server.wait_end(60) == 2
        assert "models:/iris@champion" in server.log
        assert "Traceback" not in server.log
    assert not list(tmp_path.rglob("mlflow.db"))
    assert not list(tmp_path.rglob("mlruns"))


def test_predictions_go_on_while_mlflow_is_away(name: str, tmp_path: Path) -> None:
    """A registry that hangs costs no prediction; a reload that needs it says why it was not done."""
    with running("mlflow", tmp_path / "mlflow") as started:
        registry = MlflowRegistry(settings.Registry(kind="mlflow", uri=started.url))
        register(registry, name, tmp_path, 2.0)
        told = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "2"}
        configured = config(started.url, "mlflow", iris=f"models:/{name}@champion")
        with serving(tmp_path, configured, environment=told) as server:
            assert version_of(server)[0] == "1"
            with paused(started.pid):
                server.signal_reload()
                kept = "stays in force"
                until(lambda: version_of(server)[0] == "1" and kept in server.log, "the reload gives up", 60)
                assert f"models:/{name}@champion: MLflow does not say" in server.log
            register(registry, name, tmp_path, 3.0)
            server.signal_reload()
            until(lambda: version_of(server)[0] == "2", "the new champion answers", 60)
