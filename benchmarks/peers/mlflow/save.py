# mypy: ignore-errors
"""``python save.py MODEL.joblib FOLDER``: saves the model in MLflow's format."""

import sys

import joblib
import mlflow.sklearn

mlflow.sklearn.save_model(
    joblib.load(sys.argv[1]), sys.argv[2], serialization_format="cloudpickle", pip_requirements=["scikit-learn"]
)
