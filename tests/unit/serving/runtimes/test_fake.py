"""The mock model costs and fails as told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.unit.serving.runtimes.agreement import assert_batched_equals_single
from tidegate.errors import ContractError, ModelError
from tidegate.serving.runtimes.base import LoadedModel
from tidegate.serving.runtimes.load import load_model
from tidegate.settings import Trust
from tidegate.types import ModelRef


def load(**options: Any) -> LoadedModel:
    return load_model(ModelRef(uri="fake:", options=options), Trust(schemes=()))


def test_answers_follow_the_inputs() -> None:
    loaded = load(bias=1)
    inputs = {"x": np.arange(20, dtype=float).reshape(5, 4)}
    outputs = assert_batched_equals_single(loaded, inputs, 0.0)
    assert outputs["predictions"].tolist() == (inputs["x"].sum(axis=1) + 1).tolist()


def test_classes_follow_the_inputs() -> None:
    loaded = load(labels=["no", "yes"], columns=["a", "b"])
    assert loaded.signature.labels == ("no", "yes")
    assert loaded.signature.columns == ("a", "b")
    outputs = assert_batched_equals_single(loaded, {"x": np.array([[1.0, 1.0], [1.0, 2.0]])}, 0.0)
    assert outputs["predictions"].tolist() == [0, 1]
    assert outputs["scores"].argmax(axis=1).tolist() == [0, 1]


def test_text_and_declared_inputs() -> None:
    assert load(text=True).signature.inputs[0].content == "text"
    loaded = load(signature={"inputs": {"a": "FP64", "t": "BYTES"}, "outputs": {"predictions": "FP64"}})
    outputs = loaded.runtime.predict({"a": np.array([1.0, 2.0]), "t": np.array(["abc", ""], object)})
    assert outputs["predictions"].tolist() == [4.0, 2.0]  # type: ignore[index]


def test_identity_is_in_the_options() -> None:
    assert load(bias=1).facts.digest == load(bias=1).facts.digest != load(bias=2).facts.digest


ROW = {"x": np.ones((2, 4))}


def test_faults_begin_after_the_warm_up() -> None:
    with pytest.raises(RuntimeError, match="as told"):
        load(fail=True).runtime.predict(ROW)
    assert np.isnan(load(nan=True).runtime.predict(ROW)["predictions"]).all()  # type: ignore[index]
    assert len(load(wrong_rows=True).runtime.predict(ROW)["predictions"]) == 1  # type: ignore[index]
    assert list(load(wrong_names=True).runtime.predict(ROW)) == ["wrong"]  # type: ignore[arg-type]


def test_faults_at_load_are_load_errors() -> None:
    with pytest.raises(ModelError, match="as told"):
        load(fail_load=True)
    with pytest.raises(ContractError, match="0 rows for 1 rows"):
        load(wrong_rows=True, at_load=True)
    with pytest.raises(ContractError, match="not a finite number"):
        load(nan=True, at_load=True)


def test_fault_on_one_value_or_after_some_calls() -> None:
    loaded = load(fail_on=7.0)
    loaded.runtime.predict(ROW)
    with pytest.raises(RuntimeError):
        loaded.runtime.predict({"x": np.array([[1.0, 7.0, 0.0, 0.0]])})
    loaded = load(fail_after=2)
    loaded.runtime.predict(ROW)
    loaded.runtime.predict(ROW)
    with pytest.raises(RuntimeError):
        loaded.runtime.predict(ROW)


def test_fail_rate_is_repeatable() -> None:
    def pattern() -> list[bool]:
        loaded, seen = load(fail_rate=0.5, seed=3), []
        for _ in range(20):
            try:
                loaded.runtime.predict(ROW)
                seen.append(True)
            except RuntimeError:
                seen.append(False)
        return seen

    assert pattern() == pattern()
    assert 0 < sum(pattern()) < 20


def test_unknown_option_is_named() -> None:
    with pytest.raises(ModelError, match="no option 'base_mss'"):
        load(base_mss=1)
