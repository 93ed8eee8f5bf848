"""The models that the subjects serve, made once into the scratch folder; the same bytes for every run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.machine import SCRATCH

FOLDER = SCRATCH / "models"
ROW = [5.1, 3.5, 1.4, 0.2]
"""One iris flower: the features of every single-row request."""


@dataclass(frozen=True)
class Models:
    forest: Path
    """Random forest of 100 trees over iris, as ONNX, scores as one array."""
    regression: Path
    """Logistic regression over iris, as ONNX."""
    forest_sklearn: Path
    """The same forest as joblib."""


def make() -> Models:
    models = Models(FOLDER / "forest.onnx", FOLDER / "regression.onnx", FOLDER / "forest.joblib")
    if all(path.exists() for path in (models.forest, models.regression, models.forest_sklearn)):
        return models
    FOLDER.mkdir(parents=True, exist_ok=True)
    import joblib
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    features, classes = load_iris(return_X_y=True)
    fitted: dict[Path, Any] = {
        models.forest: RandomForestClassifier(n_estimators=100, random_state=0).fit(features, classes),
        models.regression: LogisticRegression(max_iter=1000).fit(features, classes),
    }
    for path, model in fitted.items():
        converted = to_onnx(
            model, initial_types=[("features", FloatTensorType([None, 4]))], options={id(model): {"zipmap": False}}
        )
        path.write_bytes(converted.SerializeToString())
    joblib.dump(fitted[models.forest], models.forest_sklearn)
    return models


def features(rows: int) -> list[list[float]]:
    """``rows`` distinct flowers, the first of which is ROW."""
    return [[round(value + 0.01 * (index % 50), 2) for value in ROW] for index in range(rows)]


def document(rows: int = 1) -> bytes:
    return json.dumps({"features": features(rows)}, separators=(",", ":")).encode()
