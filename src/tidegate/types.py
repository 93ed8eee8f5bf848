"""Frozen records that cross layers. They import nothing from the rest of the package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Tensors = Mapping[str, Array]
"""Named arrays with one leading row dimension: all that crosses between a protocol and a runtime.

A feature matrix is one array ``(n, k)``; a table one array ``(n,)`` per column; text an object array of
``str``; images and other blobs an object array of ``bytes``.
"""

Datatype = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
]
"""Element types, under their Open Inference Protocol names. BYTES is any object array: text or blobs."""

Content = Literal["number", "text", "image", "binary"]

NUMPY_DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(object),
}


def datatype_of(dtype: np.dtype[Any]) -> Datatype:
    """The protocol's name of a numpy dtype; strings and objects are BYTES. Raises KeyError for others."""
    if dtype.kind in "OUS":
        return "BYTES"
    return _DATATYPES[dtype.newbyteorder("=")]


_DATATYPES: dict[np.dtype[Any], Datatype] = {dtype: name for name, dtype in NUMPY_DTYPES.items()}  # type: ignore[misc]


class TensorSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """One named input or output. ``shape`` includes the row dimension, which is first and always -1."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...] = (-1,)
    content: Content = "number"
    required: bool = True
    allow_nan: bool = False
    columns: tuple[str, ...] = ()
    """Names of the second dimension of a feature matrix, where the model knows them."""


class Signature(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a model takes and gives. ``labels`` are the class names, in the order of the scores' columns."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...] = ()
    labels: tuple[str, ...] = ()
    example: Any = None
    """One row of input as the native API's ``inputs`` object, for documents and warm-up; plain JSON values."""

    @property
    def is_matrix(self) -> bool:
        """True when the model takes one numeric array of shape (n, k)."""
        return len(self.inputs) == 1 and len(self.inputs[0].shape) == 2 and self.inputs[0].datatype != "BYTES"

    @property
    def is_table(self) -> bool:
        """True when the model takes one array of shape (n,) or (n, 1) per column."""
        return not self.is_matrix and all(len(s.shape) == 1 or s.shape[1:] == (1,) for s in self.inputs)

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names of a matrix (when known) or of a table."""
        if self.is_matrix:
            return self.inputs[0].columns
        return tuple(spec.name for spec in self.inputs)


class ModelRef(msgspec.Struct, frozen=True):
    """Where a model comes from. ``uri`` is a path or URI; ``digest`` pins its bytes (``sha256:…``)."""

    uri: str
    name: str = ""
    version: str = "1"
    digest: str = ""
    runtime: str = "auto"
    options: Mapping[str, Any] = {}


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What loading a model found out; shown by ``/models``, ``tidegate model inspect``, metrics and the log."""

    uri: str
    digest: str
    runtime: str
    platform: str
    size_bytes: int = 0
    load_seconds: float = 0.0
    warmup_seconds: float = 0.0
    memory_bytes: int = 0
    single_row_ms: float = 0.0
    inline: bool = False
    compiled: bool = False
    compile_note: str = ""
    """How closely the compiled model agrees, or why it was not compiled."""


class Variant(msgspec.Struct, frozen=True):
    """One model under an endpoint. ``share`` is in basis points of 10 000; a shadow has share 0."""

    name: str
    model: ModelRef
    share: int = 0
    shadow: bool = False


class Exposing(msgspec.Struct, frozen=True):
    """An experiment on an endpoint: the first answer to each of its units is recorded.

    Units whose bucket under the salt ``layer`` is in [start, end) take part; the others get the baseline and leave no
    record. Experiments with disjoint ranges of one layer exclude each other; different layers are independent.
    """

    experiment: str
    layer: str = ""
    start: int = 0
    end: int = 10_000


class EndpointPlan(msgspec.Struct, frozen=True):
    """How one endpoint's traffic is split. ``variants[0]`` is the baseline and takes what no other takes.

    A variant with share 0 that is no shadow is kept warm: it is loaded, and answers forced requests only.
    """

    name: str
    variants: tuple[Variant, ...]
    salt: str = ""
    experiment: Exposing | None = None

    @property
    def baseline(self) -> Variant:
        return self.variants[0]


class RoutingSnapshot(msgspec.Struct, frozen=True):
    """The immutable, numbered state of all routing: the only thing a data plane is told."""

    number: int
    endpoints: Mapping[str, EndpointPlan]
    default_endpoint: str = ""


class Timing(msgspec.Struct, frozen=True):
    """Seconds spent waiting and running, and the rows of the batch that carried the request."""

    queue: float = 0.0
    run: float = 0.0
    batch_rows: int = 0


class Prediction(msgspec.Struct, frozen=True):
    """The answer to one request: outputs by name, n rows each, and how they came about."""

    outputs: Tensors
    variant: str
    version: str
    timing: Timing = Timing()
    cached: bool = False
    forced: bool = False


Outcome = Literal["pass", "fail", "undecided", "no_data"]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What one test concludes, with all that it takes to recompute it. ``no_data`` never counts as a pass."""

    guardrail: str
    """errors, latency, outputs, outcome, prometheus, budget, split (sample ratio)."""
    test: str
    """The statistical test, in the words of docs/design/statistics.md."""
    outcome: Outcome
    reason: str
    """One sentence for people, with the figures."""
    evidence: float = 0.0
    """Natural logarithm of the e-value against the candidate; 0 says nothing, ``threshold`` rejects."""
    threshold: float = 0.0
    """log(1/alpha)."""
    support: float = 0.0
    """Natural logarithm of the e-value for the candidate being good enough; ``threshold`` passes."""
    p: float = 1.0
    alpha: float = 0.0
    counts: Mapping[str, float] = {}
    estimate: float | None = None
    """Of the effect: ratio of error rates, ratio of the quantiles, distance, difference of the metric."""
    interval: tuple[float, float] | None = None
    """Valid at any time, with confidence 1 − alpha."""
