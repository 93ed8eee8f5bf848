"""A model that scores the rows of files: columns in, columns of answers out, in batches as large as serve a model well."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from tidegate.config import Loaded
from tidegate.control.jobs.task import Kind
from tidegate.errors import ContractError, InvalidInput, ModelFailed
from tidegate.protocols import arrays
from tidegate.serving.runtimes.base import LoadedModel
from tidegate.serving.runtimes.checked import checker
from tidegate.serving.runtimes.load import load_model, settle
from tidegate.serving.runtimes.sources import first_line
from tidegate.serving.snapshots.file import placed, snapshot_of, trusted
from tidegate.types import NUMPY_DTYPES, Array, ModelRef, Signature, Tensors, TensorSpec

ROWS_AT_ONCE = 4096
LISTS = ("features", "instances")
_KINDS: Mapping[str, Kind] = {"f": "number", "i": "whole", "u": "whole", "b": "boolean", "O": "text"}


def open_scorer(ref: ModelRef, loaded: Loaded) -> FileScorer:
    """Raises ModelError and MissingExtra, as serving it would."""
    settings = loaded.settings
    found = placed(ref, settings, loaded.base)
    threads = max((os.cpu_count() or 1) // max(settings.jobs.workers, 1), 1)
    return FileScorer(load_model(found, trusted(settings, loaded.base), threads=threads), ref.version)


def configured(endpoint: str, loaded: Loaded) -> ModelRef:
    """The baseline that the configuration names. Raises ModelError."""
    settings = loaded.settings
    others = [name for name in settings.endpoints if name != endpoint]
    snapshot = snapshot_of(settings, loaded.base, 1, trusted(settings, loaded.base), others)
    return snapshot.endpoints[endpoint].baseline.model


class FileScorer:
    """``inputs`` takes columns by name. A matrix without names takes all of them, in their order."""

    def __init__(self, model: LoadedModel, version: str, rows_at_once: int = ROWS_AT_ONCE) -> None:
        signature = model.signature
        self.version = version
        self.fault = ""
        self.told: Callable[[int], None] = lambda rows: None
        self.digest = model.facts.digest
        self.matrix = signature.is_matrix
        self._model = model
        self._signature = signature
        self._rows_at_once = rows_at_once
        self._check = checker(signature)
        self._specs = _column_specs(signature)
        self.kinds: Mapping[str, Kind] = {spec.name: _KINDS[NUMPY_DTYPES[spec.datatype].kind] for spec in self._specs}
        self.optional: Sequence[str] = tuple(spec.name for spec in self._specs if not spec.required)

    def missing(self, header: Sequence[str]) -> tuple[str, ...]:
        if self._whole(header) is not None:
            return ()
        return tuple(spec.name for spec in self._specs if spec.required and spec.name not in header)

    def predict(self, inputs: Tensors) -> dict[str, Any]:
        """Columns of answers. Raises ModelFailed, ContractError."""
        rows = len(next(iter(inputs.values())))
        parts = []
        for begin in range(0, rows, self._rows_at_once):
            end = min(begin + self._rows_at_once, rows)
            parts.append(self._predict(inputs, begin, end))
            self.told(end - begin)
        outputs = {
            name: np.concatenate([part[name] for part in parts]) if len(parts) > 1 else parts[0][name]
            for name in parts[0]
        }
        return answers_of(outputs, self._signature)

    def close(self) -> None:
        self._model.close()

    def inputs(self, header: Sequence[str], columns: Sequence[Any]) -> Tensors:
        """Raises InvalidInput where a row does not fit."""
        whole = self._whole(header)
        if whole is not None:
            spec = self._signature.inputs[0]
            return {spec.name: _converted(columns[whole], spec, header[whole])}
        given = dict(zip(header, columns, strict=True))
        if not self.matrix:
            present = [spec for spec in self._specs if spec.required or spec.name in given]
            return {spec.name: _converted(_one(given, spec.name), spec, spec.name) for spec in present}
        spec = self._signature.inputs[0]
        names = spec.columns or tuple(header)
        width = arrays.width_of(spec, 1)
        if width not in (-1, len(names)):
            raise InvalidInput(f"expected {width} columns, got {len(names)}")
        one = msgspec.structs.replace(spec, shape=(-1,), columns=())
        return {spec.name: np.column_stack([_converted(_one(given, name), one, name) for name in names])}

    def _whole(self, header: Sequence[str]) -> int | None:
        """The column that brings whole rows, as lists."""
        if len(self._signature.inputs) != 1 or not self.matrix:
            return None
        own = self._signature.inputs[0]
        known = (*LISTS, own.name) if own.name not in own.columns else LISTS
        found = [index for index, name in enumerate(header) if name in known and name not in own.columns]
        return found[0] if len(found) == 1 and (own.columns or len(header) == 1) else None

    def _predict(self, inputs: Tensors, begin: int, end: int) -> Tensors:
        part = {name: array[begin:end] for name, array in inputs.items()}
        try:
            return self._check(settle(self._model.runtime.predict(part)), end - begin)
        except MemoryError:
            raise
        except ContractError as error:
            self.fault = str(error)
            raise
        except Exception as error:
            self.fault = f"{type(error).__name__}: {first_line(error)}"
            raise ModelFailed(f"the model failed: {self.fault}") from error


def answers_of(outputs: Tensors, signature: Signature) -> dict[str, Any]:
    """As the columns of an Arrow answer: predictions, one score for each class, the classes' names."""
    columns: dict[str, Any] = {}
    names = signature.labels
    for name, array in outputs.items():
        if name == "scores" and array.ndim == 2:
            known = len(names) == array.shape[1]
            columns |= {f"score_{names[i] if known else i}": array[:, i] for i in range(array.shape[1])}
        else:
            columns[name] = array
    labels = _labels(outputs, names)
    return columns if labels is None else columns | {"labels": labels}


