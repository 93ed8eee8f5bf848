"""scikit-learn models: compiled only when the answers are the same, served as they are otherwise."""

from __future__ import annotations

import gc
import logging
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

TOLERANCE = 1e-6
"""Compiled graphs sum in float32 in places, and a batch may sum in another order."""


def load(model: Any, tmp_path: Path, **options: Any) -> LoadedModel:
    path = models.write_joblib(model, tmp_path / "model.joblib")
    return load_model(ModelRef(uri=str(path), options=options), Trust(pickles=(str(tmp_path),)))


def churn_inputs(rows: int) -> dict[str, Any]:
    table, _ = models.churn_table(rows)
    return {name: table[name].to_numpy(object if name in ("plan", "country") else float) for name in table.columns}


def test_forest_is_compiled_and_agrees_on_real_rows(tmp_path: Path) -> None:
    forest = models.iris_forest()
    loaded = load(forest, tmp_path)
    assert loaded.facts.compiled
    assert loaded.facts.runtime == "sklearn"
    assert loaded.facts.platform == "onnxruntime_onnx"
    assert "512 reference rows, labels equal" in loaded.facts.compile_note
    features = models.iris()[0][::5]
    outputs = assert_batched_equals_single(loaded, {"x": features}, TOLERANCE)
    assert outputs["predictions"].tolist() == forest.predict(features).tolist()
    np.testing.assert_allclose(outputs["scores"], forest.predict_proba(features), atol=1e-6)


def test_forest_agrees_right_beside_its_thresholds(tmp_path: Path) -> None:
    forest = models.iris_forest()
    loaded = load(forest, tmp_path)
    splits = [(t.tree_.feature, t.tree_.threshold) for t in forest.estimators_]
    row = np.array(models.IRIS_ROW)
    rows = []
    for features, thresholds in splits:
        for feature, threshold in zip(features, thresholds, strict=True):
            for value in (threshold, np.nextafter(threshold, 9), np.nextafter(threshold, -9), np.float32(threshold)):
                if feature >= 0:
                    beside = row.copy()
                    beside[feature] = value
                    rows.append(beside)
    table = np.array(rows)
    outputs = loaded.runtime.predict({"x": table})
    assert outputs["predictions"].tolist() == forest.predict(table).tolist()  # type: ignore[index]


def test_scaled_trees_round_to_float32_where_sklearn_does(tmp_path: Path) -> None:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RandomForestClassifier(10, random_state=0)).fit(*models.iris())
    loaded = load(model, tmp_path)
    assert "compiled (mixed)" in loaded.facts.compile_note


def test_compiled_and_original_have_one_signature(tmp_path: Path) -> None:
    compiled = load(models.churn_pipeline(), tmp_path)
    original = load(models.churn_pipeline(), tmp_path, compile=False)
    assert compiled.facts.compiled
    assert not original.facts.compiled
    assert original.facts.compile_note == "not compiled: options.compile is false"
    assert compiled.signature == original.signature


@pytest.mark.parametrize("compile_", [True, False])
def test_table_of_mixed_types(tmp_path: Path, compile_: bool) -> None:
    pipeline = models.churn_pipeline()
    loaded = load(pipeline, tmp_path, compile=compile_)
    assert loaded.facts.compiled is compile_
    signature = loaded.signature
    assert signature.is_table
    assert signature.columns == ("age", "tenure", "charges", "plan", "country")
    kinds = {spec.name: (spec.datatype, spec.content, spec.allow_nan) for spec in signature.inputs}
    assert kinds["age"] == ("FP64", "number", True)
    assert kinds["plan"] == ("BYTES", "text", False)
    assert set(signature.example) == set(signature.columns)
    outputs = assert_batched_equals_single(loaded, churn_inputs(20), TOLERANCE)
    table, _ = models.churn_table(20)
    np.testing.assert_array_equal(outputs["predictions"], pipeline.predict(table))
    np.testing.assert_allclose(outputs["scores"], pipeline.predict_proba(table), atol=1e-6)


def test_named_classes_are_labels(tmp_path: Path) -> None:
    loaded = load(models.iris_forest(5, named_classes=True), tmp_path)
    assert loaded.signature.labels == ("setosa", "versicolor", "virginica")
    outputs = assert_batched_equals_single(loaded, {"x": np.array([models.IRIS_ROW])}, TOLERANCE)
    assert outputs["predictions"].tolist() == ["setosa"]


