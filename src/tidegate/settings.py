"""One frozen Settings in sections, each field with a help text. ``config/`` merges its sources.

Environment keys are ``TIDEGATE_<SECTION>__<FIELD>``; ``ALIASES`` lists the names that users of older systems have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Percent = Annotated[float, Meta(ge=0, le=100)]
Positive = Annotated[int, Meta(ge=1)]
Port = Annotated[int, Meta(ge=0, le=65535)]
RuntimeName = Literal["auto", "onnx", "sklearn", "xgboost", "lightgbm", "pyfunc", "python", "fake"]
Seconds = Annotated[float, Meta(gt=0)]


def _help(text: str) -> Meta:
    return Meta(description=text)


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every section: immutable, unknown keys are errors."""


class Batching(Section, frozen=True):
    max_rows: Annotated[Positive, _help("Most rows in one call of the model.")] = 256
    max_queue_rows: Annotated[Positive, _help("Most rows waiting per model version; more is refused with 429.")] = 4096
    concurrency: Annotated[Positive, _help("Batches of one version that may run side by side.")] = 1


class Cache(Section, frozen=True):
    ttl_seconds: Annotated[Seconds, _help("How long an answer may be used again.")] = 60.0
    max_mb: Annotated[Seconds, _help("Most memory for cached answers of this endpoint, per process.")] = 64.0


class Routing(Section, frozen=True):
    unit_header: Annotated[str, _help("Request header that names the unit (user) for sticky routing.")] = "X-User-Id"
    force_header: Annotated[str, _help("Request header that forces a variant.")] = "X-Canary"
    salt: Annotated[str, _help("Changes which units get which variant; the endpoint's name when empty.")] = ""


class Slo(Section, frozen=True):
    p99_ms: Annotated[float, Meta(gt=0), _help("Latency objective; whoever would wait longer is refused.")] = 1000.0
    error_rate: Annotated[
        float, Meta(ge=0, le=1), _help("Objective for the share of failed requests; read by the control plane.")
    ] = 0.01


class VariantSettings(Section, frozen=True):
    model: Annotated[str, _help("Path or URI of the model.")]
    share: Annotated[Percent, _help("Percentage of traffic; the baseline takes the rest.")] = 0.0
    shadow: Annotated[bool, _help("Gets copies of requests; its answers are compared, never returned.")] = False
    version: Annotated[str, _help("Version shown to clients; derived from the digest when empty.")] = ""
    digest: Annotated[str, _help("sha256:… that the model's bytes must have.")] = ""
    runtime: Annotated[RuntimeName, _help("Runtime by name; found out from the files when 'auto'.")] = "auto"
    options: Annotated[Mapping[str, Any], _help("Passed to the runtime, such as a declared signature.")] = {}
    timeout_ms: Annotated[
        float, Meta(ge=0), _help("Time a candidate gets before the baseline answers; 0: half of what is left.")
    ] = 0.0
    isolate: Annotated[
        Literal["auto", "process", "no"],
        _help("Run in a process of its own, so that a crash or a hang stays there; auto: candidates that run Python."),
    ] = "auto"


class EndpointSettings(Section, frozen=True):
    model: Annotated[str, _help("Path or URI of the baseline model.")]
    version: Annotated[str, _help("Version shown to clients; derived from the digest when empty.")] = ""
    digest: Annotated[str, _help("sha256:… that the model's bytes must have.")] = ""
    runtime: Annotated[RuntimeName, _help("Runtime by name; found out from the files when 'auto'.")] = "auto"
    options: Annotated[Mapping[str, Any], _help("Passed to the runtime, such as a declared signature.")] = {}
    isolate: Annotated[Literal["auto", "process", "no"], _help("As for variants; auto means no for a baseline.")] = (
        "auto"
    )
    variants: Annotated[Mapping[str, VariantSettings], _help("Candidates and shadows beside the baseline.")] = {}
    batching: Annotated[Batching, _help("How requests are joined.")] = Batching()
    cache: Annotated[Cache | None, _help("Answer cache; none when absent.")] = None
    routing: Annotated[Routing, _help("How a variant is chosen.")] = Routing()
    slo: Annotated[Slo | None, _help("Service level objective.")] = None
    timeout_ms: Annotated[float, Meta(gt=0), _help("Longest time a request may take; X-Timeout-Ms may shorten it.")] = (
        30_000.0
    )
    max_rows: Annotated[Positive, _help("Most rows in one request.")] = 10_000
    release: Annotated[Mapping[str, Any] | None, _help("Release plan; read by the control plane.")] = None
    monitor: Annotated[Mapping[str, Any] | None, _help("Monitoring plan; read by the control plane.")] = None


