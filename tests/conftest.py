"""What holds for every test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

_TOLD = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_HTTP_REQUEST_TIMEOUT",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT",
)
_AT_FIRST = {name: os.environ.get(name) for name in _TOLD}


@pytest.fixture(autouse=True)
def clean_environment() -> Iterator[None]:
    """What a registry tells MLflow through the environment ends with the test, and no fixture's word reaches the next."""
    _as_at_first()
    yield
    _as_at_first()


def _as_at_first() -> None:
    for name, value in _AT_FIRST.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
