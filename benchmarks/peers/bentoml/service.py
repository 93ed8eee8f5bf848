# mypy: ignore-errors
"""Iris with adaptive batching; the model's path comes in MODEL."""

import os

import bentoml
import joblib
import numpy


@bentoml.service(workers=1, traffic={"timeout": 60, "max_concurrency": 1000}, logging={"access": {"enabled": False}})
class Iris:
    def __init__(self) -> None:
        self.model = joblib.load(os.environ["MODEL"])

    @bentoml.api(batchable=True, batch_dim=0, max_batch_size=32, max_latency_ms=1000)
    def predict(self, features: numpy.ndarray) -> numpy.ndarray:
        return self.model.predict(features)
