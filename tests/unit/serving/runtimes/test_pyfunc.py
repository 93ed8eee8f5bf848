"""MLflow folders and registries: opened directly where that is possible, by MLflow where not."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.serving.runtimes.agreement import assert_batched_equals_single
from tidegate.errors import ContractError, ModelError, UntrustedModel
from tidegate.serving.runtimes.base import LoadedModel
from tidegate.serving.runtimes.load import load_model
from tidegate.settings import Trust
from tidegate.testing import models
from tidegate.types import ModelRef

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def load(path: Path | str, trusted: bool = True, runtime: str = "auto", **options: Any) -> LoadedModel:
    trust = Trust(pickles=(str(path),) if trusted else ())
    return load_model(ModelRef(uri=str(path), runtime=runtime, options=options), trust)


def churn_inputs(rows: int) -> dict[str, Any]:
    table, _ = models.churn_table(rows)
    kinds = {"plan": object, "country": object, "tenure": np.int64}
    return {name: table[name].to_numpy(kinds.get(name, float)) for name in table.columns}


@pytest.fixture(scope="module")
def churn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mlflow") / "churn"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return models.write_mlflow_sklearn(models.churn_pipeline(), folder, models.churn_table()[0].head())


def test_sklearn_flavour_is_compiled_with_mlflows_types(churn: Path) -> None:
    loaded = load(churn)
    assert loaded.facts.compiled
    assert loaded.facts.runtime == "sklearn"
    specs = {spec.name: spec for spec in loaded.signature.inputs}
    assert specs["tenure"].datatype == "INT64"
    assert not specs["age"].required
    assert specs["plan"].content == "text"
    outputs = assert_batched_equals_single(loaded, churn_inputs(15), 1e-6)
    np.testing.assert_array_equal(outputs["predictions"], models.churn_pipeline().predict(models.churn_table(15)[0]))


def test_optional_column_may_be_left_out(churn: Path) -> None:
    inputs = churn_inputs(5)
    del inputs["age"]
    compiled = load(churn).runtime.predict(inputs)
    original = load(churn, compile=False).runtime.predict(inputs)
    np.testing.assert_allclose(compiled["scores"], original["scores"], atol=1e-6)  # type: ignore[index]


def test_pickled_flavour_needs_trust(churn: Path) -> None:
    with pytest.raises(UntrustedModel, match=r"trust\.pickles"):
        load(churn, trusted=False)


@pytest.mark.parametrize("trusted", [True, False])
def test_onnx_flavour_needs_neither_trust_nor_mlflow(tmp_path: Path, trusted: bool) -> None:
    graph = models.write_affine_onnx(tmp_path / "a.onnx")
    example = np.zeros((2, 3), np.float32)
    folder = models.write_mlflow_onnx(graph, tmp_path / "m", example, example)
    script = (
        "import sys\n"
        "from tidegate.serving.runtimes.load import load_model\n"
        "from tidegate.settings import Trust\n"
        "from tidegate.types import ModelRef\n"
        f"loaded = load_model(ModelRef(uri={str(folder)!r}), Trust())\n"
        "print(loaded.facts.runtime, 'mlflow' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["onnx", "False"]
    assert_batched_equals_single(load(folder, trusted=trusted), {"x": np.ones((4, 3), np.float32)}, 0.0)


def test_tensor_signature(tmp_path: Path) -> None:
    folder = models.write_mlflow_sklearn(models.iris_forest(5), tmp_path / "m", models.iris()[0][:5])
    for runtime in ("auto", "pyfunc"):
        loaded = load(folder, runtime=runtime)
        assert loaded.signature.is_matrix
        assert loaded.facts.compiled is (runtime == "auto")
        outputs = assert_batched_equals_single(loaded, {"x": models.iris()[0][::15]}, 1e-6)
        assert outputs["predictions"].tolist() == models.iris_forest(5).predict(models.iris()[0][::15]).tolist()


def test_pyfunc_by_name_runs_through_mlflow(churn: Path) -> None:
    loaded = load(churn, runtime="pyfunc")
    assert loaded.facts.runtime == "pyfunc"
    assert loaded.facts.platform == "mlflow_pyfunc"
    outputs = assert_batched_equals_single(loaded, churn_inputs(6), 0.0)
    np.testing.assert_array_equal(outputs["predictions"], models.churn_pipeline().predict(models.churn_table(6)[0]))


CUSTOM = """
import mlflow.pyfunc

