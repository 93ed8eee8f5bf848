"""What is declared is documented, named as promised, and used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tidegate import telemetry
from tidegate.telemetry import LOG_FIELDS, METRICS, SPAN_ATTRIBUTES, SPANS, Metric

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "metrics.md"
SOURCE = ROOT / "src" / "tidegate"

PROMISED = {
    "tidegate_requests_total": ("endpoint", "variant", "protocol", "outcome"),
    "tidegate_request_seconds": ("endpoint", "variant"),
    "tidegate_model_seconds": ("endpoint", "version"),
    "tidegate_queue_seconds": ("endpoint", "version"),
    "tidegate_batch_rows": ("endpoint", "version"),
    "tidegate_queue_rows": ("endpoint", "version"),
    "tidegate_rejected_total": ("endpoint", "reason"),
    "tidegate_fallbacks_total": ("endpoint", "reason"),
    "tidegate_cache_total": ("endpoint", "result"),
    "tidegate_model_load_seconds": ("endpoint", "version"),
    "tidegate_model_warmup_seconds": ("endpoint", "version"),
    "tidegate_model_memory_bytes": ("endpoint", "version"),
    "tidegate_snapshot_number": (),
    "tidegate_release_share": ("endpoint",),
    "tidegate_events_dropped_total": ("kind", "reason"),
    "tidegate_build_info": ("version",),
}
"""Dashboards and alerts are built on these; a name that changes here breaks them."""


def test_names_and_labels_are_as_promised() -> None:
    assert {metric.name: metric.labels for metric in METRICS} == PROMISED


def test_span_names_and_attributes_are_as_promised() -> None:
    assert set(SPANS) == {"predict", "queue", "model_inference"}
    assert set(SPAN_ATTRIBUTES) == {
        "ml.model.name", "ml.model.version", "ml.model.path", "ml.variant", "ml.input.feature_count",
        "ml.input.feature_dim", "ml.output.prediction_count", "correlation.id",
    }  # fmt: skip


def test_log_lines_have_the_promised_fields() -> None:
    promised = {"timestamp", "level", "logger", "message", "correlation_id", "trace_id", "span_id"}
    assert promised <= LOG_FIELDS.keys()


def test_every_metric_is_declared_once_and_listed() -> None:
    declared = [value for value in vars(telemetry).values() if isinstance(value, Metric)]
    assert declared == list(METRICS)
    assert len({metric.name for metric in METRICS}) == len(METRICS)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metrics_name_says_its_kind_and_unit(metric: Metric) -> None:
    assert re.fullmatch(r"tidegate_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    if metric.kind == "latency":
        assert metric.name.endswith("_seconds")
    assert metric.buckets == tuple(sorted(metric.buckets))
    assert bool(metric.buckets) == (metric.kind == "histogram")
    assert metric.help.endswith(".")


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_is_written_somewhere(metric: Metric) -> None:
    name = next(name for name, value in vars(telemetry).items() if value is metric)
    users = [
        path for path in SOURCE.rglob("*.py") if path.name != "telemetry.py" and f"({name}" in path.read_text("utf-8")
    ]
    assert users


def test_the_reference_page_lists_everything() -> None:
    page = PAGE.read_text("utf-8")
    rows = {match[1]: match[0] for match in re.finditer(r"^\| `([^`]+)` \|.*$", page, re.MULTILINE)}
    names = {*PROMISED, *SPANS, *SPAN_ATTRIBUTES, *LOG_FIELDS}
    assert names <= rows.keys()
    assert {row for row in rows if row.startswith(("tidegate_", "ml."))} <= names
    for metric in METRICS:
        assert metric.help in rows[metric.name]
        assert all(f"`{label}`" in rows[metric.name] for label in metric.labels)


def test_help_texts_name_every_outcome_and_reason() -> None:
    from tidegate import errors
    from tidegate.serving.outcome import outcome_of

    refusals = (errors.QueueFull, errors.RateLimited, errors.Overloaded, errors.NotReady)  # of a prediction
    reasons = {cls.reason for cls in refusals}
    reasons |= {errors.DeadlineExceeded.reason, errors.CallerGone.reason}
    assert all(reason in telemetry.REJECTED.help for reason in reasons)
    samples = [
        errors.InvalidInput("x"),
        errors.QueueFull("x"),
        errors.DeadlineExceeded(),
        errors.CallerGone(),
        ValueError(),
    ]
    outcomes = {outcome_of(error)[0] for error in samples} | {"ok", "agree", "differ"}
    assert all(outcome in telemetry.REQUESTS.help for outcome in outcomes)
