"""ONNX Runtime: the fast road. Imports nothing but numpy and onnxruntime."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from tidegate.errors import ContractError, InvalidInput, ModelError
from tidegate.serving.runtimes.base import Opened
from tidegate.serving.runtimes.checked import finite
from tidegate.serving.runtimes.signatures import overlay, parse_signature, with_example
from tidegate.types import NUMPY_DTYPES, Array, Datatype, Signature, Tensors, TensorSpec

SIGNATURE_KEY = "tidegate.signature"
"""Metadata entry of files that Tidegate compiled: the whole signature as JSON."""

_ELEMENTS: Mapping[str, Datatype] = {
    "tensor(bool)": "BOOL", "tensor(uint8)": "UINT8", "tensor(uint16)": "UINT16", "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64", "tensor(int8)": "INT8", "tensor(int16)": "INT16", "tensor(int32)": "INT32",
    "tensor(int64)": "INT64", "tensor(float16)": "FP16", "tensor(float)": "FP32", "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}  # fmt: skip
_MAPS = {"seq(map(int64,tensor(float)))": "INT64", "seq(map(string,tensor(float)))": "BYTES"}
_LABEL_NAMES = {"label", "labels", "output_label", "classlabel", "class_label", "predicted_label", "predictions"}
_SCORE_NAMES = {
    "probabilities", "probability", "output_probability", "scores", "score", "classprobability", "class_probability",
}  # fmt: skip
_REGRESSION_NAME = "variable"
"""What the converters of scikit-learn, XGBoost and LightGBM call a regressor's only output."""

_SOURCE = re.compile(r"/onnxruntime_src/\S+:\d+ [^()]*\((?:[^()]|\([^()]*\))*\)( const)? ")
"""Source line and C++ function in ONNX Runtime's texts."""

_ARENA_BYTES = 16 * 1024 * 1024
"""Below this file size activations are small: plain allocation is as fast, and gives memory back after a large batch."""


class OnnxRuntime:
    """One session. Inputs are cast to what the graph wants; ``(n,)`` columns become ``(n, 1)`` where it wants that.

    A graph with a fixed number of rows is run in pieces of that size, the last one padded with its last row.
    """

    platform = "onnxruntime_onnx"
    inline_safe = True

    def __init__(self, session: onnxruntime.InferenceSession, signature: Signature) -> None:
        self.signature = signature
        self._plan(session)

    def _plan(self, session: onnxruntime.InferenceSession) -> None:
        graph_inputs, outputs = session.get_inputs(), session.get_outputs()
        specs = self.signature.inputs
        by_name = {spec.name: spec for spec in specs}
        if all(node.name in by_name for node in graph_inputs):
            specs = tuple(by_name[node.name] for node in graph_inputs)
        self._feeds = tuple(
            (spec.name, node.name, NUMPY_DTYPES[_element(node)], len(node.shape), _trailing(node.shape))
            for spec, node in zip(specs, graph_inputs, strict=True)
        )
        self._optional = any(not spec.required for spec in specs)
        self._names = [node.name for node in outputs]
        # The method underneath InferenceSession.run: the same call without the wrapper's checks (0.8 microseconds).
        self._run: Callable[[Sequence[str], Mapping[str, Array], Any], list[Any]] | None = getattr(
            session, "_sess", session
        ).run
        self._session: onnxruntime.InferenceSession | None = session
        fixed = [node.shape[0] for node in graph_inputs if node.shape and isinstance(node.shape[0], int)]
        self._fixed_rows = int(fixed[0]) if fixed and fixed[0] > 0 else 0
        self._finish = _finisher(outputs)

    def predict(self, inputs: Tensors) -> Tensors:
        run = self._run
        if run is None:
            raise ModelError("the model was closed")
        if self._optional:
            inputs = self._filled(inputs)
        feed = {}
        for name, graph_name, dtype, rank, trailing in self._feeds:
            array = inputs[name]
            if array.dtype is not dtype:
                array = _cast(name, array, dtype)
            if array.ndim != rank:
                array = array.reshape((len(array), *trailing))
            feed[graph_name] = array
        if self._fixed_rows:
            return self._finish(self._in_pieces(run, feed))
        return self._finish(run(self._names, feed, None))

    def _filled(self, inputs: Tensors) -> Tensors:
        """Columns that the caller left out are not-a-number, as they are in a frame."""
        rows = len(next(iter(inputs.values())))
        missing = [feed for feed in self._feeds if feed[0] not in inputs]
        return {**inputs, **{name: np.full(rows, np.nan) for name, *_ in missing}} if missing else inputs

    def _in_pieces(self, run: Callable[..., list[Any]], feed: Mapping[str, Array]) -> list[Any]:
        size, rows = self._fixed_rows, len(next(iter(feed.values())))
        pieces = []
        for start in range(0, rows, size):
            piece = {name: array[start : start + size] for name, array in feed.items()}
            count = min(size, rows - start)
            if count < size:
                piece = {k: np.concatenate([v, np.repeat(v[-1:], size - count, axis=0)]) for k, v in piece.items()}
            pieces.append([output[:count] for output in run(self._names, piece, None)])
        return [_joined(parts) for parts in zip(*pieces, strict=True)]

    def close(self) -> None:
        self._run = None
        self._session = None


