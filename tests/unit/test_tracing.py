"""Spans, through OpenTelemetry's own SDK and its exporter in memory."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from tests.unit.serving.plane import Model, Plane, failing, serving, times
from tidegate.errors import ModelFailed
from tidegate.logs import JsonFormatter
from tidegate.settings import Cache, Tracing
from tidegate.telemetry import SPAN_ATTRIBUTES, SPANS
from tidegate.tracing import SpanTracer, open_tracer

DOUBLE = times(2)
TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Traced:
    def __init__(self, plane: Plane, tracer: SpanTracer, exporter: InMemorySpanExporter) -> None:
        self.plane = plane
        self._tracer = tracer
        self._exporter = exporter

    def spans(self) -> Sequence[ReadableSpan]:
        self._tracer._provider.force_flush()
        return self._exporter.get_finished_spans()


@asynccontextmanager
async def traced(
    rate: float = 1.0, draws: Sequence[float] = (), model: Model = DOUBLE, **applied: Any
) -> AsyncIterator[Traced]:
    exporter = InMemorySpanExporter()
    left = list(draws)
    tracer = SpanTracer(exporter, "a-service", rate, lambda: left.pop(0))
    try:
        async with serving({"baseline": model}, tracer, **applied) as plane:
            yield Traced(plane, tracer, exporter)
    finally:
        tracer.close()


async def test_a_request_is_a_span_with_its_wait_and_its_run() -> None:
    async with traced() as run:
        await run.plane.ask(1, 2, 3)
        spans = {span.name: span for span in run.spans()}
    assert spans.keys() == SPANS.keys()
    predict, queue, model = spans["predict"], spans["queue"], spans["model_inference"]
    assert predict.context is not None
    for child in (queue, model):
        assert child.parent is not None
        assert child.parent.span_id == predict.context.span_id
        assert child.context is not None
        assert child.context.trace_id == predict.context.trace_id
        assert predict.start_time is not None
        assert predict.end_time is not None
        assert child.start_time is not None
        assert child.end_time is not None
        assert predict.start_time <= child.start_time + 1_000_000
        assert child.start_time <= child.end_time <= predict.end_time
    assert dict(predict.attributes or {}) == {
        "ml.model.name": "e",
        "ml.model.version": "baseline",
        "ml.model.path": "baseline",
        "ml.variant": "baseline",
        "ml.input.feature_count": 3,
        "ml.input.feature_dim": 1,
        "ml.output.prediction_count": 3,
        "correlation.id": "id-1",
    }
    assert predict.resource.attributes["service.name"] == "a-service"


async def test_every_attribute_that_is_declared_is_given() -> None:
    async with traced() as run:
        await run.plane.ask(1)
        given = {name for span in run.spans() for name in span.attributes or {}}
    assert given == SPAN_ATTRIBUTES.keys()


async def test_the_callers_trace_goes_on() -> None:
    async with traced(rate=0.0) as run:
        await run.plane.ask(1, traceparent=f"00-{TRACE_ID}-{SPAN_ID}-01")
        spans = {span.name: span for span in run.spans()}
    predict = spans["predict"]
    assert predict.context is not None
    assert predict.parent is not None
    assert f"{predict.context.trace_id:032x}" == TRACE_ID
    assert f"{predict.parent.span_id:016x}" == SPAN_ID


async def test_a_caller_that_does_not_sample_is_followed() -> None:
    async with traced(rate=1.0) as run:
        await run.plane.ask(1, traceparent=f"00-{TRACE_ID}-{SPAN_ID}-00")
        assert run.spans() == ()


@pytest.mark.parametrize(
    "parent",
    [
        "x",
        "00-zz-1-01",
        f"00-{TRACE_ID}-{SPAN_ID}",
        f"00-{TRACE_ID.upper()}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        "٣" * 55,
    ],
)
async def test_a_malformed_parent_is_no_parent(parent: str) -> None:
    async with traced(rate=1.0) as run:
        await run.plane.ask(1, traceparent=parent)
        (predict,) = [span for span in run.spans() if span.name == "predict"]
    assert predict.parent is None


async def test_a_share_of_requests_is_drawn() -> None:
    async with traced(rate=0.25, draws=[0.1, 0.25, 0.9, 0.24]) as run:
        for _ in range(4):
            await run.plane.ask(1)
        assert [span.name for span in run.spans()].count("predict") == 2


async def test_a_failure_is_an_error_span() -> None:
    async with traced(model=failing) as run:
        with pytest.raises(ModelFailed):
            await run.plane.ask(1)
        (span,) = run.spans()
    assert span.name == "predict"
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "ValueError"
    assert "ml.output.prediction_count" not in (span.attributes or {})


async def test_the_lines_that_a_request_logs_carry_its_trace() -> None:
    formatter = JsonFormatter()
    lines: list[dict[str, Any]] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(formatter.format(record)))

    handler = Lines()
    logging.getLogger("tidegate.predict").addHandler(handler)
    try:
        async with traced(model=failing) as traces:
            with pytest.raises(ModelFailed):
                await traces.plane.ask(3)
            (span,) = traces.spans()
    finally:
        logging.getLogger("tidegate.predict").removeHandler(handler)
    (line,) = [line for line in lines if "failed" in line["message"]]
    context = span.get_span_context()
    assert context is not None
    assert (line["trace_id"], line["span_id"]) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")


async def test_a_failure_names_the_variant_that_failed() -> None:
    exporter = InMemorySpanExporter()
    tracer = SpanTracer(exporter, "a-service", 1.0)
    async with serving({"baseline": DOUBLE, "candidate": failing}, tracer, shares={"candidate": 10}) as plane:
        with pytest.raises(ModelFailed):
            await plane.ask(1, version="candidate")
    tracer.close()
    (span,) = exporter.get_finished_spans()
    attributes = span.attributes or {}
    assert (attributes["ml.variant"], attributes["ml.model.version"]) == ("candidate", "candidate")


async def test_a_kept_answer_has_no_wait_and_no_run() -> None:
    async with traced(cache=Cache()) as run:
        await run.plane.ask(1)
        await run.plane.ask(1)
        names = [span.name for span in run.spans()]
    assert sorted(names) == ["model_inference", "predict", "predict", "queue"]


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_tracer_is_opened_without_its_collector(protocol: Any) -> None:
    """The collector may be away; predictions go on."""
    open_tracer(Tracing(endpoint="http://127.0.0.1:9", protocol=protocol)).close()
