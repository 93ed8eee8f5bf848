from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.unit.control.training.tables import CHURN, config
from tidegate.apps.training import read_config
from tidegate.control.training.config import Data, TrainingConfig, broken_rules
from tidegate.control.training.train import experiment_of
from tidegate.errors import ConfigError

GOOD = """
name: churn
data: {csv: churn.csv}
target: churned
families:
  logistic_regression:
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "train.yaml"
    file.write_text(text)
    return file


def test_the_least_configuration_is_complete(tmp_path: Path) -> None:
    found = read_config(written(tmp_path, GOOD))
    assert (found.metric, found.scoring, found.alias) == ("accuracy", "accuracy", "challenger")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "familys: {}\n", 'train.yaml:7: familys: unknown key; did you mean "families"?'),
        (GOOD + "seed: many\n", 'train.yaml:7: seed: got "many"; allowed: a whole number from 0 to'),
        (GOOD + "split: {test: 1.5}\n", "train.yaml:7: split.test: got 1.5"),
        (GOOD.replace("target: churned\n", ""), "target: must be given"),
        (GOOD.replace("  logistic_regression:", "  forest:"), "train.yaml:5: families.forest: is no family"),
        (
            GOOD.replace("_regression:", "_regression: {depth: 3}"),
            "families.logistic_regression.depth: is no parameter",
        ),
        (GOOD + "gate: {metric: rmse}\n", "gate.metric: rmse is no metric of classification"),
        (GOOD + "schema:\n  age: {min: 9, max: 3}\n", "train.yaml:8: schema.age.min: greater than max"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(written(tmp_path, text))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"data": {"csv": "a.csv", "parquet": "b.parquet"}}, "data"),
        ({"data": {}}, "data"),
        ({"schema": {"age": {}}}, "schema"),
        ({"split": {"by": "time"}}, "split.time"),
        ({"features": {"drop": ["churned"]}}, "target"),
        ({"gate": {"test": "mcnemar", "metric": "f1"}}, "gate.test"),
        ({"gate": {"test": "mcnemar", "min_gain": 0.1}}, "gate.min_gain"),
        ({"task": "regression", "families": {"ridge": None}, "features": {"smote": True}}, "features.smote"),
        ({"families": {"logistic_regression": {"C": list(range(1, 200))}}}, "families"),
        ({"profile": {"kinds": {"age": "colour"}}}, "profile.kinds.age"),
    ],
)
def test_what_types_cannot_say(changes: dict[str, object], key: str) -> None:
    assert key in [name for name, _ in broken_rules(config(**changes))]


def test_a_good_one_breaks_no_rule() -> None:
    assert not list(broken_rules(config()))
    assert CHURN["schema"].keys() == config().schema.keys()


def test_the_experiment_of_mlflow_may_come_from_its_own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    named = TrainingConfig(name="iris", data=Data(csv="iris.csv"), target="kind", families={}, experiment="flowers")
    unnamed = msgspec.structs.replace(named, experiment="")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    assert (experiment_of(named), experiment_of(unnamed)) == ("flowers", "iris")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "nightly")
    assert (experiment_of(named), experiment_of(unnamed)) == ("flowers", "nightly")
