"""Small real models, trained or built in milliseconds and saved in every format that the runtimes read.

Names that start with ``write_`` save a file or folder and return its path; the others return a fitted estimator.
Heavy libraries are imported by the function that needs them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

IRIS_COLUMNS = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")
IRIS_ROW = (5.1, 3.5, 1.4, 0.2)
"""A setosa: class 0."""
CHURN_ROW: Mapping[str, Any] = {
    "age": 41.0,
    "tenure": 7,
    "charges": 70.5,
    "plan": "monthly",
    "country": "nl",
}


def iris() -> tuple[Any, Any]:
    """Features (150, 4) and classes (150,)."""
    from sklearn.datasets import load_iris

    data = load_iris()
    return data.data, data.target


def iris_forest(trees: int = 20, named_classes: bool = False) -> Any:
    """Random forest over iris; ``named_classes`` trains on "setosa" ... instead of 0, 1, 2."""
    from sklearn.ensemble import RandomForestClassifier

    features, classes = iris()
    target = np.array(["setosa", "versicolor", "virginica"])[classes] if named_classes else classes
    return RandomForestClassifier(n_estimators=trees, random_state=0).fit(features, target)


def iris_logistic() -> Any:
    """Scaler and logistic regression over iris."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression()).fit(*iris())


def linear_regressor(columns: int = 3, outputs: int = 1) -> Any:
    """Linear regression on standard normal features; with ``outputs`` above 1 the target is a matrix."""
    from sklearn.linear_model import LinearRegression

    random = np.random.default_rng(0)
    features = random.normal(size=(64, columns))
    target = features @ random.normal(size=(columns, outputs))
    return LinearRegression().fit(features, target if outputs > 1 else target[:, 0])


def churn_table(rows: int = 200) -> Any:
    """A pandas table with numbers, a missing value here and there, and text; and the target 0/1."""
    import pandas

    random = np.random.default_rng(0)
    age = random.normal(45, 12, rows).round(1)
    charges = random.gamma(4, 18, rows).round(2)
    tenure = random.integers(0, 72, rows)
    plan = random.choice(["monthly", "yearly", "prepaid"], rows)
    country = random.choice(["nl", "de", "fr"], rows)
    churned = ((charges > 70) & (tenure < 30) | (plan == "prepaid") & (age < 40)).astype(np.int64)
    age[::17] = np.nan
    table = pandas.DataFrame({"age": age, "tenure": tenure, "charges": charges, "plan": plan, "country": country})
    return table, churned


def churn_pipeline() -> Any:
    """Imputed and scaled numbers, one-hot text, gradient boosting: a table model with mixed types."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    table, churned = churn_table()
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "tenure", "charges"]),
            ("texts", OneHotEncoder(handle_unknown="ignore"), ["plan", "country"]),
        ]
    )
    model = make_pipeline(columns, GradientBoostingClassifier(n_estimators=15, random_state=0))
    return model.fit(table, churned)


def sentiment_pipeline() -> Any:
    """TF-IDF and logistic regression over a handful of sentences; takes an array of strings."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    good = ["a wonderful film", "great acting and a great story", "I loved it", "really good fun", "a joy to watch"]
    bad = ["a terrible film", "bad acting and a dull story", "I hated it", "really poor stuff", "a pain to watch"]
    target = ["positive"] * len(good) + ["negative"] * len(bad)
    return make_pipeline(TfidfVectorizer(), LogisticRegression(C=10)).fit(good + bad, target)


def write_joblib(model: Any, path: Path) -> Path:
    import joblib

    joblib.dump(model, path)
    return path


def write_skops(model: Any, path: Path) -> Path:
    import skops.io

    skops.io.dump(model, path)
    return path