def test_matrix_model_fitted_on_a_frame_knows_its_columns(tmp_path: Path) -> None:
    import pandas
    from sklearn.linear_model import LogisticRegression

    features, classes = models.iris()
    frame = pandas.DataFrame(features, columns=list(models.IRIS_COLUMNS))
    model = LogisticRegression(max_iter=500).fit(frame, classes)
    for compile_ in (True, False):
        loaded = load(model, tmp_path, compile=compile_)
        assert loaded.signature.is_matrix
        assert loaded.signature.columns == models.IRIS_COLUMNS
        assert_batched_equals_single(loaded, {"x": features[::20]}, TOLERANCE)


@pytest.mark.parametrize("compile_", [True, False])
def test_texts(tmp_path: Path, compile_: bool) -> None:
    pipeline = models.sentiment_pipeline()
    loaded = load(pipeline, tmp_path, compile=compile_)
    assert loaded.signature.inputs[0].content == "text"
    assert loaded.signature.labels == ("negative", "positive")
    texts = np.array(["a wonderful film", "I HATED it", "", "naïve café"], object)
    outputs = assert_batched_equals_single(loaded, {"text": texts}, TOLERANCE)
    np.testing.assert_allclose(outputs["scores"], pipeline.predict_proba(texts), atol=1e-6)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("compile_", [True, False])
def test_regressors(tmp_path: Path, outputs: int, compile_: bool) -> None:
    model = models.linear_regressor(outputs=outputs)
    loaded = load(model, tmp_path, compile=compile_)
    assert loaded.signature.outputs[0].shape == ((-1,) if outputs == 1 else (-1, 2))
    inputs = {"x": np.random.default_rng(1).normal(size=(8, 3))}
    answer = assert_batched_equals_single(loaded, inputs, 1e-9)
    np.testing.assert_allclose(answer["predictions"], model.predict(inputs["x"]), atol=1e-9)


def test_model_that_cannot_be_compiled_says_why_and_still_answers(tmp_path: Path) -> None:
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    features, classes = models.iris()
    model = make_pipeline(FunctionTransformer(np.square), LinearRegression()).fit(features, classes)
    loaded = load(model, tmp_path)
    assert not loaded.facts.compiled
    note = loaded.facts.compile_note
    assert note.startswith("not compiled: RuntimeError: FunctionTransformer is not supported")
    assert note.count("RuntimeError") == 1, "one reason of all precisions is said once"
    assert not loaded.facts.inline
    assert_batched_equals_single(loaded, {"x": features[::10]}, 1e-9)


def test_svc_probabilities_and_classes_come_from_their_own_methods(tmp_path: Path) -> None:
    from sklearn.svm import SVC

    model = SVC().fit(*models.iris())
    loaded = load(model, tmp_path, compile=False)
    assert [spec.name for spec in loaded.signature.outputs] == ["predictions"]
    features = models.iris()[0][::10]
    outputs = assert_batched_equals_single(loaded, {"x": features}, 0.0)
    assert outputs["predictions"].tolist() == model.predict(features).tolist()


def test_dropped_columns_are_optional(tmp_path: Path) -> None:
    import pandas
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    frame = pandas.DataFrame({"id": np.arange(20.0), "a": np.linspace(-1, 1, 20), "b": np.linspace(1, 0, 20)})
    chosen = ColumnTransformer([("scale", StandardScaler(), ["a", "b"])])
    model = make_pipeline(chosen, LogisticRegression()).fit(frame, np.arange(20) > 9)
    for compile_ in (True, False):
        loaded = load(model, tmp_path, compile=compile_)
        assert loaded.facts.compiled is compile_
        assert {spec.name: spec.required for spec in loaded.signature.inputs} == {"id": False, "a": True, "b": True}
        outputs = loaded.runtime.predict({"a": np.array([-1.0, 1.0]), "b": np.array([1.0, 0.0])})
        assert outputs["predictions"].tolist() == [False, True]  # type: ignore[index]


def test_encoder_that_refuses_unknown_categories_is_compared_on_known_ones(tmp_path: Path) -> None:
    import pandas
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    frame = pandas.DataFrame({"plan": ["a", "b", "c", "a"] * 5, "n": np.arange(20.0)})
    chosen = ColumnTransformer([("text", OneHotEncoder(), ["plan"])], remainder="passthrough")
    model = make_pipeline(chosen, LinearRegression()).fit(frame, np.arange(20.0))
    loaded = load(model, tmp_path)
    assert loaded.facts.compiled, loaded.facts.compile_note
    inputs = {"plan": np.array(["a", "c"], object), "n": np.array([1.0, 2.0])}
    assert_batched_equals_single(loaded, inputs, 1e-9)