def _labels(outputs: Tensors, names: Sequence[str]) -> Array | None:
    predictions, scores = outputs.get("predictions"), outputs.get("scores")
    if not names or predictions is None or predictions.dtype.kind == "O":
        return None
    known = np.array(names, object)
    if scores is not None and scores.ndim == 2 and scores.shape[1] == len(names):
        return np.asarray(known[scores.argmax(axis=1)])
    if predictions.dtype.kind not in "iu" or predictions.ndim != 1:
        return None
    # By the type alone, whatever the values: every piece of a file must give the same columns.
    there = (predictions >= 0) & (predictions < len(names))
    labels = known[np.where(there, predictions, 0)]
    labels[~there] = None
    return np.asarray(labels)


def _column_specs(signature: Signature) -> tuple[TensorSpec, ...]:
    if not signature.is_matrix:
        return signature.inputs
    spec = signature.inputs[0]
    return tuple(msgspec.structs.replace(spec, name=name, shape=(-1,), columns=()) for name in spec.columns)


def _one(given: Mapping[str, Any], name: str) -> Any:
    if name not in given:
        raise InvalidInput(f'the column "{name}" is missing')
    return given[name]


def _numbers(values: Any) -> Any:
    """True and false as 1 and 0: a file with booleans is what the model was trained on, which takes numbers for them."""
    if isinstance(values, np.ndarray):
        return values.astype(np.uint8) if values.dtype.kind == "b" else values
    return [int(value) if isinstance(value, bool) else value for value in values]


def _converted(values: Any, spec: TensorSpec, name: str) -> Array:
    def locate(index: tuple[int, ...]) -> tuple[str, tuple[Any, ...]]:
        return f'column "{name}"', (name, *index)

    if NUMPY_DTYPES[spec.datatype].kind in "fiu":
        values = _numbers(values)
    if not isinstance(values, np.ndarray):
        return arrays.to_array(list(values), spec, locate)
    if values.dtype.kind == "f" and not spec.allow_nan and (gaps := np.isnan(values)).any():
        raise InvalidInput(f'column "{name}": a value is missing', (name, int(gaps.argmax())))
    return arrays.cast(values, spec, locate)
