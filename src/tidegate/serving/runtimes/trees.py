"""Our own conversion of histogram trees (scikit-learn, LightGBM) and imputers, in float64.

These compare float64 inputs with float64 thresholds; the usual converters write float32 thresholds, or ones made for
trees that round their inputs, and then take other branches right beside a split.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tidegate.errors import ModelError
from tidegate.types import Array

Add = Callable[..., None]
"""``add(operator, inputs, outputs, domain, **attributes)`` puts one node into a graph."""

_names = itertools.count()


class Ensemble:
    """Trees as the columns of ONNX's TreeEnsembleRegressor, grown node by node."""

    def __init__(self, targets: int, base: Array) -> None:
        self.targets = targets
        self.base = np.asarray(base, np.float64).reshape(-1)
        self.post = "identity"
        self.scale = 1.0
        self.classes: Array | None = None
        self._trees = -1
        self._next = 0
        self._node: dict[str, list[Any]] = {
            key: []
            for key in (
                "treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids",
                "missing_value_tracks_true",
            )
        }  # fmt: skip
        self._leaf: dict[str, list[Any]] = {key: [] for key in ("treeids", "nodeids", "ids", "weights")}

    def tree(self) -> None:
        self._trees += 1
        self._next = 0

    def split(self, feature: int, threshold: float, missing_left: bool) -> int:
        """A node that sends ``x <= threshold`` left; its branches are told by ``join``."""
        return self._row(feature, "BRANCH_LEQ", threshold, int(missing_left))

    def leaf(self, target: int, value: float) -> int:
        node = self._row(0, "LEAF", 0.0, 0)
        for key, item in zip(self._leaf, (self._trees, node, target, value), strict=True):
            self._leaf[key].append(item)
        return node

    def join(self, node: int, left: int, right: int) -> None:
        position = len(self._node["nodeids"]) - self._next + node
        self._node["truenodeids"][position] = left
        self._node["falsenodeids"][position] = right

    def _row(self, feature: int, mode: str, value: float, missing: int) -> int:
        row = (self._trees, self._next, feature, mode, value, 0, 0, missing)
        for key, item in zip(self._node, row, strict=True):
            self._node[key].append(item)
        self._next += 1
        return self._next - 1

    def emit(self, add: Add, x: str, outputs: list[str]) -> None:
        """Nodes from the float64 matrix ``x`` to label and scores, or to the one regression output."""
        from onnx import helper, numpy_helper

        def tensor(values: Array) -> Any:
            return numpy_helper.from_array(np.ascontiguousarray(values), "")

        def constant(values: Array) -> str:
            name = f"tidegate_constant_{next(_names)}"
            add("Constant", [], [name], "", value=tensor(values))
            return name

        def step(operator: str, *inputs: str, **attributes: Any) -> str:
            name = f"tidegate_{operator.lower()}_{next(_names)}"
            add(operator, list(inputs), [name], "", **attributes)
            return name

        attributes = {f"nodes_{key}": values for key, values in self._node.items() if key != "values"}
        attributes |= {f"target_{key}": values for key, values in self._leaf.items() if key != "weights"}
        add(
            "TreeEnsembleRegressor",
            [x],
            ["tidegate_sums"],
            "ai.onnx.ml",
            n_targets=self.targets,
            nodes_values_as_tensor=tensor(np.array(self._node["values"], np.float64)),
            target_weights_as_tensor=tensor(np.array(self._leaf["weights"], np.float64)),
            **attributes,
        )
        sums = step("Cast", "tidegate_sums", to=helper.np_dtype_to_tensor_dtype(np.dtype(np.float64)))
        raw = step("Add", sums, constant(self.base))
        if self.scale != 1.0:
            raw = step("Mul", raw, constant(np.array(self.scale)))
        if self.post == "sigmoid":
            positive = step("Sigmoid", raw)
            scores = step("Concat", step("Sub", constant(np.array(1.0)), positive), positive, axis=1)
        elif self.post == "softmax":
            scores = step("Softmax", raw, axis=1)
        else:
            scores = step("Exp", raw) if self.post == "exp" else raw
        if self.classes is None:
            add("Identity", [scores], [outputs[0]], "")
            return
        best = step("ArgMax", scores, axis=1, keepdims=0)
        classes = self.classes if self.classes.dtype.kind in "iu" else self.classes.astype(object)
        if self.classes.dtype.kind in "bf":
            classes = self.classes.astype(np.int64)
        add("Gather", [constant(classes), best], [outputs[0]], "", axis=0)
        add("Identity", [scores], [outputs[1]], "")


