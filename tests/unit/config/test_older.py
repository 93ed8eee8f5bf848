from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tidegate.config import load_settings
from tidegate.errors import ConfigError
from tidegate.settings import ENDPOINT_ALIASES, EndpointSettings, Settings

CONFIG = """\
default_endpoint: churn
endpoints:
  other: {model: other.onnx}
  churn:
    model: churn.onnx
    variants:
      candidate: {model: next.onnx, share: 10}
"""


def load(
    folder: Path, text: str, environment: Mapping[str, str], overrides: Mapping[str, object] | None = None
) -> Settings:
    file = folder / "tidegate.yaml"
    file.write_text(text)
    return load_settings(file, environment=environment, overrides=overrides or {}).settings


def churn(folder: Path, **environment: str) -> EndpointSettings:
    settings = load(folder, CONFIG, environment)
    assert settings.endpoints["other"] == EndpointSettings(model="other.onnx")
    return settings.endpoints["churn"]


@pytest.mark.parametrize(
    ("environment", "model"),
    [
        ({}, "churn.onnx"),
        ({"MODEL_PATH": "models/best.onnx"}, "models/best.onnx"),
        ({"MODEL_REGISTRY_NAME": "bank"}, "models:/bank@champion"),
        ({"MLFLOW_MODEL_NAME": "bank"}, "models:/bank@champion"),
        ({"MLFLOW_MODEL_NAME": "bank", "MODEL_REGISTRY_NAME": "shop"}, "models:/shop@champion"),
        ({"MODEL_PATH": "best.onnx", "MODEL_REGISTRY_NAME": "shop"}, "best.onnx"),
        ({"MODEL_REGISTRY_NAME": "bank", "MODEL_STAGE": "production"}, "models:/bank/Production"),
        ({"MODEL_REGISTRY_NAME": "bank", "MODEL_STAGE": "7"}, "models:/bank/7"),
        ({"MODEL_REGISTRY_NAME": "bank", "MODEL_STAGE": "challenger"}, "models:/bank@challenger"),
        ({"MODEL_STAGE": "Production"}, "churn.onnx"),
        ({"MODEL_PATH": ""}, "churn.onnx"),
        ({"MODEL_PATH": "best.onnx", "TIDEGATE_ENDPOINTS__CHURN__MODEL": "mine.onnx"}, "mine.onnx"),
    ],
)
def test_the_model_of_the_default_endpoint(tmp_path: Path, environment: dict[str, str], model: str) -> None:
    assert churn(tmp_path, **environment).model == model


@pytest.mark.parametrize(
    ("environment", "share"),
    [
        ({}, 10),
        ({"AB_ENABLED": "true"}, 10),
        ({"AB_BUCKET_B_PCT": "35"}, 35),
        ({"AB_ENABLED": "1", "AB_BUCKET_B_PCT": "35"}, 35),
        ({"AB_ENABLED": "False", "AB_BUCKET_B_PCT": "35"}, 0),
        ({"AB_BUCKET_B_PCT": "35", "TIDEGATE_ENDPOINTS__CHURN__VARIANTS__CANDIDATE__SHARE": "5"}, 5),
    ],
)
def test_the_share_of_its_candidate(tmp_path: Path, environment: dict[str, str], share: float) -> None:
    assert churn(tmp_path, **environment).variants["candidate"].share == share


def test_the_header_of_the_unit(tmp_path: Path) -> None:
    assert churn(tmp_path, AB_STICKY_HEADER="X-Customer-Id").routing.unit_header == "X-Customer-Id"


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"AB_ENABLED": "perhaps"}, 'environment AB_ENABLED: got "perhaps"; allowed: true or false'),
        ({"AB_BUCKET_B_PCT": "150"}, "environment AB_BUCKET_B_PCT: endpoints.churn.variants.candidate.share: got"),
        ({"AB_STICKY_HEADER": "not a header"}, "environment AB_STICKY_HEADER: endpoints.churn.routing.unit_header: is"),
    ],
)
def test_a_mistake_names_the_older_name(tmp_path: Path, environment: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        churn(tmp_path, **environment)
    assert text in str(caught.value)


def test_of_several_variants_none_is_guessed(tmp_path: Path) -> None:
    config = "endpoints: {a: {model: m, variants: {b: {model: n}, c: {model: o}}}}"
    with pytest.raises(ConfigError, match="a has the variants b, c; give each its share"):
        load(tmp_path, config, {"AB_BUCKET_B_PCT": "5"})
    assert load(tmp_path, config, {}).endpoints["a"].variants["b"].share == 0


def test_the_only_variant_is_the_candidate(tmp_path: Path) -> None:
    settings = load(tmp_path, "endpoints: {a: {model: m, variants: {b: {model: n}}}}", {"AB_BUCKET_B_PCT": "5"})
    assert settings.endpoints["a"].variants["b"].share == 5


@pytest.mark.parametrize(
    ("environment", "name", "model"),
    [
        ({"MODEL_PATH": "models/churn.v2.onnx"}, "churn", "models/churn.v2.onnx"),
        ({"MODEL_REGISTRY_NAME": "bank churn"}, "bank-churn", "models:/bank churn@champion"),
    ],
)
def test_without_any_endpoint_one_is_made(tmp_path: Path, environment: dict[str, str], name: str, model: str) -> None:
    endpoints = load(tmp_path, "logs: {level: info}", environment | {"AB_STICKY_HEADER": "X-Customer"}).endpoints
    assert {name: endpoint.model for name, endpoint in endpoints.items()} == {name: model}
    assert endpoints[name].routing.unit_header == "X-Customer"


def test_a_model_that_is_typed_wins(tmp_path: Path) -> None:
    settings = load(tmp_path, "", {"MODEL_PATH": "best.onnx"}, {"endpoints": {"mine": {"model": "mine.onnx"}}})
    assert {name: endpoint.model for name, endpoint in settings.endpoints.items()} == {"mine": "mine.onnx"}


def test_alone_they_ask_for_no_endpoint(tmp_path: Path) -> None:
    quiet = {name: "1" for name in ENDPOINT_ALIASES if name.startswith("AB_") or name == "MODEL_STAGE"}
    assert load(tmp_path, "", quiet).endpoints == {}
