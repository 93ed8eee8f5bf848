"""Every metric, span and log field, declared as data. Tests and the reference page read this file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

Kind = Literal["counter", "gauge", "histogram", "latency"]


class Metric(msgspec.Struct, frozen=True):
    """``latency`` is a histogram in fine logarithmic bins, shown to Prometheus at a quarter of a decade."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    merge: Literal["sum", "max"] = "sum"
    """How the gauges of several processes become one number."""


REQUESTS = Metric(
    "tidegate_requests_total",
    "counter",
    "Requests answered, by outcome: ok, invalid, refused, deadline, failed, gone; shadow copies: agree, differ, failed.",
    ("endpoint", "variant", "protocol", "outcome"),
)
REQUEST_SECONDS = Metric(
    "tidegate_request_seconds",
    "latency",
    "Time from the request's head to its answer, in seconds.",
    ("endpoint", "variant"),
)
MODEL_SECONDS = Metric(
    "tidegate_model_seconds", "latency", "Time of one call of the model, in seconds.", ("endpoint", "version")
)
QUEUE_SECONDS = Metric(
    "tidegate_queue_seconds", "latency", "Time a request waited for its batch, in seconds.", ("endpoint", "version")
)
BATCH_ROWS = Metric(
    "tidegate_batch_rows",
    "histogram",
    "Rows in one call of the model.",
    ("endpoint", "version"),
    (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
)
QUEUE_ROWS = Metric("tidegate_queue_rows", "gauge", "Rows waiting.", ("endpoint", "version"))
REJECTED = Metric(
    "tidegate_rejected_total",
    "counter",
    "Requests not run, by reason: queue_full, rate_limited, overloaded, not_ready, store_away, deadline, caller_gone.",
    ("endpoint", "reason"),
)
FALLBACKS = Metric(
    "tidegate_fallbacks_total",
    "counter",
    "Requests that the baseline answered for a candidate, by reason: failed, timeout, breaker_open, refused.",
    ("endpoint", "reason"),
)
CACHE = Metric("tidegate_cache_total", "counter", "Cache look-ups: hit, miss, joined.", ("endpoint", "result"))
MODEL_LOAD_SECONDS = Metric(
    "tidegate_model_load_seconds", "gauge", "Time to load the model.", ("endpoint", "version"), merge="max"
)
MODEL_WARMUP_SECONDS = Metric(
    "tidegate_model_warmup_seconds", "gauge", "Time to warm the model up.", ("endpoint", "version"), merge="max"
)
MODEL_MEMORY_BYTES = Metric(
    "tidegate_model_memory_bytes", "gauge", "Memory that loading the model took.", ("endpoint", "version")
)
SNAPSHOT_NUMBER = Metric("tidegate_snapshot_number", "gauge", "Routing snapshot in force.", merge="max")
RELEASE_SHARE = Metric(
    "tidegate_release_share", "gauge", "Share of traffic that the candidates get, 0 to 1.", ("endpoint",), merge="max"
)
EVENTS_DROPPED = Metric(
    "tidegate_events_dropped_total",
    "counter",
    "Observations that the store will never have, by kind (window, event, exposure) and reason (buffer_full, spool_full, "
    "refused). A unit whose exposure finds no room gets the baseline and takes no part.",
    ("kind", "reason"),
)
BUILD_INFO = Metric("tidegate_build_info", "gauge", "Always 1; the version is a label.", ("version",), merge="max")

METRICS: tuple[Metric, ...] = (
    REQUESTS,
    REQUEST_SECONDS,
    MODEL_SECONDS,
    QUEUE_SECONDS,
    BATCH_ROWS,
    QUEUE_ROWS,
    REJECTED,
    FALLBACKS,
    CACHE,
    MODEL_LOAD_SECONDS,
    MODEL_WARMUP_SECONDS,
    MODEL_MEMORY_BYTES,
    SNAPSHOT_NUMBER,
    RELEASE_SHARE,
    EVENTS_DROPPED,
    BUILD_INFO,
)

SPANS: Mapping[str, str] = {
    "predict": "One request, from its head to its answer.",
    "queue": "The wait for a batch; child of predict.",
    "model_inference": "The call of the model that carried the request; child of predict.",
}

SPAN_ATTRIBUTES: Mapping[str, str] = {
    "ml.model.name": "Endpoint.",
    "ml.model.version": "Model version that answered.",
    "ml.model.path": "URI the model was loaded from.",
    "ml.variant": "Variant that answered.",
    "ml.input.feature_count": "Number of rows.",
    "ml.input.feature_dim": "Values in one row.",
    "ml.output.prediction_count": "Number of predictions.",
    "correlation.id": "The request id.",
}

LOG_FIELDS: Mapping[str, str] = {
    "timestamp": "RFC 3339, UTC.",
    "level": "debug, info, warning, error.",
    "logger": "Which part of Tidegate, or which library.",
    "message": "What happened, for people.",
    "correlation_id": "The request id, within a request.",
    "trace_id": "W3C trace id, where a request is traced.",
    "span_id": "W3C span id, where a request is traced.",
    "endpoint": "Endpoint concerned.",
    "variant": "Variant concerned.",
    "version": "Model version concerned.",
    "outcome": "As the metric's label.",
    "status": "HTTP status answered.",
    "duration_ms": "Time taken.",
    "reason": "Why, as one word.",
    "seconds": "A duration.",
    "snapshot": "Number of a routing snapshot.",
    "worker": "Index of a serving process.",
    "pid": "Process id.",
    "digest": "Digest of a model.",
    "exception": "Trace of an error; never sent to a client.",
}
"""Fields that a log line may have; a record's other extras are dropped, so that no payload slips in."""
