"""MLflow model folders. An ONNX or scikit-learn flavour is opened directly, without MLflow; the rest by MLflow."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tidegate.errors import ContractError, MissingExtra, ModelError
from tidegate.mlmodel import stored_signature
from tidegate.serving.runtimes.base import Opened
from tidegate.serving.runtimes.signatures import overlay, with_example
from tidegate.serving.runtimes.sources import Source, first_line, require_trust
from tidegate.settings import Trust
from tidegate.types import Array, Signature, Tensors


def open_mlflow(
    folder: Path, source: Source, options: Mapping[str, Any], trust: Trust, threads: int, direct: bool = True
) -> Opened:
    """``direct=False`` always asks MLflow, as ``runtime: pyfunc`` does. Raises ModelError and its kinds."""
    description = _description(folder, source.where)
    hint = stored_signature(description, source.where)
    flavors = description.get("flavors") or {}
    if direct and not _has_code(flavors):
        opened = _direct(folder, source, flavors, options, trust, threads, hint)
        if opened is not None:
            return opened
    require_trust(source, "an MLflow pyfunc model")
    return _by_mlflow(folder, source.where, options, hint)


def _description(folder: Path, where: str) -> dict[str, Any]:
    import yaml

    try:
        description = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelError(f"{where}: MLmodel is not readable: {first_line(error)}") from error
    if not isinstance(description, dict) or not description.get("flavors"):
        raise ModelError(f"{where}: MLmodel names no flavors")
    return description


def _has_code(flavors: Mapping[str, Any]) -> bool:
    """A folder of Python beside the model, which only MLflow puts into the path."""
    return any(isinstance(flavor, Mapping) and flavor.get("code") for flavor in flavors.values())


def _direct(
    folder: Path,
    source: Source,
    flavors: Mapping[str, Any],
    options: Mapping[str, Any],
    trust: Trust,
    threads: int,
    hint: Signature | None,
) -> Opened | None:
    """The ONNX or estimator file inside, when there is one and its content is what the flavour says."""
    from tidegate.serving.runtimes.detect import detect

    where = source.where
    if "onnx" in flavors:
        form, path = detect(_inside(folder, str(flavors["onnx"].get("data", "model.onnx")), where), where)
        if form == "onnx":
            from tidegate.serving.runtimes.onnx import open_onnx

            return _renamed(open_onnx(path, where, options, threads), hint, options)
        return None
    for flavor, key in (("sklearn", "pickled_model"), ("xgboost", "data"), ("lightgbm", "data")):
        if flavor not in flavors:
            continue
        named = flavors[flavor].get(key) or flavors[flavor].get("model_class_file")
        if not named:
            return None
        path = _inside(folder, str(named), where)
        if not path.is_file():
            return None
        form, path = detect(path, where)
        if form not in ("pickle", "skops", "xgboost", "lightgbm"):
            return None
        if form == "pickle":
            require_trust(source, "a pickled model in an MLflow folder")
        from tidegate.serving.runtimes.sklearn import open_estimator

        known_types = None if source.trusted else trust.skops_types
        return open_estimator(form, path, where, options, known_types, threads, hint)
    return None


def _inside(folder: Path, name: str, where: str) -> Path:
    path = (folder / name).resolve()
    if folder.resolve() not in path.parents:
        raise ModelError(f"{where}: MLmodel points outside its folder")
    return path


def _renamed(opened: Opened, hint: Signature | None, options: Mapping[str, Any]) -> Opened:
    """An ONNX graph knows its inputs; MLflow's signature adds the names of columns, if they fit."""
    signature = opened.runtime.signature
    if hint is None or not signature.is_matrix or signature.columns or "columns" in options:
        return opened
    names = hint.columns
    if len(names) == signature.inputs[0].shape[1]:
        spec = msgspec.structs.replace(signature.inputs[0], columns=names)
        opened.runtime.signature = msgspec.structs.replace(signature, inputs=(spec,))
    return opened