class Server(Section, frozen=True):
    host: Annotated[str, _help("Address to listen on.")] = "127.0.0.1"
    port: Annotated[Port, _help("HTTP port; 0 takes a free one.")] = 8000
    grpc_port: Annotated[Port | None, _help("gRPC port (8081 by custom); off when empty.")] = None
    workers: Annotated[int, Meta(ge=1, le=1024), _help("Serving processes behind the one port.")] = 1
    drain_seconds: Annotated[float, Meta(ge=0), _help("On SIGTERM: time to keep accepting while not ready.")] = 0.0
    shutdown_seconds: Annotated[Seconds, _help("After that: longest time for requests in flight to end.")] = 30.0
    correlation_header: Annotated[str, _help("Header of the request id.")] = "X-Request-Id"
    max_connections: Annotated[Positive, _help("Connections in flight per process before 503.")] = 10_000
    watch: Annotated[bool, _help("Reload when tidegate.yaml or a model's file changes.")] = False


class Limits(Section, frozen=True):
    body_bytes: Annotated[Positive, _help("Largest body.")] = 16 * 1024 * 1024
    depth: Annotated[Positive, _help("Deepest nesting of a JSON body.")] = 32
    body_seconds: Annotated[Seconds, _help("Longest time for a body to arrive.")] = 20.0
    image_pixels: Annotated[Positive, _help("Most pixels of an image, checked before decoding.")] = 50_000_000


class Logs(Section, frozen=True):
    level: Annotated[Literal["debug", "info", "warning", "error"], _help("Least level that is written.")] = "info"
    format: Annotated[Literal["json", "text"], _help("JSON lines for machines, text for people.")] = "json"
    requests: Annotated[
        Literal["all", "errors"], _help("Which requests get a log line; errors: those that the model failed.")
    ] = "errors"


class Tracing(Section, frozen=True):
    endpoint: Annotated[str, _help("OTLP endpoint; tracing is off when empty.")] = ""
    protocol: Annotated[Literal["grpc", "http/protobuf"], _help("OTLP transport.")] = "http/protobuf"
    sample_rate: Annotated[float, Meta(ge=0, le=1), _help("Share of requests traced when no parent decides.")] = 1.0
    service_name: Annotated[str, _help("Resource attribute service.name.")] = "tidegate"


class Access(Section, frozen=True):
    predict_key: Annotated[str, _help("Key that callers must send to predict; open when empty. A secret.")] = ""
    operate_key: Annotated[str, _help("Key for load, unload and other changes; they are off when empty. A secret.")] = (
        ""
    )
    metrics_open: Annotated[bool, _help("Whether /metrics answers without a key.")] = True


class Trust(Section, frozen=True):
    pickles: Annotated[
        tuple[str, ...],
        _help("Folders or files whose pickles and Python code may be loaded; a path covers what is below it."),
    ] = ()
    schemes: Annotated[tuple[str, ...], _help("URI schemes that models may come from.")] = ("file", "models", "runs")
    skops_types: Annotated[tuple[str, ...], _help("Types that a skops file may contain beyond the known ones.")] = ()


class Settings(Section, frozen=True):
    profile: Annotated[Literal["local", "development", "staging", "production"], _help("Set of defaults.")] = "local"
    endpoints: Annotated[Mapping[str, EndpointSettings], _help("What is served, by name.")] = {}
    default_endpoint: Annotated[str, _help("Endpoint of calls that name none; the first when empty.")] = ""
    server: Annotated[Server, _help("Ports and processes.")] = Server()
    limits: Annotated[Limits, _help("Bounds on what a client may send.")] = Limits()
    logs: Annotated[Logs, _help("Log lines.")] = Logs()
    tracing: Annotated[Tracing, _help("OpenTelemetry.")] = Tracing()
    access: Annotated[Access, _help("Keys.")] = Access()
    trust: Annotated[Trust, _help("Which artifacts may be loaded.")] = Trust()


SECRETS = ("access.predict_key", "access.operate_key")
"""Settings whose values are masked wherever settings are shown."""

ALIASES: Mapping[str, str] = {
    "LOG_LEVEL": "logs.level",
    "LOG_FORMAT": "logs.format",
    "CORRELATION_ID_HEADER": "server.correlation_header",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "tracing.endpoint",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "tracing.protocol",
    "OTEL_SERVICE_NAME": "tracing.service_name",
    "PROFILE": "profile",
    "API_KEY_SECRET": "access.predict_key",
}
"""Environment names that users of the replaced systems already have, and the setting each one means."""
