"""scikit-learn, XGBoost and LightGBM models: compiled to ONNX when that gives the same answers, else as they are."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tidegate.errors import ContractError, ModelError, UntrustedModel
from tidegate.serving.runtimes.base import Opened
from tidegate.serving.runtimes.signatures import overlay, with_example
from tidegate.types import Array, Signature, Tensors, TensorSpec, datatype_of

if TYPE_CHECKING:
    from tidegate.serving.runtimes.detect import Format

log = logging.getLogger("tidegate.runtimes")

_ONE_CALL = (
    "sklearn.ensemble._forest", "sklearn.ensemble._gb", "sklearn.ensemble._hist_gradient_boosting", "sklearn.tree",
    "sklearn.linear_model._logistic", "sklearn.naive_bayes", "sklearn.neural_network", "xgboost", "lightgbm",
    "tidegate.serving.runtimes.boosters",
)  # fmt: skip
"""Families whose class is by definition the one with the highest score, so that one call gives both. (Not SVC:
its classes come from the margins, its probabilities from a fit on top of them.)"""


def open_estimator(
    form: Format,
    path: Path,
    where: str,
    options: Mapping[str, Any],
    known_types: Sequence[str] | None,
    threads: int,
    hint: Signature | None = None,
) -> Opened:
    """Loads and, unless ``options.compile`` is false, compiles. ``known_types`` are what a skops file may hold
    beyond its own list, None for anything; ``hint`` is a signature stored beside the model."""
    model = read_estimator(form, path, where, known_types)
    return open_loaded(model, where, options, threads, beside=path, hint=hint)


def open_loaded(
    model: Any, where: str, options: Mapping[str, Any], threads: int, beside: Path, hint: Signature | None = None
) -> Opened:
    """An estimator that is in memory already, as ``open_estimator``."""
    from tidegate.serving.runtimes.structure import describe

    calm(model, threads)
    layout = describe(model, where, options, hint)
    signature = overlay(layout.signature, options)
    signature = with_example(msgspec.structs.replace(signature, labels=signature.labels or _labels(model)))
    runtime = EstimatorRuntime(model, signature, layout.frame_columns)
    if not options.get("compile", True):
        return Opened(runtime=runtime, runtime_name=family(model), note="not compiled: options.compile is false")
    from tidegate.serving.runtimes.compile import compile_verified

    result = compile_verified(runtime, layout, where, options, threads, beside)
    if result.runtime is None:
        log.info("model runs as it is", extra={"model": where, "note": result.note})
        return Opened(runtime=runtime, runtime_name=family(model), note=result.note)
    return Opened(
        runtime=result.runtime, runtime_name=family(model), compiled=True, note=result.note, graph=result.graph
    )


def read_estimator(form: Format, path: Path, where: str, known_types: Sequence[str] | None = ()) -> Any:
    """The estimator in a file. Raises ModelError or UntrustedModel; version warnings become a log line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if form == "skops":
            model = _read_skops(path, where, known_types)
        elif form in ("xgboost", "lightgbm"):
            from tidegate.serving.runtimes.boosters import read_booster

            model = read_booster(form, path, where)
        else:
            import joblib

            from tidegate.serving.runtimes.boosters import as_estimator

            model = as_estimator(joblib.load(path))
    for warning in caught:
        if type(warning.message).__name__ == "InconsistentVersionWarning":
            note = warning.message
            log.warning(
                "model was trained with another scikit-learn",
                extra={
                    "model": where,
                    "trained_with": getattr(note, "original_sklearn_version", "?"),
                    "installed": getattr(note, "current_sklearn_version", "?"),
                    "advice": "install the version it was trained with, or train it again; answers may differ",
                },
            )
            break
    if not callable(getattr(model, "predict", None)):
        raise ContractError(f"{where}: holds a {type(model).__name__}, which has no predict")
    return model


def _read_skops(path: Path, where: str, known_types: Sequence[str] | None) -> Any:
    from skops.io import get_untrusted_types, load

    found = get_untrusted_types(file=path)
    unknown = [] if known_types is None else [name for name in found if name not in known_types]
    if unknown:
        names = ", ".join(unknown[:5]) + (" ..." if len(unknown) > 5 else "")
        raise UntrustedModel(
            f"{where}: holds types that are not known to be safe: {names}. Add them to trust.skops_types"
        )
    return load(path, trusted=found)