class Scorer(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input.sum(axis=1) * (params or {}).get("factor", 1)
"""


@pytest.fixture(scope="module")
def custom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import mlflow.pyfunc
    import pandas
    from mlflow.models import infer_signature

    folder = tmp_path_factory.mktemp("custom")
    source = folder / "scorer.py"
    source.write_text(CUSTOM + "\nimport mlflow.models\nmlflow.models.set_model(Scorer())\n")
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [0.5, 0.25]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pyfunc.save_model(
            str(folder / "m"),
            python_model=str(source),
            signature=infer_signature(frame, frame.sum(axis=1), params={"factor": 1.0}),
            pip_requirements=["mlflow"],
        )
    return folder / "m"


def test_own_python_model_with_params(custom: Path) -> None:
    inputs = {"a": np.array([1.0, 2.0, 3.0]), "b": np.array([0.5, 0.5, 0.5])}
    outputs = assert_batched_equals_single(load(custom), inputs, 0.0)
    assert outputs["predictions"].tolist() == [1.5, 2.5, 3.5]
    doubled = load(custom, params={"factor": 2.0}).runtime.predict(inputs)
    assert doubled["predictions"].tolist() == [3.0, 5.0, 7.0]  # type: ignore[index]
    with pytest.raises(UntrustedModel, match="pyfunc model"):
        load(custom, trusted=False)


def test_model_without_a_signature_must_be_declared(tmp_path: Path) -> None:
    folder = models.write_mlflow_sklearn(models.iris_forest(3), tmp_path / "m", models.iris()[0][:5], signed=False)
    assert load(folder).facts.compiled
    with pytest.raises(ContractError, match="logged without a signature"):
        load(folder, runtime="pyfunc")
    declared = {"inputs": {"x": {"datatype": "FP64", "shape": [-1, 4]}}}
    assert load(folder, runtime="pyfunc", signature=declared).signature.is_matrix


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[", "MLmodel is not readable"),
        ("a: 1", "names no flavors"),
        ("flavors: {onnx: {data: ../../secret}}", "points outside its folder"),
        ("flavors: {python_function: {}}\nsignature: {inputs: '{'}", "signature in MLmodel is not readable"),
    ],
)
def test_damaged_descriptions(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "MLmodel").write_text(text)
    with pytest.raises(ModelError, match=says):
        load(tmp_path)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real registry on SQLite, with one model, one alias; told by the environment, since MLflow keeps what it is told
    in the process for good."""
    import mlflow
    import mlflow.sklearn

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    experiment = mlflow.create_experiment("tests", artifact_location=f"file://{tmp_path}/artifacts")
    with mlflow.start_run(experiment_id=experiment):
        mlflow.sklearn.log_model(
            models.iris_forest(3),
            name="model",
            registered_model_name="iris",
            serialization_format="cloudpickle",
            pip_requirements=["scikit-learn"],
        )
    mlflow.MlflowClient().set_registered_model_alias("iris", "champion", "1")


@pytest.mark.usefixtures("registry")
def test_registry_by_alias_and_version() -> None:
    digests = set()
    for uri in ("models:/iris@champion", "models:/iris/1"):
        for entry in (uri, "models:/iris", "models:/"):
            loaded = load_model(ModelRef(uri=uri), Trust(pickles=(entry,)))
            digests.add(loaded.facts.digest)
        assert_batched_equals_single(loaded, {"x": models.iris()[0][::30]}, 1e-6)
    assert len(digests) == 1
    with pytest.raises(UntrustedModel, match=r"add models:/iris "):
        load_model(ModelRef(uri="models:/iris@champion"), Trust(pickles=("models:/other",)))
    with pytest.raises(ModelError, match="MLflow cannot fetch it"):
        load_model(ModelRef(uri="models:/iris@nobody"), Trust())
    with pytest.raises(ModelError, match="MLflow cannot fetch it"):
        load_model(ModelRef(uri="models:/nothing/1"), Trust())
