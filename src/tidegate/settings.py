"""One frozen Settings in sections, each field with a help text. ``config/`` merges its sources.

Environment keys are ``TIDEGATE_<SECTION>__<FIELD>``; ``ALIASES`` lists the names that users of older systems have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Percent = Annotated[float, Meta(ge=0, le=100)]
Positive = Annotated[int, Meta(ge=1)]
Port = Annotated[int, Meta(ge=0, le=65535)]
RuntimeName = Literal["auto", "onnx", "sklearn", "xgboost", "lightgbm", "pyfunc", "python", "fake"]
Seconds = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(gt=0, le=100)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Alpha = Annotated[float, Meta(gt=0, lt=1)]
Duration = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$")]
"""A number and its unit, such as 30s or 24h; ``seconds_of`` reads it."""


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


class ErrorsGuardrail(Section, frozen=True):
    tolerance: Annotated[
        float, Meta(gt=1), _help("Ratio of failure rates, candidate to baseline, that is shown not to be reached.")
    ] = 1.5
    acceptable_rate: Annotated[
        Fraction, _help("A candidate shown to fail less often than this passes, however seldom the baseline fails.")
    ] = 0.01
    alpha: Annotated[Alpha, _help("Chance of a false alarm over the whole release.")] = 0.01


class LatencyGuardrail(Section, frozen=True):
    quantiles: Annotated[tuple[Annotated[float, Meta(gt=0, lt=1)], ...], _help("Quantiles that are compared.")] = (
        0.5,
        0.9,
        0.99,
    )
    slack: Annotated[float, Meta(ge=0), _help("By how much the candidate may be slower: 0.1 is 10 %.")] = 0.10
    acceptable_ms: Annotated[
        float, Meta(ge=0), _help("Or by how many milliseconds, whichever is more: nobody notices less.")
    ] = 1.0
    alpha: Annotated[Alpha, _help("Chance of a false alarm over the whole release.")] = 0.01


class OutputsGuardrail(Section, frozen=True):
    max_shift: Annotated[
        float, Meta(gt=0, le=1), _help("Largest total variation distance between the variants' predictions.")
    ] = 0.2
    alpha: Annotated[Alpha, _help("Chance of a false alarm over the whole release.")] = 0.01


class OutcomeGuardrail(Section, frozen=True):
    metric: Annotated[str, _help("accuracy, or the name of a metric that feedback sends; higher is better.")] = (
        "accuracy"
    )
    wait: Annotated[Duration, _help("How long labels take; a promotion waits this long for them.")] = "0s"
    margin: Annotated[float, Meta(ge=0), _help("By how much the candidate may be worse.")] = 0.01
    min_labels: Annotated[Positive, _help("Fewest labels per variant before anything is concluded.")] = 100
    alpha: Annotated[Alpha, _help("Chance of a false alarm over the whole release.")] = 0.01


class PrometheusGuardrail(Section, frozen=True):
    query: Annotated[str, _help("PromQL that gives one number.")]
    max: Annotated[float, _help("Above this the release is rolled back.")]
    url: Annotated[str, _help("Base address of the Prometheus server.")] = ""
    every: Annotated[Duration, _help("How often it is asked.")] = "15s"


class BudgetGuardrail(Section, frozen=True):
    max_failures: Annotated[Positive, _help("Failures of the candidate, all steps together, that end the release.")]


class Guardrail(Section, frozen=True, omit_defaults=True):
    """Exactly one of these."""

    errors: Annotated[ErrorsGuardrail | None, _help("Failure rate against the baseline at the same time.")] = None
    latency: Annotated[LatencyGuardrail | None, _help("Quantiles of latency against the baseline's.")] = None
    outputs: Annotated[OutputsGuardrail | None, _help("Shift of the distribution of predictions.")] = None
    outcome: Annotated[OutcomeGuardrail | None, _help("Quality from late labels and outcomes.")] = None
    prometheus: Annotated[PrometheusGuardrail | None, _help("A query to a Prometheus server.")] = None
    budget: Annotated[BudgetGuardrail | None, _help("An absolute number of failures; claims no statistics.")] = None


class ShadowPlan(Section, frozen=True):
    min_requests: Annotated[Positive, _help("Copies that the candidate answers before it gets users.")] = 500
    min_agreement: Annotated[
        float,
        Meta(ge=0, le=1),
        _help("Least share of copies that it answers as the baseline does; 0: only failures count."),
    ] = 0.0
    max_seconds: Annotated[Seconds, _help("After this without enough copies: on_inconclusive.")] = 86_400.0


class StepPlan(Section, frozen=True):
    min_requests: Annotated[Positive, _help("Fewest requests of the candidate in a step.")] = 200
    min_seconds: Annotated[float, Meta(ge=0), _help("Least time in a step.")] = 60.0
    max_seconds: Annotated[Seconds, _help("Longest time in a step with traffic; then on_inconclusive.")] = 3600.0


class ReleaseSettings(Section, frozen=True):
    shadow: Annotated[ShadowPlan | None, _help("Copies of requests before the first step; none when absent.")] = None
    steps: Annotated[tuple[Share, ...], _help("Percentages of traffic, growing; 100 is the last.")] = (
        1,
        5,
        25,
        50,
        100,
    )
    step: Annotated[StepPlan, _help("What each step needs.")] = StepPlan()
    guardrails: Annotated[tuple[Guardrail, ...], _help("What the candidate must not break.")] = (
        Guardrail(errors=ErrorsGuardrail()),
        Guardrail(latency=LatencyGuardrail()),
    )
    on_inconclusive: Annotated[
        Literal["hold", "promote", "rollback"], _help("When the last step ends without a verdict.")
    ] = "hold"
    bake_seconds: Annotated[float, Meta(ge=0), _help("Time at 100 % before the promotion counts.")] = 0.0
    keep_warm_seconds: Annotated[
        float, Meta(ge=0), _help("How long the old version stays loaded after a promotion, to return at once.")
    ] = 3600.0
    max_silence_seconds: Annotated[
        Seconds, _help("Without any traffic for so long the release says that it waits.")
    ] = 60.0


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
    release: Annotated[ReleaseSettings, _help("How a new version gets its traffic; read by the control plane.")] = (
        ReleaseSettings()
    )
    event_sample: Annotated[
        Fraction | None, _help("As store.event_sample, for this endpoint; 1 where labels are to be joined.")
    ] = None
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
    keys_required: Annotated[
        bool,
        _help(
            "Whether predicting needs a key, predict_key or one made with tidegate keys; with predict_key it always does."
        ),
    ] = False
    metrics_open: Annotated[bool, _help("Whether /metrics answers without a key.")] = True


class Trust(Section, frozen=True):
    pickles: Annotated[
        tuple[str, ...],
        _help("Folders or files whose pickles and Python code may be loaded; a path covers what is below it."),
    ] = ()
    schemes: Annotated[tuple[str, ...], _help("URI schemes that models may come from.")] = ("file", "models", "runs")
    skops_types: Annotated[tuple[str, ...], _help("Types that a skops file may contain beyond the known ones.")] = ()


class Retention(Section, frozen=True):
    windows: Annotated[Duration, _help("Counts a second; those of a kept release stay as long as it does.")] = "14d"
    events: Annotated[Duration, _help("Sampled predictions.")] = "14d"
    exposures: Annotated[Duration, _help("Exposures of experiments that have ended.")] = "365d"
    feedback: Annotated[Duration, _help("Labels and outcomes.")] = "365d"
    releases: Annotated[Duration, _help("Releases that have ended, with their evidence.")] = "365d"


class Store(Section, frozen=True):
    url: Annotated[
        str,
        _help(
            "sqlite:///file or postgresql://…; without one, serve follows the configuration alone, and up keeps a file."
        ),
    ] = ""
    event_sample: Annotated[float, Meta(ge=0, le=1), _help("Share of predictions that are kept as events.")] = 0.01
    buffer_mb: Annotated[
        Seconds, _help("Most memory, and most disk for exposures, per process for what the store has not taken yet.")
    ] = 32.0
    beat_seconds: Annotated[Seconds, _help("Time between signs of life.")] = 1.0
    dead_seconds: Annotated[Seconds, _help("An instance silent for so long is not waited for any more.")] = 10.0
    folder: Annotated[str, _help("Where the last snapshot and the spool are kept; run/ when empty.")] = ""
    retention: Annotated[Retention, _help("How long what is kept.")] = Retention()


class Control(Section, frozen=True):
    host: Annotated[str, _help("Address of the control API and the console.")] = "127.0.0.1"
    port: Annotated[Port, _help("Port of the control API and the console.")] = 8001
    url: Annotated[str, _help("Where clients reach it; http://localhost:port when empty.")] = ""
    tick_seconds: Annotated[Seconds, _help("How often releases are looked at.")] = 0.5
    lease_seconds: Annotated[Seconds, _help("After so long without a renewal another control plane may act.")] = 10.0
    session_minutes: Annotated[Seconds, _help("How long a sign-in to the console lasts.")] = 60.0
    requests_per_minute: Annotated[Positive, _help("Most calls of one key or address; a key may have less.")] = 600
    origins: Annotated[tuple[str, ...], _help("Origins that browsers may call the API from.")] = ()


class Registry(Section, frozen=True):
    kind: Annotated[Literal["files", "mlflow"], _help("Where model versions are kept.")] = "files"
    uri: Annotated[str, _help("Folder of the files registry, or MLflow's tracking address.")] = ""
    on_alias_moved: Annotated[
        Literal["ignore", "release", "revert"],
        _help("When the champion alias is moved outside: leave it, start a release, or move it back."),
    ] = "release"
    poll_seconds: Annotated[Seconds, _help("How often aliases are looked at.")] = 5.0
    webhook_secret: Annotated[str, _help("Secret that signs webhooks; they are refused when empty. A secret.")] = ""


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
    store: Annotated[Store, _help("Where both planes meet.")] = Store()
    control: Annotated[Control, _help("The control plane.")] = Control()
    registry: Annotated[Registry, _help("Model versions and aliases.")] = Registry()


SECRETS = ("access.predict_key", "access.operate_key", "store.url", "registry.webhook_secret")
"""Settings whose values are masked wherever settings are shown."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def not_finite(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where a section has an infinite number or none: JSON, as a release's plan is stored, cannot hold them."""
    if isinstance(value, Section):
        for name in value.__struct_fields__:
            yield from not_finite(getattr(value, name), (*place, name))
    elif isinstance(value, tuple):
        for index, one in enumerate(value):
            yield from not_finite(one, (*place, index))
    elif isinstance(value, float) and not math.isfinite(value):
        yield place


def seconds_of(duration: Duration) -> float:
    """Seconds of a text such as 90s, 1.5h or 14d."""
    unit = duration.lstrip("0123456789.")
    return float(duration.removesuffix(unit)) * _UNITS[unit]


ALIASES: Mapping[str, str] = {
    "LOG_LEVEL": "logs.level",
    "LOG_FORMAT": "logs.format",
    "CORRELATION_ID_HEADER": "server.correlation_header",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "tracing.endpoint",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "tracing.protocol",
    "OTEL_SERVICE_NAME": "tracing.service_name",
    "PROFILE": "profile",
    "API_KEY_SECRET": "access.predict_key",
    "DATABASE_URL": "store.url",
    "MLFLOW_TRACKING_URI": "registry.uri",
}
"""Environment names that users of the replaced systems already have, and the setting each one means."""
