"""XGBoost and LightGBM: their own file formats, their thresholds, their converters to ONNX."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tidegate.errors import ModelError
from tidegate.types import Array


class LightgbmModel:
    """A LightGBM text file with the methods of an estimator."""

    family = "lightgbm"

    def __init__(self, booster: Any) -> None:
        self.booster_ = booster
        self.n_features_in_ = int(booster.num_feature())
        names = [str(name) for name in booster.feature_name()]
        if not all(name.startswith("Column_") for name in names):
            self.feature_names_in_ = np.array(names, object)
        objective = str(booster.dump_model(num_iteration=1).get("objective", ""))
        if objective.startswith("binary"):
            self.classes_ = np.array([0, 1])
        elif objective.startswith("multiclass"):
            self.classes_ = np.arange(int(booster.num_model_per_iteration()))
        if hasattr(self, "classes_"):
            self.predict_proba = self._scores

    def predict(self, table: Any) -> Array:
        if hasattr(self, "classes_"):
            classes: Array = self.classes_[self._scores(table).argmax(axis=1)]
            return classes
        return np.asarray(self.booster_.predict(table, num_threads=1))

    def _scores(self, table: Any) -> Array:
        scores = np.asarray(self.booster_.predict(table, num_threads=1))
        return np.column_stack([1 - scores, scores]) if scores.ndim == 1 else scores


def read_booster(form: str, path: Path, where: str) -> Any:
    """An estimator from a native file: XGBoost .json or .ubj, LightGBM .txt. These hold data, not code."""
    if form == "lightgbm":
        import lightgbm

        try:
            return LightgbmModel(lightgbm.Booster(model_file=str(path)))
        except lightgbm.basic.LightGBMError as error:
            raise ModelError(f"{where}: LightGBM cannot read this file: {error}") from error
    import xgboost

    try:
        return _xgboost_estimator(xgboost.Booster(model_file=str(path)))
    except xgboost.core.XGBoostError as error:
        raise ModelError(f"{where}: XGBoost cannot read this file: {' '.join(str(error).split())[:200]}") from error


def as_estimator(model: Any) -> Any:
    """A bare booster, as some people pickle it, with the methods of an estimator; anything else as it is."""
    if type(model).__name__ != "Booster":
        return model
    if type(model).__module__.startswith("lightgbm"):
        return LightgbmModel(model)
    return _xgboost_estimator(model) if type(model).__module__.startswith("xgboost") else model


def _xgboost_estimator(booster: Any) -> Any:
    """The estimator of the kind that the booster's objective says."""
    import xgboost

    objective = str(json.loads(booster.save_config())["learner"]["objective"]["name"])
    kind = xgboost.XGBRegressor
    if objective in ("binary:logistic", "multi:softprob", "multi:softmax"):
        kind = xgboost.XGBClassifier
    elif objective.startswith("rank:"):
        kind = xgboost.XGBRanker
    model = kind()
    model.load_model(booster.save_raw("ubj"))
    return model


def thresholds(model: Any) -> Iterator[tuple[int, float]]:
    """(feature, threshold) of every split."""
    if hasattr(model, "booster_"):
        for tree in model.booster_.dump_model()["tree_info"]:
            yield from _lightgbm_splits(tree["tree_structure"])
    elif hasattr(model, "get_booster"):
        booster = model.get_booster()
        names = {name: position for position, name in enumerate(booster.feature_names or ())}
        for tree in booster.get_dump(dump_format="json"):
            yield from _xgboost_splits(json.loads(tree), names)


def _lightgbm_splits(node: Any) -> Iterator[tuple[int, float]]:
    if "split_feature" in node:
        if isinstance(node["threshold"], int | float):
            yield int(node["split_feature"]), float(node["threshold"])
        yield from _lightgbm_splits(node["left_child"])
        yield from _lightgbm_splits(node["right_child"])


def _xgboost_splits(node: Any, names: dict[str, int]) -> Iterator[tuple[int, float]]:
    if "split" in node:
        split = str(node["split"])
        position = names.get(split, int(split[1:]) if split[1:].isdigit() else -1)
        if isinstance(node.get("split_condition"), int | float):
            yield position, float(node["split_condition"])
        for child in node["children"]:
            yield from _xgboost_splits(child, names)


_OPTIONS = {"nocl": [True, False], "zipmap": [True, False, "columns"]}


def register_converters(model: Any) -> None:
    """Teaches skl2onnx our own conversions, and those of the boosters inside ``model``."""
    from tidegate.serving.runtimes.structure import flatten
    from tidegate.serving.runtimes.trees import lightgbm_registrations, registrations

    parts = {type(step).__module__.split(".")[0] for step in flatten(model)}
    for step in flatten(model):
        for member in getattr(step, "estimators", None) or ():
            parts.add(type(member[1] if isinstance(member, tuple) else member).__module__.split(".")[0])
    wanted = list(registrations())
    if "lightgbm" in parts:
        wanted.extend(lightgbm_registrations())
    if "xgboost" in parts:
        wanted.extend(_xgboost_registrations())
    from skl2onnx import update_registered_converter

    for kind, name, shapes, converter, is_classifier in wanted:
        options = _OPTIONS if is_classifier else None
        update_registered_converter(kind, name, shapes, converter, options=options, overwrite=True)


def _xgboost_registrations() -> Iterator[tuple[type, str, Any, Any, bool]]:
    import xgboost
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    yield (
        xgboost.XGBClassifier, "TidegateXgboostClassifier",
        calculate_linear_classifier_output_shapes, convert_xgboost, True,
    )  # fmt: skip
    yield (
        xgboost.XGBRegressor, "TidegateXgboostRegressor",
        calculate_linear_regressor_output_shapes, convert_xgboost, False,
    )  # fmt: skip


def convert_booster(model: LightgbmModel, name: str) -> Any:
    """The graph of a LightGBM text file."""
    from tidegate.serving.runtimes.trees import graph_of, of_lightgbm

    return graph_of(of_lightgbm(model.booster_, getattr(model, "classes_", None)), name, model.n_features_in_)