def _by_mlflow(folder: Path, where: str, options: Mapping[str, Any], hint: Signature | None) -> Opened:
    try:
        import mlflow.pyfunc
    except ImportError as error:
        raise MissingExtra("mlflow", f"the pyfunc model {where}") from error
    import logging

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Hints for whoever logs a model, not for whoever serves it.
            warnings.simplefilter("ignore")
            model = mlflow.pyfunc.load_model(str(folder), suppress_warnings=True)
    except ImportError:
        raise
    except Exception as error:
        raise ModelError(f"{where}: MLflow cannot load it: {type(error).__name__}: {first_line(error)}") from error
    found = Signature(inputs=hint.inputs) if hint is not None else Signature(inputs=())
    signature = overlay(found, options)
    if not signature.inputs:
        raise ContractError(
            f"{where}: the model was logged without a signature; log it with signature=infer_signature(...), or "
            "write one under options.signature"
        )
    example = signature.example or stored_example(folder, signature)
    signature = with_example(msgspec.structs.replace(signature, example=example))
    tensors = hint is not None and _has_tensors(folder, where)
    params = {str(key): value for key, value in dict(options.get("params", {})).items()}
    return Opened(
        runtime=PyfuncRuntime(model, signature, as_tensors=tensors, params=params),
        runtime_name="pyfunc",
        note="not compiled: MLflow runs it",
    )


def _has_tensors(folder: Path, where: str) -> bool:
    raw = (_description(folder, where).get("signature") or {}).get("inputs") or "[]"
    return any(field.get("type") == "tensor" for field in json.loads(raw))


def stored_example(folder: Path, signature: Signature) -> Any:
    """The first row of the example that was logged with the model, when it fits; else None."""
    file = folder / "input_example.json"
    try:
        stored = json.loads(file.read_text())
        if "columns" in stored:
            row = dict(zip(stored["columns"], stored["data"][0], strict=True))
            return {spec.name: row[spec.name] for spec in signature.inputs}
        if signature.is_matrix:
            return {signature.inputs[0].name: stored["inputs"][0]}
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None
    return None


class PyfuncRuntime:
    """``mlflow.pyfunc``: a frame for column signatures, arrays for tensor ones; ``options.params`` go along."""

    platform = "mlflow_pyfunc"
    inline_safe = False

    def __init__(self, model: Any, signature: Signature, as_tensors: bool, params: Mapping[str, Any]) -> None:
        self.signature = signature
        self._model = model
        self._as_tensors = as_tensors
        self._params = dict(params) or None

    def predict(self, inputs: Tensors) -> Tensors:
        model = self._model
        if model is None:
            raise ModelError("the model was closed")
        rows = len(next(iter(inputs.values())))
        return _named(model.predict(self._arranged(inputs, rows), params=self._params), rows)

    def _arranged(self, inputs: Tensors, rows: int) -> Any:
        if self._as_tensors:
            return dict(inputs) if len(inputs) > 1 else next(iter(inputs.values()))
        import pandas

        spec = self.signature.inputs[0]
        if self.signature.is_matrix:
            return pandas.DataFrame(inputs[spec.name], columns=list(spec.columns) or None)
        frame = {}
        for spec in self.signature.inputs:
            array = inputs.get(spec.name)
            if array is not None:
                frame[spec.name] = array.reshape(rows)
            elif spec.datatype in ("FP32", "FP64"):
                frame[spec.name] = np.full(rows, np.nan)
            elif spec.datatype == "BYTES":
                frame[spec.name] = np.full(rows, None, object)
        return pandas.DataFrame(frame)

    def close(self) -> None:
        self._model = None


def _named(answer: Any, rows: int) -> dict[str, Array]:
    """Frames give one output per column, mappings one per key, anything else ``predictions``."""
    if hasattr(answer, "columns") and hasattr(answer, "to_numpy"):
        named = {str(name): answer[name].to_numpy() for name in answer.columns}
    elif isinstance(answer, Mapping):
        named = {str(name): np.asarray(value) for name, value in answer.items()}
    else:
        named = {"predictions": answer.to_numpy() if hasattr(answer, "to_numpy") else np.asarray(answer)}
    for name, array in named.items():
        if array.dtype.kind not in "fiubOUS":
            raise ContractError(f"output {name!r}: {array.dtype} is neither numbers nor text")
        if array.ndim == 0 or len(array) != rows:
            raise ContractError(f"output {name!r}: shape {array.shape} for {rows} rows of input")
    return {name: array.astype(object) if array.dtype.kind in "US" else array for name, array in named.items()}