def _cast(name: str, array: Array, dtype: np.dtype[Any]) -> Array:
    """The array in the graph's own type. A number beyond its range is refused, as the library refuses it that the graph
    was compiled from; infinity would be answered."""
    if array.dtype.kind != "f" or dtype.itemsize >= array.dtype.itemsize:
        return array.astype(dtype, copy=False)
    with np.errstate(over="ignore"):
        narrow = array.astype(dtype)
    if finite(narrow):
        return narrow
    lost = np.argwhere(np.isinf(narrow) & np.isfinite(array))
    if len(lost):
        place = tuple(int(index) for index in lost[0])
        value = array[place]
        raise InvalidInput(
            f'row {place[0]}, input "{name}": {value:g} is too large for this model, which computes in {dtype.name}',
            loc=(name, *place),
        )
    return narrow


def _joined(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], list):
        return [row for part in parts for row in part]
    return np.concatenate(parts)


def open_onnx(source: Path | bytes, where: str, options: Mapping[str, Any], threads: int = 1) -> Opened:
    """Loads a graph from a file (external data must lie in its folder) or from bytes. Raises ModelError."""
    session = _session(source, where, options, threads)
    found = _signature(session, where)
    runtime = OnnxRuntime(session, with_example(overlay(found, options)))
    return Opened(runtime=runtime, runtime_name="onnx")


def _session(
    source: Path | bytes, where: str, options: Mapping[str, Any], threads: int
) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = int(options.get("threads", threads))
    settings.inter_op_num_threads = 1
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    settings.log_severity_level = 4
    # Threads that spin while idle take the core away from the event loop.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.add_session_config_entry("session.inter_op.allow_spinning", "0")
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    settings.enable_cpu_mem_arena = bool(options.get("arena", size >= _ARENA_BYTES))
    # A pattern is kept for each shape ever seen: with batches of any size that only grows.
    settings.enable_mem_pattern = False
    model = source if isinstance(source, bytes) else str(source)
    try:
        return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"{where}: ONNX Runtime cannot load this graph: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    """ONNX Runtime's text without its prefix, its source lines and the model's folder."""
    text = " ".join(str(error).split())
    if text.startswith("[ONNXRuntimeError]"):
        text = text.split(" : ", 3)[-1]
    text = _SOURCE.sub("", text)
    return text if len(text) <= 300 else text[:297] + "..."


def _signature(session: onnxruntime.InferenceSession, where: str) -> Signature:
    metadata: Mapping[str, str] = session.get_modelmeta().custom_metadata_map or {}
    inputs = tuple(_input(node, where) for node in session.get_inputs())
    if not inputs:
        raise ContractError(f"{where}: the graph has no inputs")
    outputs = session.get_outputs()
    labels: tuple[str, ...] = ()
    if _is_classifier(outputs):
        label, scores = outputs
        kind: Datatype = _ELEMENTS[label.type]
        specs = [_output("predictions", kind, (-1,))]
        if scores.type in _MAPS:
            classes = _classes_of_maps(session, inputs)
            specs.append(_output("scores", "FP32", (-1, len(classes))))
        else:
            classes = ()
            specs.append(_output("scores", _ELEMENTS[scores.type], _free(scores.shape, 2)))
        labels = tuple(str(name) for name in classes) if kind == "BYTES" else ()
        described = Signature(inputs=inputs, outputs=tuple(specs), labels=labels)
    elif _is_regressor(outputs):
        described = Signature(inputs=inputs, outputs=(_regression(outputs[0]),))
    else:
        described = Signature(inputs=inputs, outputs=tuple(_plain_output(node, where) for node in outputs))
    return _with_metadata(described, metadata, where)


def _with_metadata(signature: Signature, metadata: Mapping[str, str], where: str) -> Signature:
    try:
        if SIGNATURE_KEY in metadata:
            stored = parse_signature(json.loads(metadata[SIGNATURE_KEY]), where)
            if {spec.name for spec in signature.inputs} <= {spec.name for spec in stored.inputs}:
                return stored
        options = {key: _names(metadata[key]) for key in ("labels", "columns") if metadata.get(key)}
        if "columns" in options and not (len(signature.inputs) == 1 and len(signature.inputs[0].shape) == 2):
            del options["columns"]
        return overlay(signature, options)
    except ValueError as error:
        raise ModelError(f"{where}: the file's metadata is not readable: {_one_line(error)}") from error


def _names(text: str) -> list[str]:
    """A JSON list, or names with commas between them."""
    return [str(name) for name in json.loads(text)] if text.lstrip().startswith("[") else text.split(",")


def _element(node: Any) -> Datatype:
    return _ELEMENTS[node.type]


def _input(node: Any, where: str) -> TensorSpec:
    if node.type not in _ELEMENTS:
        raise ModelError(f"{where}: input {node.name!r} is a {node.type}, which cannot be sent over the wire")
    if not node.shape:
        raise ContractError(f"{where}: input {node.name!r} has no row dimension; export the graph with a batch axis")
    datatype = _ELEMENTS[node.type]
    content = "text" if datatype == "BYTES" else "number"
    return TensorSpec(name=node.name, datatype=datatype, shape=_free(node.shape, len(node.shape)), content=content)  # type: ignore[arg-type]


def _plain_output(node: Any, where: str) -> TensorSpec:
    if node.type not in _ELEMENTS:
        raise ModelError(f"{where}: output {node.name!r} is a {node.type}, which cannot be sent over the wire")
    return _output(node.name, _ELEMENTS[node.type], _free(node.shape, len(node.shape or ()) or 1))


def _output(name: str, datatype: Datatype, shape: tuple[int, ...]) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=shape, content="text" if datatype == "BYTES" else "number")


def _regression(node: Any) -> TensorSpec:
    width = node.shape[1] if len(node.shape or ()) > 1 else 1
    datatype = _ELEMENTS[node.type]
    return _output("predictions", datatype, (-1,) if width == 1 else (-1, width if isinstance(width, int) else -1))


def _free(shape: Sequence[Any] | None, rank: int) -> tuple[int, ...]:
    """Rows first and free; named or missing sizes are free too."""
    sizes = tuple(size if isinstance(size, int) and size > 0 else -1 for size in (shape or ())[1:])
    return (-1, *sizes, *((-1,) * (rank - 1 - len(sizes))))


def _trailing(shape: Sequence[Any]) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) and size > 0 else 1 for size in shape[1:])


def _is_classifier(outputs: Sequence[Any]) -> bool:
    if len(outputs) != 2:
        return False
    label, scores = outputs
    return (
        label.name.lower() in _LABEL_NAMES
        and (scores.name.lower() in _SCORE_NAMES or scores.type in _MAPS)
        and label.type in ("tensor(int64)", "tensor(int32)", "tensor(string)", "tensor(bool)")
        and (scores.type in _MAPS or scores.type in ("tensor(float)", "tensor(double)", "tensor(float16)"))
    )


def _is_regressor(outputs: Sequence[Any]) -> bool:
    return (
        len(outputs) == 1
        and outputs[0].name == _REGRESSION_NAME
        and outputs[0].type in ("tensor(float)", "tensor(double)")
    )


def _classes_of_maps(session: onnxruntime.InferenceSession, inputs: tuple[TensorSpec, ...]) -> tuple[Any, ...]:
    """The keys of the first map that comes out; their order is the order of the scores' columns."""
    feed = {}
    for spec in inputs:
        shape = tuple(1 if size < 0 else size for size in spec.shape)
        feed[spec.name] = (
            np.full(shape, "", object) if spec.datatype == "BYTES" else np.zeros(shape, NUMPY_DTYPES[spec.datatype])
        )
    return tuple(session.run([session.get_outputs()[1].name], feed)[0][0])


