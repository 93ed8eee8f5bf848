"""XGBoost, LightGBM and histogram trees: exact right beside their thresholds."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.serving.runtimes.agreement import assert_batched_equals_single
from tidegate.errors import ModelError
from tidegate.serving.runtimes.base import LoadedModel
from tidegate.serving.runtimes.load import load_model
from tidegate.settings import Trust
from tidegate.testing import models
from tidegate.types import ModelRef

pytestmark = pytest.mark.slow

TOLERANCE = 1e-6
"""Sums of leaves leave ONNX Runtime as float32."""


def load(path: Path, **options: Any) -> LoadedModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_model(ModelRef(uri=str(path), options=options), Trust(pickles=(str(path.parent),)))


def data(missing: bool = False) -> tuple[Any, Any]:
    features, classes = models.iris()
    if missing:
        features = features.copy()
        features[::7, 2] = np.nan
    return features, classes


def fitted(kind: str, **parameters: Any) -> Any:
    """By name, so that collecting the tests imports nothing."""
    import lightgbm
    import sklearn.ensemble
    import xgboost

    quiet = {"verbose": -1} if kind.startswith("LGBM") else {}
    count = {"max_iter": 20} if kind.startswith("Hist") else {"n_estimators": 20}
    home = next(module for module in (xgboost, lightgbm, sklearn.ensemble) if hasattr(module, kind))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(home, kind)(**count, **quiet, **parameters).fit(*data(missing=True))


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("XGBClassifier", {}),
        ("XGBRegressor", {}),
        ("LGBMClassifier", {}),
        ("LGBMRegressor", {}),
        ("LGBMRegressor", {"objective": "poisson"}),
        ("LGBMRegressor", {"boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}),
        ("HistGradientBoostingClassifier", {}),
        ("HistGradientBoostingRegressor", {}),
        ("HistGradientBoostingRegressor", {"loss": "poisson"}),
    ],
)
def test_estimators_are_compiled_and_keep_missing_values(tmp_path: Path, kind: str, parameters: Any) -> None:
    model = fitted(kind, **parameters)
    loaded = load(models.write_joblib(model, tmp_path / "m"))
    assert loaded.facts.compiled, loaded.facts.compile_note
    assert loaded.signature.inputs[0].allow_nan
    features = data(missing=True)[0][::7]
    outputs = assert_batched_equals_single(loaded, {"x": features}, TOLERANCE)
    np.testing.assert_allclose(outputs["predictions"], model.predict(features), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["LGBMClassifier", "HistGradientBoostingClassifier", "XGBClassifier"])
def test_classes_beside_every_threshold(tmp_path: Path, kind: str) -> None:
    from tidegate.serving.runtimes.structure import _thresholds

    model = fitted(kind)
    loaded = load(models.write_joblib(model, tmp_path / "m"))
    rows = []
    for feature, threshold in _thresholds(model):
        if np.isfinite(threshold):
            for value in (threshold, np.nextafter(threshold, 99), np.nextafter(threshold, -99), np.float32(threshold)):
                row = np.array(models.IRIS_ROW)
                row[feature] = value
                rows.append(row)
    table = np.array(rows)
    outputs = loaded.runtime.predict({"x": table})
    np.testing.assert_array_equal(outputs["predictions"], model.predict(table))  # type: ignore[index]
    np.testing.assert_allclose(outputs["scores"], model.predict_proba(table), atol=1e-6)  # type: ignore[index]


@pytest.mark.parametrize("name", ["model.json", "model.ubj"])
def test_xgboost_file_is_data_and_needs_no_trust(tmp_path: Path, name: str) -> None:
    model = fitted("XGBClassifier")
    model.save_model(tmp_path / name)
    loaded = load_model(ModelRef(uri=str(tmp_path / name)), Trust())
    assert loaded.facts.runtime == "xgboost"
    features = data()[0][::9]
    outputs = assert_batched_equals_single(loaded, {"x": features}, TOLERANCE)
    assert outputs["predictions"].tolist() == model.predict(features).tolist()


@pytest.mark.parametrize("compile_", [True, False])
def test_lightgbm_file_is_data_and_needs_no_trust(tmp_path: Path, compile_: bool) -> None:
    model = fitted("LGBMClassifier")
    model.booster_.save_model(tmp_path / "model.txt")
    ref = ModelRef(uri=str(tmp_path / "model.txt"), options={"compile": compile_})
    loaded = load_model(ref, Trust())
    assert loaded.facts.runtime == "lightgbm"
    assert loaded.facts.compiled is compile_
    features = data()[0][::9]
    outputs = assert_batched_equals_single(loaded, {"x": features}, TOLERANCE)
    np.testing.assert_allclose(outputs["scores"], model.predict_proba(features), atol=1e-6)


@pytest.mark.parametrize("kind", ["XGBClassifier", "LGBMClassifier"])
def test_pickled_bare_booster_gets_the_methods_of_an_estimator(tmp_path: Path, kind: str) -> None:
    model = fitted(kind)
    booster = model.get_booster() if kind.startswith("XGB") else model.booster_
    loaded = load(models.write_joblib(booster, tmp_path / "m"))
    features = data()[0][::9]
    outputs = assert_batched_equals_single(loaded, {"x": features}, TOLERANCE)
    np.testing.assert_allclose(outputs["scores"], model.predict_proba(features), atol=1e-6)


def test_categorical_splits_are_not_compiled_and_say_so(tmp_path: Path) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    random = np.random.default_rng(0)
    features = np.column_stack([random.integers(0, 5, 300), random.normal(size=300)]).astype(float)
    model = HistGradientBoostingClassifier(max_iter=5, categorical_features=[0])
    model.fit(features, np.isin(features[:, 0], (1, 3)) ^ (features[:, 1] > 0))
    loaded = load(models.write_joblib(model, tmp_path / "m"))
    assert not loaded.facts.compiled
    assert_batched_equals_single(loaded, {"x": features[:10]}, 0.0)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.write_text('{"learner": {}}'), "XGBoost cannot read"),
        (lambda path: path.write_text("tree\nversion=v4\nnum_class=x\n"), "LightGBM cannot read"),
    ],
)
def test_damaged_files(tmp_path: Path, spoil: Callable[[Path], object], says: str) -> None:
    spoil(tmp_path / "model")
    with pytest.raises(ModelError, match=says) as caught:
        load(tmp_path / "model")
    assert "\n" not in str(caught.value)
