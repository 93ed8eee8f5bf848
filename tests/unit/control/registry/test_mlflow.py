"""What needs no server of MLflow: names, errors, addresses."""

from __future__ import annotations

import os

import pytest
import requests

from tidegate import errors, settings
from tidegate.control.registry.base import ModelDenied, RegistryAway
from tidegate.control.registry.mlflow import ERRORS, MlflowRegistry, translated
from tidegate.errors import ConfigError, InvalidInput, NotFound
from tidegate.registry_files import is_mlflow, tell_mlflow

_TOLD = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_HTTP_REQUEST_TIMEOUT",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT",
)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _TOLD:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


class StoreError(Exception):
    """What the clients of artifact stores raise: no code, no common base."""


class ForeignError(Exception):
    """What MLflow's exceptions look like."""

    def __init__(self, message: str, error_code: str) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = error_code


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        *((ForeignError("no", code), kind) for code, kind in ERRORS.items()),
        (ForeignError("busy", "TEMPORARILY_UNAVAILABLE"), RegistryAway),
        (ForeignError("broken", "INTERNAL_ERROR"), RegistryAway),
        (ForeignError("new", "A_CODE_OF_NEXT_YEAR"), RegistryAway),
        (requests.ConnectionError("refused"), RegistryAway),
        (requests.ReadTimeout("slow"), RegistryAway),
        (ConnectionResetError("reset"), RegistryAway),
        (StoreError("access denied"), RegistryAway),
        (ForeignError("not yours", "PERMISSION_DENIED"), ModelDenied),
        (ForeignError("who?", "UNAUTHENTICATED"), ConfigError),
        (NotFound("ours"), NotFound),
    ],
    ids=lambda value: getattr(value, "error_code", None) or getattr(value, "__name__", type(value).__name__),
)
def test_what_mlflow_raises_becomes_ours(raised: Exception, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught, translated("models:/iris"):
        raise raised
    assert type(caught.value) is kind
    assert len(str(caught.value)) < 400


def test_a_long_foreign_text_becomes_one_line() -> None:
    with pytest.raises(NotFound) as caught, translated("models:/iris"):
        raise ForeignError("first\n\n  second " + "x" * 5000, "RESOURCE_DOES_NOT_EXIST")
    assert str(caught.value).startswith("models:/iris: first second x")
    assert len(str(caught.value)) < 400


def test_a_failed_call_names_the_server_and_no_secret() -> None:
    registry = MlflowRegistry(settings.Registry(kind="mlflow", uri="http://user:password@127.0.0.1:9"))
    text = "API request to http://user:password@127.0.0.1:9/x failed with exception HTTPConnectionPool(Max retries"
    with pytest.raises(RegistryAway) as caught, translated("models:/iris", registry.where):
        raise ForeignError(text, "INTERNAL_ERROR")
    assert str(caught.value) == "MLflow at http://127.0.0.1:9 does not answer"


def test_a_fault_of_our_own_stays_one() -> None:
    with pytest.raises(ZeroDivisionError), translated("models:/iris"):
        raise ZeroDivisionError


def test_every_kind_in_the_table_is_one_of_ours() -> None:
    assert all(issubclass(kind, errors.TidegateError) for kind in ERRORS.values())


@pytest.mark.parametrize("name", ["", " ", "a/b", "../a", "a:b", "..", "a\nb", "x" * 257, "both ' and \""])
def test_names_are_refused_before_a_server_is_asked(name: str) -> None:
    registry = MlflowRegistry(settings.Registry(kind="mlflow", uri="http://127.0.0.1:9"))
    with pytest.raises(InvalidInput, match="cannot be a model's name"):
        registry.get(name, "1")


def test_the_address_is_the_settings_or_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="would make an empty registry in the current folder"):
        MlflowRegistry(settings.Registry(kind="mlflow"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there:5000")
    assert MlflowRegistry(settings.Registry(kind="mlflow")).address == "http://there:5000"
    assert MlflowRegistry(settings.Registry(kind="mlflow", uri="http://here:5000")).address == "http://here:5000"
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://here:5000"  # for the processes that are started from here


def test_mlflow_gives_up_in_time_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    tell_mlflow(settings.Registry())
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "60"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
    assert os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] == "false", "ours is on the screen"
    assert "MLFLOW_TRACKING_URI" not in os.environ


@pytest.mark.parametrize(
    ("kind", "uri", "mlflow"),
    [
        ("files", "", False), ("files", "models", False), ("files", "file:///models", False),
        ("files", "C:\\models", False), ("files", "http://mlflow:5000", True), ("files", "sqlite:///mlflow.db", True),
        ("mlflow", "", True),
    ],
)  # fmt: skip
def test_an_address_is_enough_to_mean_mlflow(kind: str, uri: str, mlflow: bool) -> None:
    assert is_mlflow(settings.Registry(kind=kind, uri=uri)) is mlflow  # type: ignore[arg-type]