def _finisher(outputs: Sequence[Any]) -> Callable[[list[Any]], dict[str, Array]]:
    """How the graph's raw outputs become the named ones; chosen once, so that a call pays for nothing else."""
    if _is_classifier(outputs):
        if outputs[1].type in _MAPS:
            return _from_maps
        flat = len(outputs[0].shape or ()) <= 1
        return _from_classifier if flat else _from_column_classifier
    if _is_regressor(outputs):
        return _from_regressor
    names = [node.name for node in outputs]
    return lambda values: dict(zip(names, values, strict=True))


def _from_classifier(values: list[Any]) -> dict[str, Array]:
    return {"predictions": values[0], "scores": values[1]}


def _from_column_classifier(values: list[Any]) -> dict[str, Array]:
    return {"predictions": values[0].reshape(-1), "scores": values[1]}


def _from_maps(values: list[Any]) -> dict[str, Array]:
    scores = np.array([list(row.values()) for row in values[1]], np.float32)
    return {"predictions": values[0].reshape(-1), "scores": scores}


def _from_regressor(values: list[Any]) -> dict[str, Array]:
    only = values[0]
    return {"predictions": only.reshape(-1) if only.ndim == 2 and only.shape[1] == 1 else only}


def embed(model: Any, signature: Signature) -> bytes:
    """Bytes of an onnx ModelProto that carries its signature, labels and columns."""
    from onnx import helper

    from tidegate.serving.runtimes.signatures import as_plain

    metadata = {SIGNATURE_KEY: json.dumps(as_plain(signature))}
    if signature.labels:
        metadata["labels"] = json.dumps(list(signature.labels))
    if signature.is_matrix and signature.columns:
        metadata["columns"] = json.dumps(list(signature.columns))
    helper.set_model_props(model, metadata)
    data: bytes = model.SerializeToString()
    return data
