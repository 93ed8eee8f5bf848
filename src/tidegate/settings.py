"""One frozen Settings in sections, each field with a help text. ``config/`` merges its sources.

Environment keys are ``TIDEGATE_<SECTION>__<FIELD>``; ``ALIASES`` lists the names that users of older systems have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta

from tidegate.monitor_plan import MonitorPlan
from tidegate.section import (
    Alpha,
    Duration,
    Fraction,
    Percent,
    Port,
    Positive,
    Seconds,
    Section,
    Share,
    help_text,
)

RuntimeName = Literal["auto", "onnx", "sklearn", "xgboost", "lightgbm", "pyfunc", "python", "fake"]


class Batching(Section, frozen=True):
    max_rows: Annotated[Positive, help_text("Most rows in one call of the model.")] = 256
    max_queue_rows: Annotated[Positive, help_text("Most rows waiting per model version; more is refused with 429.")] = (
        4096
    )
    concurrency: Annotated[Positive, help_text("Batches of one version that may run side by side.")] = 1


class Cache(Section, frozen=True):
    ttl_seconds: Annotated[Seconds, help_text("How long an answer may be used again.")] = 60.0
    max_mb: Annotated[Seconds, help_text("Most memory for cached answers of this endpoint, per process.")] = 64.0


class Routing(Section, frozen=True):
    unit_header: Annotated[str, help_text("Request header that names the unit (user) for sticky routing.")] = (
        "X-User-Id"
    )
    force_header: Annotated[str, help_text("Request header that forces a variant.")] = "X-Canary"
    salt: Annotated[str, help_text("Changes which units get which variant; the endpoint's name when empty.")] = ""


class Slo(Section, frozen=True):
    p99_ms: Annotated[float, Meta(gt=0), help_text("Latency objective; whoever would wait longer is refused.")] = 1000.0
    error_rate: Annotated[
        float, Meta(ge=0, le=1), help_text("Objective for the share of failed requests; read by the control plane.")
    ] = 0.01


class ErrorsGuardrail(Section, frozen=True):
    tolerance: Annotated[
        float, Meta(gt=1), help_text("Ratio of failure rates, candidate to baseline, that is shown not to be reached.")
    ] = 1.5
    acceptable_rate: Annotated[
        Fraction, help_text("A candidate shown to fail less often than this passes, however seldom the baseline fails.")
    ] = 0.01
    alpha: Annotated[Alpha, help_text("Chance of a false alarm over the whole release.")] = 0.01


class LatencyGuardrail(Section, frozen=True):
    quantiles: Annotated[tuple[Annotated[float, Meta(gt=0, lt=1)], ...], help_text("Quantiles that are compared.")] = (
        0.5,
        0.9,
        0.99,
    )
    slack: Annotated[float, Meta(ge=0), help_text("By how much the candidate may be slower: 0.1 is 10 %.")] = 0.10
    acceptable_ms: Annotated[
        float, Meta(ge=0), help_text("Or by how many milliseconds, whichever is more: nobody notices less.")
    ] = 1.0
    alpha: Annotated[Alpha, help_text("Chance of a false alarm over the whole release.")] = 0.01


class OutputsGuardrail(Section, frozen=True):
    max_shift: Annotated[
        float, Meta(gt=0, le=1), help_text("Largest total variation distance between the variants' predictions.")
    ] = 0.2
    alpha: Annotated[Alpha, help_text("Chance of a false alarm over the whole release.")] = 0.01


class OutcomeGuardrail(Section, frozen=True):
    metric: Annotated[str, help_text("accuracy, or the name of a metric that feedback sends; higher is better.")] = (
        "accuracy"
    )
    wait: Annotated[Duration, help_text("How long labels take; a promotion waits this long for them.")] = "0s"
    margin: Annotated[float, Meta(ge=0), help_text("By how much the candidate may be worse.")] = 0.01
    min_labels: Annotated[Positive, help_text("Fewest labels per variant before anything is concluded.")] = 100
    alpha: Annotated[Alpha, help_text("Chance of a false alarm over the whole release.")] = 0.01


class PrometheusGuardrail(Section, frozen=True):
    query: Annotated[str, help_text("PromQL that gives one number.")]
    max: Annotated[float, help_text("Above this the release is rolled back.")]
    url: Annotated[str, help_text("Base address of the Prometheus server.")] = ""
    every: Annotated[Duration, help_text("How often it is asked.")] = "15s"


class BudgetGuardrail(Section, frozen=True):
    max_failures: Annotated[Positive, help_text("Failures of the candidate, all steps together, that end the release.")]


class Guardrail(Section, frozen=True, omit_defaults=True):
    """Exactly one of these."""

    errors: Annotated[ErrorsGuardrail | None, help_text("Failure rate against the baseline at the same time.")] = None
    latency: Annotated[LatencyGuardrail | None, help_text("Quantiles of latency against the baseline's.")] = None
    outputs: Annotated[OutputsGuardrail | None, help_text("Shift of the distribution of predictions.")] = None
    outcome: Annotated[OutcomeGuardrail | None, help_text("Quality from late labels and outcomes.")] = None
    prometheus: Annotated[PrometheusGuardrail | None, help_text("A query to a Prometheus server.")] = None
    budget: Annotated[BudgetGuardrail | None, help_text("An absolute number of failures; claims no statistics.")] = None


class ShadowPlan(Section, frozen=True):
    min_requests: Annotated[Positive, help_text("Copies that the candidate answers before it gets users.")] = 500
    min_agreement: Annotated[
        float,
        Meta(ge=0, le=1),
        help_text("Least share of copies that it answers as the baseline does; 0: only failures count."),
    ] = 0.0
    max_seconds: Annotated[Seconds, help_text("After this without enough copies: on_inconclusive.")] = 86_400.0


class StepPlan(Section, frozen=True):
    min_requests: Annotated[Positive, help_text("Fewest requests of the candidate in a step.")] = 200
    min_seconds: Annotated[float, Meta(ge=0), help_text("Least time in a step.")] = 60.0
    max_seconds: Annotated[Seconds, help_text("Longest time in a step with traffic; then on_inconclusive.")] = 3600.0


class ReleaseSettings(Section, frozen=True):
    shadow: Annotated[ShadowPlan | None, help_text("Copies of requests before the first step; none when absent.")] = (
        None
    )
    steps: Annotated[tuple[Share, ...], help_text("Percentages of traffic, growing; 100 is the last.")] = (
        1,
        5,
        25,
        50,
        100,
    )
    step: Annotated[StepPlan, help_text("What each step needs.")] = StepPlan()
    guardrails: Annotated[tuple[Guardrail, ...], help_text("What the candidate must not break.")] = (
        Guardrail(errors=ErrorsGuardrail()),
        Guardrail(latency=LatencyGuardrail()),
    )
    on_inconclusive: Annotated[
        Literal["hold", "promote", "rollback"], help_text("When the last step ends without a verdict.")
    ] = "hold"
    bake_seconds: Annotated[float, Meta(ge=0), help_text("Time at 100 % before the promotion counts.")] = 0.0
    keep_warm_seconds: Annotated[
        float, Meta(ge=0), help_text("How long the old version stays loaded after a promotion, to return at once.")
    ] = 3600.0
    max_silence_seconds: Annotated[
        Seconds, help_text("Without any traffic for so long the release says that it waits.")
    ] = 60.0


class VariantSettings(Section, frozen=True):
    model: Annotated[str, help_text("Path or URI of the model.")]
    share: Annotated[Percent, help_text("Percentage of traffic; the baseline takes the rest.")] = 0.0
    shadow: Annotated[bool, help_text("Gets copies of requests; its answers are compared, never returned.")] = False
    version: Annotated[str, help_text("Version shown to clients; derived from the digest when empty.")] = ""
    digest: Annotated[str, help_text("sha256:… that the model's bytes must have.")] = ""
    runtime: Annotated[RuntimeName, help_text("Runtime by name; found out from the files when 'auto'.")] = "auto"
    options: Annotated[Mapping[str, Any], help_text("Passed to the runtime, such as a declared signature.")] = {}
    timeout_ms: Annotated[
        float, Meta(ge=0), help_text("Time a candidate gets before the baseline answers; 0: half of what is left.")
    ] = 0.0
    isolate: Annotated[
        Literal["auto", "process", "no"],
        help_text(
            "Run in a process of its own, so that a crash or a hang stays there; auto: candidates that run Python."
        ),
    ] = "auto"


class EndpointSettings(Section, frozen=True):
    model: Annotated[str, help_text("Path or URI of the baseline model.")]
    version: Annotated[str, help_text("Version shown to clients; derived from the digest when empty.")] = ""
    digest: Annotated[str, help_text("sha256:… that the model's bytes must have.")] = ""
    runtime: Annotated[RuntimeName, help_text("Runtime by name; found out from the files when 'auto'.")] = "auto"
    options: Annotated[Mapping[str, Any], help_text("Passed to the runtime, such as a declared signature.")] = {}
    isolate: Annotated[
        Literal["auto", "process", "no"], help_text("As for variants; auto means no for a baseline.")
    ] = "auto"
    variants: Annotated[Mapping[str, VariantSettings], help_text("Candidates and shadows beside the baseline.")] = {}
    batching: Annotated[Batching, help_text("How requests are joined.")] = Batching()
    cache: Annotated[Cache | None, help_text("Answer cache; none when absent.")] = None
    routing: Annotated[Routing, help_text("How a variant is chosen.")] = Routing()
    slo: Annotated[Slo | None, help_text("Service level objective.")] = None
    timeout_ms: Annotated[
        float, Meta(gt=0), help_text("Longest time a request may take; X-Timeout-Ms may shorten it.")
    ] = 30_000.0
    max_rows: Annotated[Positive, help_text("Most rows in one request.")] = 10_000
    release: Annotated[ReleaseSettings, help_text("How a new version gets its traffic; read by the control plane.")] = (
        ReleaseSettings()
    )
    event_sample: Annotated[
        Fraction | None, help_text("As store.event_sample, for this endpoint; 1 where labels are to be joined.")
    ] = None
    monitor: Annotated[
        MonitorPlan | None, help_text("What is watched; nothing when absent. Read by the control plane.")
    ] = None


class Server(Section, frozen=True):
    host: Annotated[str, help_text("Address to listen on.")] = "127.0.0.1"
    port: Annotated[Port, help_text("HTTP port; 0 takes a free one.")] = 8000
    grpc_port: Annotated[Port | None, help_text("gRPC port (8081 by custom); off when empty.")] = None
    workers: Annotated[int, Meta(ge=1, le=1024), help_text("Serving processes behind the one port.")] = 1
    drain_seconds: Annotated[float, Meta(ge=0), help_text("On SIGTERM: time to keep accepting while not ready.")] = 0.0
    shutdown_seconds: Annotated[Seconds, help_text("After that: longest time for requests in flight to end.")] = 30.0
    correlation_header: Annotated[str, help_text("Header of the request id.")] = "X-Request-Id"
    max_connections: Annotated[Positive, help_text("Connections in flight per process before 503.")] = 10_000
    watch: Annotated[bool, help_text("Reload when tidegate.yaml or a model's file changes.")] = False


class Limits(Section, frozen=True):
    body_bytes: Annotated[Positive, help_text("Largest body.")] = 16 * 1024 * 1024
    depth: Annotated[Positive, help_text("Deepest nesting of a JSON body.")] = 32
    body_seconds: Annotated[Seconds, help_text("Longest time for a body to arrive.")] = 20.0
    image_pixels: Annotated[Positive, help_text("Most pixels of an image, checked before decoding.")] = 50_000_000


class Logs(Section, frozen=True):
    level: Annotated[Literal["debug", "info", "warning", "error"], help_text("Least level that is written.")] = "info"
    format: Annotated[Literal["json", "text"], help_text("JSON lines for machines, text for people.")] = "json"
    requests: Annotated[
        Literal["all", "errors"], help_text("Which requests get a log line; errors: those that the model failed.")
    ] = "errors"


class Tracing(Section, frozen=True):
    endpoint: Annotated[str, help_text("OTLP endpoint; tracing is off when empty.")] = ""
    protocol: Annotated[Literal["grpc", "http/protobuf"], help_text("OTLP transport.")] = "http/protobuf"
    sample_rate: Annotated[float, Meta(ge=0, le=1), help_text("Share of requests traced when no parent decides.")] = 1.0
    service_name: Annotated[str, help_text("Resource attribute service.name.")] = "tidegate"


class Access(Section, frozen=True):
    predict_key: Annotated[str, help_text("Key that callers must send to predict; open when empty. A secret.")] = ""
    operate_key: Annotated[
        str, help_text("Key for load, unload and other changes; they are off when empty. A secret.")
    ] = ""
    keys_required: Annotated[
        bool,
        help_text(
            "Whether predicting needs a key, predict_key or one made with tidegate keys; with predict_key it always does."
        ),
    ] = False
    metrics_open: Annotated[bool, help_text("Whether /metrics answers without a key.")] = True


class Trust(Section, frozen=True):
    pickles: Annotated[
        tuple[str, ...],
        help_text("Folders or files whose pickles and Python code may be loaded; a path covers what is below it."),
    ] = ()
    schemes: Annotated[tuple[str, ...], help_text("URI schemes that models may come from.")] = (
        "file",
        "models",
        "runs",
    )
    skops_types: Annotated[
        tuple[str, ...], help_text("Types that a skops file may contain beyond the known ones.")
    ] = ()


class Retention(Section, frozen=True):
    windows: Annotated[Duration, help_text("Counts a second; those of a kept release stay as long as it does.")] = "14d"
    events: Annotated[Duration, help_text("Sampled predictions.")] = "14d"
    exposures: Annotated[Duration, help_text("Exposures of experiments that have ended.")] = "365d"
    feedback: Annotated[Duration, help_text("Labels and outcomes.")] = "365d"
    releases: Annotated[Duration, help_text("Releases that have ended, with their evidence.")] = "365d"
    monitoring: Annotated[Duration, help_text("Profiles and quality of windows, drift reports, what alerts did.")] = (
        "180d"
    )
    jobs: Annotated[Duration, help_text("Jobs that have ended.")] = "90d"


class Store(Section, frozen=True):
    url: Annotated[
        str,
        help_text(
            "sqlite:///file or postgresql://…; without one, serve follows the configuration alone, and up keeps a file."
        ),
    ] = ""
    event_sample: Annotated[float, Meta(ge=0, le=1), help_text("Share of predictions that are kept as events.")] = 0.01
    buffer_mb: Annotated[
        Seconds,
        help_text("Most memory, and most disk for exposures, per process for what the store has not taken yet."),
    ] = 32.0
    beat_seconds: Annotated[Seconds, help_text("Time between signs of life.")] = 1.0
    dead_seconds: Annotated[Seconds, help_text("An instance silent for so long is not waited for any more.")] = 10.0
    folder: Annotated[str, help_text("Where the last snapshot and the spool are kept; run/ when empty.")] = ""
    retention: Annotated[Retention, help_text("How long what is kept.")] = Retention()


class Control(Section, frozen=True):
    host: Annotated[str, help_text("Address of the control API and the console.")] = "127.0.0.1"
    port: Annotated[Port, help_text("Port of the control API and the console.")] = 8001
    url: Annotated[str, help_text("Where clients reach it; http://localhost:port when empty.")] = ""
    tick_seconds: Annotated[Seconds, help_text("How often releases are looked at.")] = 0.5
    lease_seconds: Annotated[Seconds, help_text("After so long without a renewal another control plane may act.")] = (
        10.0
    )
    session_minutes: Annotated[Seconds, help_text("How long a sign-in to the console lasts.")] = 60.0
    requests_per_minute: Annotated[Positive, help_text("Most calls of one key or address; a key may have less.")] = 600
    origins: Annotated[tuple[str, ...], help_text("Origins that browsers may call the API from.")] = ()


class Registry(Section, frozen=True):
    kind: Annotated[Literal["files", "mlflow"], help_text("Where model versions are kept.")] = "files"
    uri: Annotated[str, help_text("Folder of the files registry, or MLflow's tracking address.")] = ""
    on_alias_moved: Annotated[
        Literal["ignore", "release", "revert"],
        help_text("When the champion alias is moved outside: leave it, start a release, or move it back."),
    ] = "release"
    on_challenger: Annotated[
        Literal["ignore", "release"],
        help_text("When the challenger alias points to a version that no release has tried: leave it, or start one."),
    ] = "ignore"
    poll_seconds: Annotated[Seconds, help_text("How often aliases are looked at.")] = 5.0
    webhook_secret: Annotated[str, help_text("Secret that signs webhooks; they are refused when empty. A secret.")] = ""


class Mail(Section, frozen=True):
    host: Annotated[str, help_text("SMTP server; no mail when empty.")] = ""
    port: Annotated[Port, help_text("Its port.")] = 25
    security: Annotated[Literal["none", "starttls", "tls"], help_text("How the connection is protected.")] = "none"
    user: Annotated[str, help_text("Name to sign in with; nobody signs in when empty.")] = ""
    password: Annotated[str, help_text("Its password. A secret.")] = ""
    sender: Annotated[str, help_text("Address that the mail is from.")] = "tidegate@localhost"
    to: Annotated[tuple[str, ...], help_text("Addresses that get it.")] = ()


class Alerts(Section, frozen=True):
    webhook: Annotated[str, help_text("Address that gets each notification as JSON by POST. A secret.")] = ""
    webhook_secret: Annotated[str, help_text("Signs what is sent there, HMAC-SHA256. A secret.")] = ""
    slack: Annotated[str, help_text("Address of a Slack-compatible incoming webhook. A secret.")] = ""
    mail: Annotated[Mail, help_text("E-mail.")] = Mail()
    timeout_seconds: Annotated[
        Seconds, help_text("For one notification, or a step of a mail; it is sent again, later and later.")
    ] = 10.0


class ScheduledJob(Section, frozen=True):
    every: Annotated[Duration, help_text("Time between two; one that was missed runs once.")]
    kind: Annotated[Literal["report", "train", "dvc-pull", "dvc-push"], help_text("What is done.")]
    endpoint: Annotated[str, help_text("Endpoint that it is about.")] = ""
    payload: Annotated[
        Mapping[str, Any],
        help_text(
            "What it works on. report: kind (drift, quality, summary), seconds (how far back); train: config; dvc-pull and "
            "dvc-push: folder, targets, remote, commit."
        ),
    ] = {}


class Jobs(Section, frozen=True):
    workers: Annotated[
        int,
        Meta(ge=0, le=64),
        help_text("Jobs that a worker runs side by side, each in a process of its own; 0: tidegate up runs none."),
    ] = 1
    poll_seconds: Annotated[Seconds, help_text("How often a worker without a job looks for one.")] = 0.5
    lease_seconds: Annotated[
        Seconds, help_text("After so long without a sign of life another worker takes the job.")
    ] = 30.0
    attempts: Annotated[Positive, help_text("How often a job is tried.")] = 3
    backoff_seconds: Annotated[Seconds, help_text("Before the second try; it doubles, with jitter.")] = 5.0
    timeout: Annotated[Duration, help_text("Longest time of one try.")] = "24h"
    max_open: Annotated[Positive, help_text("Most jobs that may wait or run; more are refused.")] = 1000
    memory_mb: Annotated[
        int, Meta(ge=0), help_text("Most memory of one job's process, on Linux; 0: what the machine has.")
    ] = 0
    folder: Annotated[str, help_text("Where jobs keep what they make; run/jobs when empty.")] = ""
    max_upload_mb: Annotated[Positive, help_text("Largest input of a batch job that is sent over HTTP.")] = 1024
    sources: Annotated[
        tuple[str, ...],
        help_text("Folders and URL prefixes that jobs sent over HTTP may read and write; the jobs' folder always."),
    ] = ()
    schedules: Annotated[Mapping[str, ScheduledJob], help_text("Jobs that come again and again, by name.")] = {}


class Settings(Section, frozen=True):
    profile: Annotated[Literal["local", "development", "staging", "production"], help_text("Set of defaults.")] = (
        "local"
    )
    endpoints: Annotated[Mapping[str, EndpointSettings], help_text("What is served, by name.")] = {}
    default_endpoint: Annotated[str, help_text("Endpoint of calls that name none; the first when empty.")] = ""
    server: Annotated[Server, help_text("Ports and processes.")] = Server()
    limits: Annotated[Limits, help_text("Bounds on what a client may send.")] = Limits()
    logs: Annotated[Logs, help_text("Log lines.")] = Logs()
    tracing: Annotated[Tracing, help_text("OpenTelemetry.")] = Tracing()
    access: Annotated[Access, help_text("Keys.")] = Access()
    trust: Annotated[Trust, help_text("Which artifacts may be loaded.")] = Trust()
    store: Annotated[Store, help_text("Where both planes meet.")] = Store()
    control: Annotated[Control, help_text("The control plane.")] = Control()
    registry: Annotated[Registry, help_text("Model versions and aliases.")] = Registry()
    alerts: Annotated[Alerts, help_text("Where alerts go, beside the log and the metrics.")] = Alerts()
    jobs: Annotated[Jobs, help_text("Work in the background.")] = Jobs()


SECRETS = (
    "access.predict_key",
    "access.operate_key",
    "store.url",
    "registry.webhook_secret",
    "alerts.webhook",
    "alerts.webhook_secret",
    "alerts.slack",
    "alerts.mail.password",
)
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
    "DATABASE_URL": "store.url",
    "MLFLOW_TRACKING_URI": "registry.uri",
}
"""Environment names that users of the replaced systems already have, and the setting each one means."""

ENDPOINT_ALIASES: Mapping[str, str] = {
    "MODEL_PATH": "`model`; wins over the names of registered models",
    "MODEL_REGISTRY_NAME": "`model`: `models:/NAME@champion`, or the version that `MODEL_STAGE` says",
    "MLFLOW_MODEL_NAME": "as `MODEL_REGISTRY_NAME`, which wins over it",
    "MODEL_STAGE": "which version of it: a stage such as `Production`, a number, or an alias",
    "AB_STICKY_HEADER": "`routing.unit_header`",
    "AB_BUCKET_B_PCT": "`share` of its candidate: the variant `candidate`, or the only one",
    "AB_ENABLED": "when false, the candidate's share is 0",
}
"""Older names that mean the default endpoint, or make one where none is configured; ``config/older.py`` is their rule."""
