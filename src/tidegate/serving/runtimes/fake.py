"""A model that costs and fails as told: for tests, load experiments and the ``local`` profile. ``uri: "fake:"``."""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from tidegate.errors import ModelError
from tidegate.serving.runtimes.base import Opened
from tidegate.serving.runtimes.signatures import overlay, parse_signature, with_example
from tidegate.types import Array, Signature, Tensors

_OPTIONS = {
    "base_ms", "rows_ms", "load_ms", "fail", "fail_rate", "fail_on", "fail_after", "fail_load", "nan", "nan_on", "hang",
    "hang_on", "hang_after", "wrong_rows", "wrong_names", "crash", "crash_on", "crash_after", "exit_code", "at_load", "inline", "columns", "classes", "labels",
    "signature", "example", "seed", "bias", "text",
}  # fmt: skip


class FakeRuntime:
    """Sleeps ``base_ms + rows * rows_ms`` (the interpreter is free meanwhile), then answers from the inputs.

    Without ``labels`` or ``classes`` the answer is each row's sum plus ``bias``, so that a swapped row shows.
    With them the class is the whole part of the sum modulo the number of classes, with a score of 0.9.
    Faults: ``fail_rate``, ``nan``, ``hang``, ``wrong_rows``, ``wrong_names``, ``crash`` (ends the process);
    ``*_on`` gives a fault only to batches that hold this value, ``*_after`` only after so many calls. Faults
    begin after the warm-up, unless ``at_load``.
    """

    platform = "fake"

    def __init__(self, options: Mapping[str, Any]) -> None:
        unknown = set(options) - _OPTIONS
        if unknown:
            raise ModelError(f"fake: no option {min(unknown)!r}; known are {', '.join(sorted(_OPTIONS))}")
        self._options = options
        self._base = float(options.get("base_ms", 0)) / 1000
        self._per_row = float(options.get("rows_ms", 0)) / 1000
        self._bias = float(options.get("bias", 0))
        self._labels = tuple(str(label) for label in options.get("labels", ()))
        self._classes = len(self._labels) or int(options.get("classes", 0))
        self._random = random.Random(options.get("seed", 0))  # noqa: S311 - which calls fail is no secret
        self._calls = itertools.count(1)
        self._armed = bool(options.get("at_load", False))
        self._closed = threading.Event()
        self.signature = with_example(self._signature())
        self.inline_safe = bool(options.get("inline", False))

    def _signature(self) -> Signature:
        options = self._options
        columns = options.get("columns", 4)
        names = [f"x{position}" for position in range(columns)] if isinstance(columns, int) else list(columns)
        inputs: Any = {"x": {"datatype": "FP64", "columns": names}}
        if options.get("text"):
            inputs = {"text": "BYTES"}
        outputs: Any = {"predictions": "FP64"}
        if self._classes:
            outputs = {"predictions": "INT64", "scores": {"datatype": "FP64", "shape": [-1, self._classes]}}
        own = parse_signature({"inputs": inputs, "outputs": outputs, "labels": self._labels}, "fake")
        declared = {key: options[key] for key in ("signature", "example") if key in options}
        said = parse_signature(declared.get("signature", {}), "options.signature")
        return said if said.inputs and said.outputs else overlay(own, declared)

    def predict(self, inputs: Tensors) -> Tensors:
        if self._closed.is_set():
            raise ModelError("the model was closed")
        call = next(self._calls) if self._armed else 0
        sums = _sums(inputs)
        rows = len(sums)
        cost = self._base + self._per_row * rows
        if cost > 0:
            time.sleep(cost)
        if not self._armed:
            return self._answer(sums, rows, broken=False)
        if self._struck("hang", call, inputs):
            self._closed.wait()
        if self._struck("crash", call, inputs):
            os._exit(int(self._options.get("exit_code", 3)))
        if self._fails(call, inputs):
            raise RuntimeError("the fake model failed as told")
        if self._struck("wrong_rows", call, inputs):
            rows -= 1
        return self._answer(sums, rows, broken=self._struck("nan", call, inputs))

    def arm(self) -> None:
        """Faults begin now, after the warm-up, as they do with a model that breaks in traffic."""
        self._armed = True

    def _answer(self, sums: Array, rows: int, broken: bool) -> Tensors:
        values = np.full(rows, np.nan) if broken else sums[:rows] + self._bias
        name = "wrong" if self._armed and self._options.get("wrong_names") else "predictions"
        if not self._classes:
            return {name: values}
        classes = np.floor(np.nan_to_num(values)).astype(np.int64) % self._classes
        scores = np.full((rows, self._classes), 0.1 / max(self._classes - 1, 1))
        scores[np.arange(rows), classes] = 0.9
        if np.isnan(values).any():
            scores[:] = np.nan
        return {name: classes, "scores": scores}

    def _struck(self, fault: str, call: int, inputs: Tensors) -> bool:
        options = self._options
        if f"{fault}_on" in options:
            return _holds(inputs, options[f"{fault}_on"])
        if f"{fault}_after" in options:
            return call > int(options[f"{fault}_after"])
        return bool(options.get(fault, False))

    def _fails(self, call: int, inputs: Tensors) -> bool:
        if self._struck("fail", call, inputs):
            return True
        rate = float(self._options.get("fail_rate", 0))
        return rate > 0 and self._random.random() < rate

    def close(self) -> None:
        self._closed.set()


def _sums(inputs: Tensors) -> Array:
    """One number per row: numbers count as they are, text by its length."""
    total: Any = 0.0
    for array in inputs.values():
        if array.dtype.kind in "OUS":
            lengths = np.fromiter((len(value) for value in array.reshape(-1)), float, array.size)
            total = total + lengths.reshape(array.shape).reshape(len(array), -1).sum(axis=1)
        else:
            total = total + array.reshape(len(array), -1).sum(axis=1, dtype=float)
    return np.asarray(total)


def _holds(inputs: Tensors, value: Any) -> bool:
    return any(bool(np.any(array == value)) for array in inputs.values())


def open_fake(options: Mapping[str, Any]) -> Opened:
    if options.get("fail_load"):
        raise ModelError("fake: failed to load, as told")
    time.sleep(float(options.get("load_ms", 0)) / 1000)
    return Opened(runtime=FakeRuntime(options), runtime_name="fake")
