"""What the demo releases: a weak classifier, a better one, and a faulty one, all trained here on the iris data."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec

from tidegate.errors import MissingExtra

FAULTY = '''\
"""The better model with two faults: it raises for long petals, and now and then it is slow."""

import time
from pathlib import Path

import joblib
import numpy as np


class Model:
    signature = {
        "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 4]}],
        "outputs": [{"name": "predictions", "datatype": "BYTES", "shape": [-1]}],
        "example": {"x": [5.1, 3.5, 1.4, 0.2]},
    }

    def load(self, path):
        self.forest = joblib.load(Path(path) / "forest.joblib")

    def predict(self, inputs):
        rows = inputs["x"]
        if (rows[:, 2] > 5.8).any():
            raise ValueError("no flower has petals that long")
        if int(rows[0].sum() * 1000) % 20 == 0:
            time.sleep(0.15)
        return np.asarray(self.forest.predict(rows), dtype=object)
'''


class Made(msgspec.Struct, frozen=True):
    """Files or folders of the three versions, and the rows and labels that callers send."""

    weak: Path
    better: Path
    faulty: Path
    rows: list[list[float]]
    labels: list[str]


def train(folder: Path) -> Made:
    """Raises MissingExtra without scikit-learn."""
    try:
        import joblib
        from sklearn.compose import ColumnTransformer
        from sklearn.datasets import load_iris
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
    except ImportError:
        raise MissingExtra("sklearn", "the demo's models") from None
    data = load_iris()
    names = data.target_names[data.target]
    sepals = ColumnTransformer([("sepals", "passthrough", [0, 1])])
    weak = make_pipeline(sepals, LogisticRegression(max_iter=500)).fit(data.data, names)
    better = RandomForestClassifier(n_estimators=50, random_state=0).fit(data.data, names)
    faulty = RandomForestClassifier(n_estimators=5, random_state=0).fit(data.data, names)

    def write(model: Any, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        joblib.dump(model, path)
        return path

    write(faulty, folder / "faulty" / "forest.joblib")
    (folder / "faulty" / "model.py").write_text(FAULTY, "utf-8")
    return Made(
        write(weak, folder / "weak.joblib"),
        write(better, folder / "better.joblib"),
        folder / "faulty",
        data.data.tolist(),
        names.tolist(),
    )


def a_flower(made: Made, chance: random.Random) -> tuple[list[float], str]:
    """A row of the data, measured not quite alike, and what it is."""
    index = chance.randrange(len(made.rows))
    return [round(value + chance.gauss(0.0, 0.03), 3) for value in made.rows[index]], made.labels[index]