def of_histogram_model(model: Any) -> Ensemble:
    """HistGradientBoostingClassifier and -Regressor without categorical splits. Raises ModelError."""
    predictors = model._predictors
    targets = len(predictors[0])
    ensemble = Ensemble(targets, model._baseline_prediction)
    for group in predictors:
        for target, predictor in enumerate(group):
            ensemble.tree()
            nodes = predictor.nodes
            if nodes["is_categorical"].any():
                raise ModelError("categorical splits are not converted")
            made = [
                ensemble.leaf(target, float(node["value"]))
                if node["is_leaf"]
                else ensemble.split(
                    int(node["feature_idx"]), float(node["num_threshold"]), bool(node["missing_go_to_left"])
                )
                for node in nodes
            ]
            for position, node in zip(made, nodes, strict=True):
                if not node["is_leaf"]:
                    ensemble.join(position, int(node["left"]), int(node["right"]))
    if hasattr(model, "classes_"):
        ensemble.classes = np.asarray(model.classes_)
        ensemble.post = "sigmoid" if targets == 1 else "softmax"
    elif type(model._loss.link).__name__ == "LogLink":
        ensemble.post = "exp"
    return ensemble


def of_lightgbm(booster: Any, classes: Array | None) -> Ensemble:
    """A LightGBM booster with numeric splits. Raises ModelError for what has no equal in ONNX."""
    dump = booster.dump_model()
    targets = int(dump["num_tree_per_iteration"])
    ensemble = Ensemble(targets, np.zeros(targets))
    for index, tree in enumerate(dump["tree_info"]):
        ensemble.tree()
        _grow(ensemble, tree["tree_structure"], index % targets)
    if dump.get("average_output"):
        ensemble.scale = targets / len(dump["tree_info"])
    objective = str(dump.get("objective", "")).split(" ")
    if classes is not None:
        ensemble.classes = np.asarray(classes)
        ensemble.post = "sigmoid" if targets == 1 else "softmax"
        ensemble.scale *= next((float(part[8:]) for part in objective if part.startswith("sigmoid:")), 1.0)
    elif objective[0] in ("poisson", "gamma", "tweedie"):
        ensemble.post = "exp"
    return ensemble


def _grow(ensemble: Ensemble, node: Any, target: int) -> int:
    if "split_feature" not in node:
        return ensemble.leaf(target, float(node["leaf_value"]))
    missing, threshold = node["missing_type"], node["threshold"]
    if node["decision_type"] != "<=" or missing == "Zero":
        raise ModelError("categorical splits, and zero as missing, are not converted")
    # Without a missing type LightGBM reads NaN as zero.
    left = bool(node["default_left"]) if missing == "NaN" else float(threshold) >= 0.0
    position = ensemble.split(int(node["split_feature"]), float(threshold), left)
    ensemble.join(position, _grow(ensemble, node["left_child"], target), _grow(ensemble, node["right_child"], target))
    return position


