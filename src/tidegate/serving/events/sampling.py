"""Which predictions are kept as events, and what is kept of them. Their text is made later, in another thread."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from tidegate.images import measure
from tidegate.metrics import Counter
from tidegate.observations import PredictionEvent, label_of
from tidegate.serving.batching import Ran
from tidegate.serving.call import Call
from tidegate.serving.events.base import storable
from tidegate.serving.version import Version
from tidegate.types import Array, Tensors

MOST_TEXT = 64 * 1024
"""Bytes of one event's inputs, or outputs, as text; larger ones are left out."""
_OVERHEAD = 1024
_NEVER = 1 << 62
_encode = msgspec.json.Encoder().encode


class Sampled(msgspec.Struct, frozen=True, gc=False):
    """An event before its text: arrays of the request alone, which nobody changes."""

    event: PredictionEvent
    inputs: Tensors
    outputs: Tensors
    labels: tuple[str, ...]
    size: int


class Samples:
    """What one process has sampled and not written yet, at most ``most_bytes`` of it. Added to by the event loop, taken
    by one other thread."""

    def __init__(self, most_bytes: int, dropped: Counter) -> None:
        self._most = most_bytes
        self._dropped = dropped
        self._added = self._taken = 0
        self._waiting: deque[Sampled] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def held(self) -> int:
        """Bytes in memory, about."""
        return self._added - self._taken

    def add(self, sampled: Sampled) -> None:
        if self._added - self._taken + sampled.size > self._most:
            self._dropped.add()
            return
        self._added += sampled.size
        self._waiting.append(sampled)

    def first(self, number: int) -> list[Sampled]:
        return [self._waiting[place] for place in range(min(number, len(self._waiting)))]

    def forget(self, number: int) -> None:
        """Removes the first ``number``, once they are written."""
        for _ in range(number):
            self._taken += self._waiting.popleft().size


class Sampler:
    """Keeps the share ``rate`` of an endpoint's predictions. ``draw`` gives numbers in [0, 1), ``wall`` the time."""

    def __init__(
        self, rate: float, samples: Samples, process: str, draw: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self._rate = rate
        self._samples = samples
        self._process = process
        self._draw = draw
        self._wall = wall

    def gap(self) -> int:
        """How many predictions are passed over before the next that is kept: geometric, one draw for all of them."""
        if self._rate >= 1.0:
            return 0
        if self._rate <= 0.0:
            return _NEVER
        return int(math.log(1.0 - self._draw()) / math.log1p(-self._rate))

    def sample(
        self, call: Call, snapshot: int, version: Version, ran: Ran, cached: bool, forced: bool, now: float
    ) -> None:
        outputs = {name: _own(array) for name, array in ran.outputs.items()}
        event = PredictionEvent(
            request_id=storable(call.request_id),
            process=self._process,
            endpoint=call.endpoint.name,
            variant=version.variant,
            version=version.ref.version,
            snapshot=snapshot,
            time=self._wall(),
            unit=storable(call.unit),
            rows=call.rows,
            seconds=now - call.received,
            forced=forced,
            cached=cached,
        )
        size = _OVERHEAD + _size(call.inputs) + _size(outputs)
        labels = version.signature.labels
        self._samples.add(Sampled(event, call.inputs, outputs, labels, size))


def event_of(sampled: Sampled) -> PredictionEvent:
    """The event with its text: named lists of one value a row, and ``labels`` where the model has names for them."""
    outputs = {name: _values(array) for name, array in sampled.outputs.items()}
    predictions = sampled.outputs.get("predictions")
    if sampled.labels and predictions is not None and predictions.ndim == 1:
        outputs["labels"] = [label_of(value, sampled.labels) for value in predictions.tolist()]
    inputs = {name: _values(array) for name, array in sampled.inputs.items()}
    return msgspec.structs.replace(sampled.event, inputs=_text(inputs), outputs=_text(outputs))


def _text(values: dict[str, Any]) -> bytes:
    try:
        text = _encode(values)
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON may carry and no text can
        return b""
    return text if len(text) <= MOST_TEXT else b""


def _values(array: Array) -> Any:
    values = array.tolist()
    return [_plain(value) for value in values] if array.dtype.kind == "O" else values


def _plain(value: Any) -> Any:
    """Blobs by their size and digest, and by what is measured of an image; the rest as it is."""
    if isinstance(value, bytes):
        return {**measure(value), "sha256": hashlib.sha256(value).hexdigest()}
    if isinstance(value, np.generic):  # a model may have put it into a list of its own
        value = value.item()
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _own(array: Array) -> Array:
    """A part of a batch would keep all of it in memory."""
    whole: Any = array.base
    return array if whole is None or getattr(whole, "nbytes", 0) <= array.nbytes else array.copy()


def _size(tensors: Tensors) -> int:
    return sum(_bytes(array) for array in tensors.values())


def _bytes(array: Array) -> int:
    if array.dtype.kind != "O":
        return int(array.nbytes)
    return sum(64 + (len(value) if isinstance(value, str | bytes) else 0) for value in array.ravel())