def test_reference_rows_beside_the_model_are_used(tmp_path: Path) -> None:
    table, _ = models.churn_table(30)
    table.to_csv(tmp_path / "model.reference.csv", index=False)
    assert "542 reference rows" in load(models.churn_pipeline(), tmp_path).facts.compile_note
    np.save(tmp_path / "rows.npy", models.iris()[0])
    (tmp_path / "model.reference.csv").unlink()
    assert "662 reference rows" in load(models.iris_forest(), tmp_path, reference="rows.npy").facts.compile_note
    with pytest.raises(ModelError, match="no file nothing"):
        load(models.iris_forest(), tmp_path, reference="nothing.csv")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ModelError, match=r"bad\.csv do not fit"):
        load(models.churn_pipeline(), tmp_path, reference="bad.csv")


def test_tolerance_of_zero_refuses_a_rounded_graph(tmp_path: Path) -> None:
    loaded = load(models.iris_forest(), tmp_path, tolerance=0.0)
    assert not loaded.facts.compiled
    assert "0e+00 is allowed" in loaded.facts.compile_note


def test_tolerance_follows_the_scale_of_a_regression() -> None:
    from tidegate.serving.runtimes.compile import _Differs, _gap, _scale

    expected, got = np.array([1e-6, 2e-6]), np.array([1e-6, 3e-6])
    with pytest.raises(_Differs, match=r"differs by 5\.0e-01"):
        _gap("predictions", expected, got, 1e-5, _scale("predictions", expected))
    assert _gap("scores", expected, got, 1e-5, _scale("scores", expected)) < 1e-5


def test_own_pools_are_off(tmp_path: Path) -> None:
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(5, n_jobs=-1, random_state=0).fit(*models.iris())
    loaded = load(model, tmp_path, compile=False)
    assert loaded.runtime.model.n_jobs == 1  # type: ignore[attr-defined]


def test_model_of_another_version_is_loaded_with_advice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = models.linear_regressor()
    path = models.write_joblib(model, tmp_path / "model.joblib")
    import sklearn

    content = path.read_bytes()
    version = sklearn.__version__.encode()
    assert version in content
    path.write_bytes(content.replace(version, b"0" + version[1:]))
    with caplog.at_level(logging.WARNING, "tidegate.runtimes"):
        load_model(ModelRef(uri=str(path)), Trust(pickles=(str(tmp_path),)))
    assert "another scikit-learn" in caplog.text
    assert "train it again" in str(caplog.records[0].__dict__["advice"])


def test_skops_needs_its_types_listed_and_no_more(tmp_path: Path) -> None:
    path = models.write_skops(models.iris_forest(5), tmp_path / "model.bin")
    with pytest.raises(UntrustedModel, match=r"sklearn\.tree\._tree\.Tree. Add them to trust\.skops_types"):
        load_model(ModelRef(uri=str(path)), Trust())
    loaded = load_model(ModelRef(uri=str(path)), Trust(skops_types=("sklearn.tree._tree.Tree",)))
    assert loaded.facts.compiled
    plain = models.write_skops(models.iris_logistic(), tmp_path / "plain.bin")
    loaded = load_model(ModelRef(uri=str(plain)), Trust())
    assert_batched_equals_single(loaded, {"x": models.iris()[0][::20]}, TOLERANCE)


def test_estimator_without_a_width_must_be_declared(tmp_path: Path) -> None:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    model = make_pipeline(FunctionTransformer(np.abs), FunctionTransformer(np.sqrt))
    model.predict = None
    with pytest.raises(ContractError, match="has no predict"):
        load(model, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_hundred_cycles_of_load_and_unload_are_flat(tmp_path: Path) -> None:
    """SeldonIO/MLServer#1232, triton-inference-server/server#4528: memory comes back when a model goes."""
    from tidegate.serving.runtimes.load import release

    path = models.write_joblib(models.iris_forest(30), tmp_path / "model.joblib")
    ref, trust = ModelRef(uri=str(path)), Trust(pickles=(str(tmp_path),))

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    sizes = []
    gc.freeze()  # each release collects; what other tests have left need not be looked through every time
    try:
        for cycle in range(200):
            release(load_model(ref, trust))
            if cycle >= 50:
                sizes.append(resident())
    finally:
        gc.unfreeze()
    slope = float(np.polyfit(np.arange(len(sizes)), sizes, 1)[0])
    assert slope * 150 < 4 * 1024 * 1024, f"{slope:.0f} bytes a cycle"