def graph_of(ensemble: Ensemble, name: str, columns: int) -> Any:
    """A whole model around one ensemble: float64 matrix in, ``label`` and ``probabilities`` or ``variable`` out."""
    from onnx import TensorProto, helper

    nodes: list[Any] = []

    def add(operator: str, inputs: list[str], outputs: list[str], domain: str, **attributes: Any) -> None:
        nodes.append(helper.make_node(operator, inputs, outputs, domain=domain, **attributes))

    names = ["variable"] if ensemble.classes is None else ["label", "probabilities"]
    ensemble.emit(add, name, names)
    graph = helper.make_graph(
        nodes,
        "trees",
        [helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["rows", columns])],
        [helper.make_tensor_value_info(output, TensorProto.DOUBLE, None) for output in names],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _convert_trees(ensemble: Ensemble, operator: Any, container: Any) -> None:
    from skl2onnx.common.data_types import DoubleTensorType

    if not isinstance(operator.inputs[0].type, DoubleTensorType):
        raise ModelError("these trees are converted in float64 only")

    def add(kind: str, inputs: list[str], outputs: list[str], domain: str, **attributes: Any) -> None:
        version = 3 if domain else container.target_opset_any_domain("")
        container.add_node(kind, inputs, outputs, op_domain=domain, op_version=version, **attributes)

    ensemble.emit(add, operator.inputs[0].full_name, [output.full_name for output in operator.outputs])


def _convert_histogram(scope: Any, operator: Any, container: Any) -> None:
    _convert_trees(of_histogram_model(operator.raw_operator), operator, container)


def _convert_lightgbm(scope: Any, operator: Any, container: Any) -> None:
    model = operator.raw_operator
    _convert_trees(of_lightgbm(model.booster_, getattr(model, "classes_", None)), operator, container)


def _convert_imputer(scope: Any, operator: Any, container: Any) -> None:
    """A mean, median or constant in the place of NaN; ONNX Runtime's own Imputer has no float64."""
    from skl2onnx.common.data_types import DoubleTensorType
    from skl2onnx.operator_converters.imputer_op import convert_sklearn_imputer

    model = operator.raw_operator
    statistics = np.asarray(model.statistics_)
    plain = (
        len(operator.inputs) == 1
        and isinstance(operator.inputs[0].type, DoubleTensorType)
        and statistics.dtype.kind == "f"
        and not np.isnan(statistics).any()
        and isinstance(model.missing_values, float)
        and np.isnan(model.missing_values)
        and not model.add_indicator
    )
    if not plain:
        convert_sklearn_imputer(scope, operator, container)
        return
    x, output = operator.inputs[0].full_name, operator.outputs[0].full_name
    missing, filling = scope.get_unique_variable_name("missing"), scope.get_unique_variable_name("filling")
    container.add_initializer(filling, 11, list(statistics.shape), statistics.tolist())
    container.add_node("IsNaN", [x], [missing], op_version=13)
    container.add_node("Where", [missing, filling, x], [output], op_version=16)


def registrations() -> Iterator[tuple[type, str, Any, Any, bool]]:
    """(class, name, shapes, converter, is classifier) of scikit-learn's classes that we convert ourselves."""
    from skl2onnx.common._registration import get_shape_calculator
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.impute import SimpleImputer

    yield (
        HistGradientBoostingClassifier, "TidegateHistogramClassifier",
        calculate_linear_classifier_output_shapes, _convert_histogram, True,
    )  # fmt: skip
    yield (
        HistGradientBoostingRegressor, "TidegateHistogramRegressor",
        calculate_linear_regressor_output_shapes, _convert_histogram, False,
    )  # fmt: skip
    yield SimpleImputer, "TidegateImputer", get_shape_calculator("SklearnSimpleImputer"), _convert_imputer, False


def lightgbm_registrations() -> Iterator[tuple[type, str, Any, Any, bool]]:
    """As ``registrations``, for LightGBM's estimators."""
    import lightgbm
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    yield (
        lightgbm.LGBMClassifier, "TidegateLightgbmClassifier",
        calculate_linear_classifier_output_shapes, _convert_lightgbm, True,
    )  # fmt: skip
    yield (
        lightgbm.LGBMRegressor, "TidegateLightgbmRegressor",
        calculate_linear_regressor_output_shapes, _convert_lightgbm, False,
    )  # fmt: skip
