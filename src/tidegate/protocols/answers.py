"""A prediction as the native answer. What does not change between requests is encoded once per variant."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, Raw, UnsetType

from tidegate.protocols.base import Request, Response
from tidegate.serving.live import Endpoint
from tidegate.types import Array, Prediction, Signature, Tensors, datatype_of

_PLAIN = ({"predictions"}, {"predictions", "scores"})
_encode = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode


class _Timing(msgspec.Struct):
    queue: float
    run: float
    total: float
    batch_rows: int


class _Answer(msgspec.Struct):
    predictions: Any
    scores: Any
    labels: list[str] | UnsetType
    model: Any
    request_id: str
    cached: bool
    timing_ms: _Timing


class Fragment(msgspec.Struct, frozen=True):
    """The parts of an answer that belong to one variant of one endpoint."""

    model: dict[str, str]
    json: Raw
    headers: tuple[tuple[bytes, bytes], ...]
    msgpack_headers: tuple[tuple[bytes, bytes], ...]


def fragment_of(endpoint: Endpoint, variant: str, version: str) -> Fragment:
    known = endpoint.versions.get(variant)
    name = (known.ref.name if known is not None else "") or endpoint.name
    model = {"endpoint": endpoint.name, "name": name, "version": version, "variant": variant}
    header = (b"x-model-variant", variant.encode("latin-1", "replace"))
    return Fragment(
        model,
        Raw(_encode(model)),
        ((b"content-type", b"application/json"), header),
        ((b"content-type", b"application/msgpack"), header),
    )


def json_answer(prediction: Prediction, signature: Signature, fragment: Fragment, request: Request) -> Response:
    predictions, scores, labels = parts_of(prediction.outputs, signature)
    answer = _Answer(
        predictions, scores, labels, fragment.json, request.request_id, prediction.cached, _timing(prediction, request)
    )
    return Response(_encode(answer), 200, fragment.headers)


def msgpack_answer(
    prediction: Prediction, signature: Signature, fragment: Fragment, request: Request, *, binary: bool
) -> Response:
    """As JSON; with ``binary``, numbers come as ``{"dtype", "shape", "data": bin}``, as the request sent them."""
    if binary:
        outputs: Any = {name: _packed(array) for name, array in prediction.outputs.items()}
        labels = parts_of(prediction.outputs, signature)[2] if signature.labels else UNSET
        scores: Any = UNSET
        if prediction.outputs.keys() in _PLAIN:
            predictions, scores = outputs["predictions"], outputs.get("scores", UNSET)
        else:
            predictions = outputs if len(outputs) > 1 else next(iter(outputs.values()))
    else:
        predictions, scores, labels = parts_of(prediction.outputs, signature)
    answer = _Answer(
        predictions, scores, labels, fragment.model, request.request_id, prediction.cached, _timing(prediction, request)
    )
    return Response(_pack(answer), 200, fragment.msgpack_headers)


def arrow_answer(prediction: Prediction, signature: Signature, fragment: Fragment) -> Response:
    """The outputs as one table."""
    from tidegate.protocols.arrow import MEDIA_TYPE, write_arrow

    body = write_arrow(columns_of(prediction, signature))
    return Response(body, 200, ((b"content-type", MEDIA_TYPE.encode()), fragment.headers[1]))


def parts_of(outputs: Tensors, signature: Signature) -> tuple[Any, Any, list[str] | UnsetType]:
    """Predictions, scores and labels in plain values; several outputs of other names become an object."""
    if outputs.keys() not in _PLAIN:
        if len(outputs) == 1:
            return next(iter(outputs.values())).tolist(), UNSET, UNSET
        return {name: array.tolist() for name, array in outputs.items()}, UNSET, UNSET
    predictions = outputs["predictions"].tolist()
    array = outputs.get("scores")
    scores = UNSET if array is None else array.tolist()
    if not signature.labels:
        return predictions, scores, UNSET
    return predictions, scores, _labels(predictions, scores, signature.labels)


def columns_of(prediction: Prediction, signature: Signature) -> dict[str, Array | list[Any]]:
    """The outputs as columns of a table: scores one column per class, wider outputs as lists."""
    columns: dict[str, Array | list[Any]] = {}
    for name, array in prediction.outputs.items():
        if array.ndim == 1:
            columns[name] = array
        elif name == "scores" and array.ndim == 2:
            known = len(signature.labels) == array.shape[1]
            for index in range(array.shape[1]):
                columns[f"score_{signature.labels[index] if known else index}"] = array[:, index]
        else:
            columns[name] = array.tolist()
    labels = parts_of(prediction.outputs, signature)[2]
    if labels is not UNSET:
        columns["labels"] = labels
    return columns


def _packed(array: Array) -> Any:
    if array.dtype.kind not in "iufb":
        return array.tolist()
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return {"dtype": datatype_of(array.dtype), "shape": list(array.shape), "data": little.tobytes()}


def _labels(predictions: Any, scores: Any, names: tuple[str, ...]) -> list[str] | UnsetType:
    """The name of each row's class: the highest score's, or the prediction itself when it is a name or an index."""
    first = predictions[0] if predictions else None
    if type(first) is str:
        return predictions  # type: ignore[no-any-return]
    if scores is not UNSET and len(scores) and type(scores[0]) is list and len(scores[0]) == len(names):
        return [names[row.index(max(row))] for row in scores]
    if type(first) is int and all(type(value) is int and 0 <= value < len(names) for value in predictions):
        return [names[value] for value in predictions]
    return UNSET


def _timing(prediction: Prediction, request: Request) -> _Timing:
    timing = prediction.timing
    return _Timing(
        round(timing.queue * 1000, 3),
        round(timing.run * 1000, 3),
        round((perf_counter() - request.received) * 1000, 3),
        timing.batch_rows,
    )
