"""Spans of a request, made after its answer is known: a request that is not sampled pays one comparison.

Sampling follows the caller's ``traceparent``; without one, a share of requests is drawn.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from tidegate import __version__
from tidegate.errors import MissingExtra, TidegateError
from tidegate.logs import TRACE
from tidegate.settings import Tracing
from tidegate.types import Prediction

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from tidegate.serving.call import Call

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)
CLOSE_SECONDS = 3.0
_QUEUE = 2048
"""Spans that wait for the exporter; more are dropped by the SDK, which counts them."""


class Traced(NamedTuple):
    """The ids that a request's span will have, and the context of its parent."""

    trace_id: int
    span_id: int
    parent: Any


class SpanTracer:
    """Writes the spans of ``telemetry.SPANS`` through an OpenTelemetry exporter, in the background."""

    def __init__(
        self,
        exporter: SpanExporter,
        service_name: str,
        sample_rate: float,
        draw: Callable[[], float] = random.random,
    ) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._ids = _ids()
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": service_name, "service.version": __version__}),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, max_queue_size=_QUEUE, schedule_delay_millis=1000)
        )
        self._tracer = self._provider.get_tracer("tidegate", __version__)
        self._rate = sample_rate
        self._draw = draw

    def begin(self, call: Call) -> None:
        """Decides whether the request is traced, and under which ids: its log lines carry them from here on."""
        parent = _TRACEPARENT.fullmatch(call.traceparent) if call.traceparent else None
        context = _context(parent)
        if parent is None or context is None:
            sampled = self._rate >= 1.0 or self._draw() < self._rate
        else:
            sampled = bool(int(parent[3], 16) & 1)
        if not sampled:
            return
        trace_id = int(parent[1], 16) if parent is not None and context else self._ids.generate_trace_id()
        call.trace = Traced(trace_id, self._ids.generate_span_id(), context)
        TRACE.set((f"{trace_id:032x}", f"{call.trace.span_id:016x}"))

    def record(
        self, call: Call, variant: str, prediction: Prediction | None, error: BaseException | None, ended: float
    ) -> None:
        """``ended`` and the call's times are ``perf_counter`` seconds; spans carry wall-clock times."""
        if call.trace is not None:
            self._write(call, variant, prediction, error, ended, call.trace)

    def _write(
        self,
        call: Call,
        variant: str,
        prediction: Prediction | None,
        error: BaseException | None,
        ended: float,
        traced: Traced,
    ) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        offset = time.time_ns() - int(time.perf_counter() * 1e9)

        def at(moment: float) -> int:
            return int(moment * 1e9) + offset

        self._ids.drawn = traced
        span = self._tracer.start_span(
            "predict",
            traced.parent,
            SpanKind.SERVER,
            _attributes(call, variant, prediction),
            start_time=at(call.received),
        )
        if prediction is not None and prediction.timing.batch_rows:
            inside = set_span_in_context(span)
            answered = ended - prediction.timing.run
            queued = self._tracer.start_span("queue", inside, start_time=at(answered - prediction.timing.queue))
            queued.end(at(answered))
            model = self._tracer.start_span(
                "model_inference", inside, attributes=_attributes(call, variant, prediction), start_time=at(answered)
            )
            model.end(at(ended))
        if error is not None:
            words = str(error) if isinstance(error, TidegateError) else type(error).__name__
            span.set_status(Status(StatusCode.ERROR, words))
        span.end(at(ended))

    def close(self) -> None:
        """Sends what waits, for at most ``CLOSE_SECONDS``: a collector that hangs must not keep the process."""
        ending = threading.Thread(target=self._provider.shutdown, name="tidegate-tracing-end", daemon=True)
        ending.start()
        ending.join(CLOSE_SECONDS)


def _ids() -> Any:
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        """Gives the next span the ids that were drawn for it; random ones to all others."""

        drawn: Traced | None = None

        def generate_trace_id(self) -> int:
            return self.drawn.trace_id if self.drawn is not None else super().generate_trace_id()

        def generate_span_id(self) -> int:
            if self.drawn is None:
                return super().generate_span_id()
            drawn, self.drawn = self.drawn, None
            return drawn.span_id

    return Ids()


def _attributes(call: Call, variant: str, prediction: Prediction | None) -> dict[str, str | int]:
    endpoint = call.endpoint
    version = endpoint.versions.get(variant, endpoint.baseline)
    widths = [int(array.size // max(len(array), 1)) for array in call.inputs.values()]
    attributes: dict[str, str | int] = {
        "ml.model.name": endpoint.name,
        "ml.model.version": version.ref.version,
        "ml.model.path": version.ref.uri,
        "ml.variant": variant,
        "ml.input.feature_count": call.rows,
        "ml.input.feature_dim": sum(widths),
        "correlation.id": call.request_id,
    }
    if prediction is not None:
        attributes["ml.output.prediction_count"] = call.rows
    return attributes


def _context(parent: re.Match[str] | None) -> Any:
    if parent is None:
        return None
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    remote = SpanContext(int(parent[1], 16), int(parent[2], 16), is_remote=True, trace_flags=TraceFlags(1))
    return set_span_in_context(NonRecordingSpan(remote)) if remote.is_valid else None


def open_tracer(settings: Tracing) -> SpanTracer:
    """Raises MissingExtra without OpenTelemetry."""
    try:
        exporter = _exporter(settings)
    except ImportError as error:
        raise MissingExtra("otel", "tracing") from error
    return SpanTracer(exporter, settings.service_name, settings.sample_rate)


def _exporter(settings: Tracing) -> SpanExporter:
    if settings.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        return GrpcExporter(endpoint=settings.endpoint, insecure=not settings.endpoint.startswith("https"))
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

    address = settings.endpoint.rstrip("/")
    return HttpExporter(endpoint=address if address.endswith("/v1/traces") else f"{address}/v1/traces")