def calm(model: Any, threads: int) -> None:
    """One model uses ``threads`` threads: estimators lose their own pools, BLAS and OpenMP are limited."""
    import threadpoolctl

    parameters: Mapping[str, Any] = getattr(model, "get_params", dict)()
    pools = {name: 1 for name in parameters if name == "n_jobs" or name.endswith("__n_jobs")}
    if pools:
        model.set_params(**pools)
    # Not as a context: entering one costs milliseconds for each prediction.
    threadpoolctl.threadpool_limits(threads)


def family(model: Any) -> str:
    module = type(model).__module__
    for name in ("xgboost", "lightgbm"):
        if module.startswith(name) or getattr(model, "family", "") == name:
            return name
    return "sklearn"


def classes_of(model: Any) -> Array | None:
    """The classes of a classifier with one target, else None."""
    classes = getattr(model, "classes_", None)
    if classes is None or not _is_classifier(model):
        return None
    array = np.asarray(classes)
    return array if array.ndim == 1 else None


def _is_classifier(model: Any) -> bool:
    if getattr(model, "family", ""):
        return True
    from sklearn.base import is_classifier

    return bool(is_classifier(model))


def _labels(model: Any) -> tuple[str, ...]:
    classes = classes_of(model)
    if classes is None or classes.dtype.kind not in "OUS":
        return ()
    return tuple(str(name) for name in classes)


class EstimatorRuntime:
    """Calls ``predict`` and ``predict_proba``. A table goes in as a pandas frame only if the model was fitted on one."""

    inline_safe = False

    def __init__(self, model: Any, signature: Signature, frame_columns: tuple[str, ...]) -> None:
        self.platform = f"{family(model)}_{family(model)}"
        self.model = model
        self._frame_columns = frame_columns
        classes = classes_of(model)
        self._classes = classes.astype(object) if classes is not None and classes.dtype.kind in "US" else classes
        self._scores = classes is not None and callable(getattr(model, "predict_proba", None))
        last = model.steps[-1][1] if hasattr(model, "steps") else model
        self._one_call = self._scores and type(last).__module__.startswith(_ONE_CALL)
        self.signature = signature
        if not signature.outputs:
            self.signature = msgspec.structs.replace(signature, outputs=self._outputs())

    def _outputs(self) -> tuple[TensorSpec, ...]:
        if self._classes is None:
            return ()
        datatype = datatype_of(self._classes.dtype)
        predictions = TensorSpec(
            name="predictions", datatype=datatype, content="text" if datatype == "BYTES" else "number"
        )
        if not self._scores:
            return (predictions,)
        return (predictions, TensorSpec(name="scores", datatype="FP64", shape=(-1, len(self._classes))))

    def predict(self, inputs: Tensors) -> Tensors:
        model = self.model
        if model is None:
            raise ModelError("the model was closed")
        table = self._arranged(inputs)
        if self._scores:
            scores = np.asarray(model.predict_proba(table))
            if scores.dtype != np.float64:
                scores = scores.astype(np.float64)
            if self._one_call and self._classes is not None:
                return {"predictions": self._classes[scores.argmax(axis=1)], "scores": scores}
            return {"predictions": _plain(model.predict(table)), "scores": scores}
        return {"predictions": _plain(model.predict(table))}

    def _arranged(self, inputs: Tensors) -> Any:
        """What the estimator was fitted on: a frame, a matrix or a list of texts."""
        specs = self.signature.inputs
        if not self._frame_columns:
            return inputs[specs[0].name]
        import pandas

        if self.signature.is_matrix:
            return pandas.DataFrame(inputs[specs[0].name], columns=list(self._frame_columns), copy=False)
        rows = len(next(iter(inputs.values())))
        columns = {}
        for spec in specs:
            array = inputs.get(spec.name)
            if array is None:
                array = np.full(rows, None, object) if spec.datatype == "BYTES" else np.full(rows, np.nan)
            columns[spec.name] = array if array.ndim == 1 else array.reshape(-1)
        return pandas.DataFrame(columns, copy=False)

    def close(self) -> None:
        self.model = None


def _plain(values: Any) -> Array:
    """Text as objects; a single regression column as one dimension."""
    array = np.asarray(values)
    if array.dtype.kind in "US":
        return array.astype(object)
    return array.reshape(-1) if array.ndim == 2 and array.shape[1] == 1 else array