def write_onnx(model: Any, path: Path, columns: int = 4, zipmap: bool = False) -> Path:
    """Converts a scikit-learn model the way most people do: float32 matrix in, label and probabilities out."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.base import is_classifier

    options = {id(model): {"zipmap": zipmap}} if is_classifier(model) else None
    graph = to_onnx(model, initial_types=[("X", FloatTensorType([None, columns]))], options=options, target_opset=17)
    path.write_bytes(graph.SerializeToString())
    return path


def write_affine_onnx(
    path: Path,
    columns: int = 3,
    scale: float = 2.0,
    shift: float = 1.0,
    rows: int | str = "n",
    datatype: str = "FLOAT",
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """``y = scale * x + shift``, x and y (n, columns): tells rows and columns apart exactly. No scikit-learn."""
    from onnx import TensorProto, helper, numpy_helper

    kind = TensorProto.DataType.Value(datatype)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "scale"], ["scaled"]), helper.make_node("Add", ["scaled", "shift"], ["y"])],
        "affine",
        [helper.make_tensor_value_info("x", kind, [rows, columns])],
        [helper.make_tensor_value_info("y", kind, [rows, columns])],
        [numpy_helper.from_array(np.array(value, dtype), name) for name, value in (("scale", scale), ("shift", shift))],
    )
    return _save_graph(graph, path, metadata)


def write_classifier_onnx(
    path: Path,
    weights: Sequence[Sequence[float]] = ((1.0, 0.0, -1.0), (0.0, 1.0, 1.0), (-1.0, 0.0, 0.0), (0.0, -1.0, 0.0)),
    labels: Sequence[str] | None = None,
) -> Path:
    """Linear softmax classifier, weights (columns, classes); outputs ``label`` and ``probabilities``. Builds in a
    millisecond, without scikit-learn; ``labels`` go into the file's metadata."""
    import json

    from onnx import TensorProto, helper, numpy_helper

    matrix = np.array(weights, np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["features", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
            helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
        ],
        "classifier",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", matrix.shape[0]])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", matrix.shape[1]]),
        ],
        [numpy_helper.from_array(matrix, "weights")],
    )
    return _save_graph(graph, path, {"labels": json.dumps(list(labels))} if labels else None)


def write_table_onnx(path: Path) -> Path:
    """Two columns, ``amount`` (n, 1) FP32 and ``code`` (n, 1) text; ``total`` = 2 * amount, ``echo`` = code."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["amount", "two"], ["total"]),
            helper.make_node("Identity", ["code"], ["echo"]),
        ],
        "table",
        [
            helper.make_tensor_value_info("amount", TensorProto.FLOAT, ["n", 1]),
            helper.make_tensor_value_info("code", TensorProto.STRING, ["n", 1]),
        ],
        [
            helper.make_tensor_value_info("total", TensorProto.FLOAT, ["n", 1]),
            helper.make_tensor_value_info("echo", TensorProto.STRING, ["n", 1]),
        ],
        [numpy_helper.from_array(np.array(2, np.float32), "two")],
    )
    return _save_graph(graph, path)


def write_two_inputs_onnx(path: Path) -> Path:
    """``sum = a + b``, all (n, 2) FP32, and ``count`` INT64 (n,): several named tensors in and out."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [
            helper.make_node("Add", ["a", "b"], ["sum"]),
            helper.make_node("ReduceSum", ["sum", "axis"], ["row"], keepdims=0),
            helper.make_node("Cast", ["row"], ["count"], to=TensorProto.INT64),
        ],
        "two",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("a", "b")],
        [
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["n", 2]),
            helper.make_tensor_value_info("count", TensorProto.INT64, ["n"]),
        ],
        [numpy_helper.from_array(np.array([1], np.int64), "axis")],
    )
    return _save_graph(graph, path)


def _save_graph(graph: Any, path: Path, metadata: Mapping[str, str] | None = None) -> Path:
    from onnx import checker, helper

    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if metadata:
        helper.set_model_props(model, dict(metadata))
    checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def write_mlflow_sklearn(model: Any, folder: Path, example: Any, signed: bool = True) -> Path:
    """An MLflow folder of the sklearn flavour, in cloudpickle form, with the signature inferred from ``example``."""
    import mlflow.sklearn
    from mlflow.models import infer_signature

    signature = infer_signature(example, model.predict(example)) if signed else None
    mlflow.sklearn.save_model(
        model,
        str(folder),
        signature=signature,
        serialization_format="cloudpickle",
        pip_requirements=["scikit-learn"],
    )
    return folder


def write_mlflow_onnx(onnx_file: Path, folder: Path, example: Any, outputs: Any) -> Path:
    """An MLflow folder of the onnx flavour around an ONNX file."""
    import mlflow.onnx
    import onnx
    from mlflow.models import infer_signature

    mlflow.onnx.save_model(
        onnx.load(str(onnx_file)),
        str(folder),
        signature=infer_signature(example, outputs),
        pip_requirements=["onnx"],
    )
    return folder


PYTHON_MODEL = """
import numpy as np


class Model:
    signature = {
        "inputs": {"x": {"datatype": "FP64", "shape": [-1, 2]}},
        "outputs": {"predictions": {"datatype": "FP64"}},
        "example": {"x": [1.0, 2.0]},
    }

    def load(self, path):
        self.bias = 0.5

    def predict(self, inputs):
        return {"predictions": inputs["x"].sum(axis=1) + self.bias}
"""


def write_python_model(folder: Path, source: str = PYTHON_MODEL, files: Mapping[str, str] | None = None) -> Path:
    """A folder with ``model.py`` and other files by name. The default model adds 0.5 to the sum of a row."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(textwrap.dedent(source))
    for name, text in (files or {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))
    return folder
