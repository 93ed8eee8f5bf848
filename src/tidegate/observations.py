"""What a serving process tells the control plane: counts a second, samples of predictions, exposures and outcomes.

Frozen records; the data plane makes them, the store keeps them, the control plane folds them into evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec


class VariantWindow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one process saw of one variant while one snapshot was in force, about a second long.

    ``(process, sequence, endpoint, variant)`` is the key: writing a window twice changes nothing. Requests are counted
    for the variant that the router chose, also when the baseline answered for it; forced ones are only in ``forced``.
    """

    process: str
    """Of one process's one life; never used again."""
    sequence: int
    """Counts up from 1 in each process."""
    endpoint: str
    variant: str
    version: str
    snapshot: int
    share: int
    """Of this variant, in basis points, under ``snapshot``; a shadow has 0."""
    shadow: bool = False
    start: float
    """Wall-clock seconds since the epoch."""
    seconds: float
    requests: int = 0
    forced: int = 0
    failures: int = 0
    """At most one per unit, so that one client's retries do not decide a release; requests without a unit count each."""
    outcomes: Mapping[str, int] = {}
    """Requests by kind: ok, failed, timeout, breaker_open, refused, gone; for a shadow agree, differ, failed.
    Failures are the kinds ``failed``, ``timeout`` and ``breaker_open``, counted before units are made one."""
    latency: Mapping[int, int] = {}
    """Requests by bin of ``tidegate.metrics.bin_of``: the time until the user's answer, however it came about."""
    unitless: int | None = None
    """Of the requests, those without a unit: each of them was assigned by itself. None where nobody counted."""
    outputs: Mapping[str, int] = {}
    """Rows by predicted label, or by bin of a number (``outputs.bin_of``); at most ``OUTPUT_KINDS`` kinds, then ``other``."""


class PredictionEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A sampled prediction. ``inputs`` and ``outputs`` are JSON objects of lists, one value a row."""

    request_id: str
    process: str
    endpoint: str
    variant: str
    version: str
    snapshot: int
    time: float
    unit: str = ""
    rows: int = 1
    seconds: float = 0.0
    forced: bool = False
    cached: bool = False
    inputs: bytes = b""
    outputs: bytes = b""


class Exposure(msgspec.Struct, frozen=True, kw_only=True):
    """The first time that a unit got a variant of an experiment; never sampled, never lost.

    The store keeps the earliest per ``(experiment, unit)``.
    """

    experiment: str
    endpoint: str
    unit: str
    variant: str
    time: float
    request_id: str = ""


class Feedback(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A label or an outcome, later than the prediction. ``(request_id, row, metric)`` is the key, or ``(unit, metric)``
    where no request is named: the first value counts, unless ``time`` of another is later."""

    metric: str
    request_id: str = ""
    row: int | None = None
    """Of the request, from 0; without one it is about the request, and its row where it had one only."""
    unit: str = ""
    endpoint: str = ""
    value: float | None = None
    """Binary outcomes are 0 and 1."""
    label: str | None = None
    """The true class, to be compared with the predicted one."""
    time: float = 0.0
    """When it happened, as the sender says; when it came, if the sender does not."""
    received: float = 0.0


class Beat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A sign of life of a serving instance (one port, any number of processes), and what it has in force."""

    instance: str
    host: str
    port: int
    pid: int
    workers: int
    started: float
    time: float
    snapshot: int = 0
    """In force in every process of the instance; 0 is what the configuration says."""
    refused: int = 0
    """Newest snapshot that could not be loaded, and why."""
    error: str = ""
    models: Mapping[str, Mapping[str, str]] = {}
    """Endpoint -> variant -> version in force."""
    draining: bool = False


_decode_outputs = msgspec.json.Decoder(dict[str, list[Any]]).decode


@lru_cache(maxsize=4)
def outputs_of(raw: bytes) -> Mapping[str, Sequence[Any]]:
    """The outputs of an event, one value a row; nothing where they were left out because they were too large, or are no
    JSON. The last ones are remembered, since the labels of a request's rows come one after another. Not to be changed."""
    try:
        return _decode_outputs(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}


def label_of(value: Any, labels: Sequence[str] = ()) -> str:
    """A class as text, the same wherever it comes from: 1, 1.0 and "1" are one label, true and "true" another.

    ``labels`` are a model's class names: a number that is none of them is an index into them.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value)
    if labels and isinstance(value, int) and text not in labels and 0 <= value < len(labels):
        return labels[value]
    return text
