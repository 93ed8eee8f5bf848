# mypy: ignore-errors
"""Trains the two iris models in a peer's own environment: ``python train.py FOLDER``."""

import json
import sys
from pathlib import Path

import joblib
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
features, classes = load_iris(return_X_y=True)
forest = RandomForestClassifier(n_estimators=100, random_state=0).fit(features, classes)
regression = LogisticRegression(max_iter=1000).fit(features, classes)
joblib.dump(forest, folder / "rf.joblib")
joblib.dump(regression, folder / "lr.joblib")
coefficients = {"weight": regression.coef_.tolist(), "bias": regression.intercept_.tolist()}
(folder / "lr.json").write_text(json.dumps(coefficients))
