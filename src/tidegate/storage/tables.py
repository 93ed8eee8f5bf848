"""Every table of the store. A change here needs a migration (``storage/migrations``); a test compares both.

Times are seconds since the epoch (float); JSON bodies are text made by msgspec, so that both databases keep the same
bytes and nothing is rounded.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Number = BigInteger().with_variant(Integer, "sqlite")
"""Grows by itself as a primary key on both databases."""

snapshots = Table(
    "snapshots",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=False),
    Column("published", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("release", Text, nullable=False, server_default=""),
    Column("body", Text, nullable=False),
)

instances = Table(
    "instances",
    metadata,
    Column("instance", Text, primary_key=True),
    Column("time", Float, nullable=False),
    Column("snapshot", Number, nullable=False),
    Column("body", Text, nullable=False),
)

acknowledgements = Table(
    "acknowledgements",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=False),
    Column("instance", Text, primary_key=True),
    Column("time", Float, nullable=False),
    Column("error", Text, nullable=False, server_default=""),
)

windows = Table(
    "windows",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("process", Text, nullable=False),
    Column("sequence", Number, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("variant", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("snapshot", Number, nullable=False),
    Column("start", Float, nullable=False),
    Column("requests", Number, nullable=False),
    Column("failures", Number, nullable=False),
    Column("body", Text, nullable=False),
    Index("uq_windows_key", "process", "sequence", "endpoint", "variant", unique=True),
    Index("ix_windows_endpoint_start", "endpoint", "start"),
    Index("ix_windows_endpoint_id", "endpoint", "id"),
    Index("ix_windows_start", "start"),
    sqlite_autoincrement=True,
)

events = Table(
    "events",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("time", Float, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("variant", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("snapshot", Number, nullable=False),
    Column("process", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("forced", Boolean, nullable=False),
    Column("cached", Boolean, nullable=False),
    Column("inputs", LargeBinary, nullable=False),
    Column("outputs", LargeBinary, nullable=False),
    Index("ix_events_endpoint_time", "endpoint", "time"),
    Index("ix_events_endpoint_id", "endpoint", "id"),
    Index("ix_events_request_id", "request_id"),
    Index("ix_events_time", "time"),
    sqlite_autoincrement=True,
)

exposures = Table(
    "exposures",
    metadata,
    Column("experiment", Text, primary_key=True),
    Column("unit", Text, primary_key=True),
    Column("endpoint", Text, nullable=False),
    Column("variant", Text, nullable=False),
    Column("time", Float, nullable=False),
    Column("request_id", Text, nullable=False),
    Index("ix_exposures_experiment_time", "experiment", "time"),
    Index("ix_exposures_experiment_variant", "experiment", "variant"),
    Index("ix_exposures_request_id", "request_id"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("key", Text, nullable=False),
    Column("metric", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("value", Float),
    Column("label", Text),
    Column("time", Float, nullable=False),
    Column("received", Float, nullable=False),
    Column("row", Number),
    Index("uq_feedback_key_metric", "key", "metric", unique=True),
    Index("ix_feedback_request_id", "request_id"),
    Index("ix_feedback_unit_metric", "unit", "metric"),
    Index("ix_feedback_received", "received"),
    sqlite_autoincrement=True,
)

releases = Table(
    "releases",
    metadata,
    Column("id", Text, primary_key=True),
    Column("endpoint", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("open", Boolean, nullable=False),
    Column("created", Float, nullable=False),
    Column("changed", Float, nullable=False),
    Column("revision", Number, nullable=False),
    Column("body", Text, nullable=False),
    Index("ix_releases_endpoint_created", "endpoint", "created"),
    Index("ix_releases_open", "open"),
)
Index(
    "uq_releases_open_endpoint",
    releases.c.endpoint,
    unique=True,
    sqlite_where=text("open"),
    postgresql_where=text("open"),
)
"""An endpoint has one open release at most, whoever starts them."""

release_events = Table(
    "release_events",
    metadata,
    Column("release", Text, primary_key=True),
    Column("revision", Number, primary_key=True, autoincrement=False),
    Column("time", Float, nullable=False),
    Column("kind", Text, nullable=False),
    Column("body", Text, nullable=False),
)

release_evidence = Table(
    "release_evidence",
    metadata,
    Column("release", Text, primary_key=True),
    Column("tick", Number, primary_key=True, autoincrement=False),
    Column("time", Float, nullable=False),
    Column("body", Text, nullable=False),
)

experiments = Table(
    "experiments",
    metadata,
    Column("name", Text, primary_key=True),
    Column("endpoint", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("revision", Number, nullable=False),
    Column("body", Text, nullable=False),
)

experiment_reports = Table(
    "experiment_reports",
    metadata,
    Column("experiment", Text, primary_key=True),
    Column("time", Float, primary_key=True),
    Column("body", Text, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("salt", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float),
    Column("revoked", Float),
    Column("used", Float),
    Column("body", Text, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("key", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=False),
    Column("csrf", Text, nullable=False),
)

audit_events = Table(
    "audit_events",
    metadata,
    Column("sequence", Number, primary_key=True, autoincrement=False),
    Column("time", Float, nullable=False),
    Column("who", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("previous", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Index("ix_audit_events_target", "target"),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("key", Text, primary_key=True),
    Column("who", Text, primary_key=True),
    Column("request", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("created", Float, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Text, primary_key=True),
    Column("received", Float, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("token", Number, nullable=False),
    Column("expires", Float, nullable=False),
)

baselines = Table(
    "baselines",
    metadata,
    Column("name", Text, primary_key=True),
    Column("endpoint", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("body", Text, nullable=False),
    Index("ix_baselines_endpoint_created", "endpoint", "created"),
)

monitors = Table(
    "monitors",
    metadata,
    Column("endpoint", Text, primary_key=True),
    Column("cursor", Number, nullable=False),
    Column("changed", Float, nullable=False),
    Column("body", Text, nullable=False),
)

profiles = Table(
    "profiles",
    metadata,
    Column("endpoint", Text, primary_key=True),
    Column("variant", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("baseline", Text, primary_key=True),
    Column("start", Float, primary_key=True),
    Column("seconds", Float, nullable=False),
    Column("rows", Number, nullable=False),
    Column("body", Text, nullable=False),
    Index("ix_profiles_start", "start"),
)

performance = Table(
    "performance",
    metadata,
    Column("endpoint", Text, primary_key=True),
    Column("variant", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("basis", Text, primary_key=True),
    Column("start", Float, primary_key=True),
    Column("seconds", Float, nullable=False),
    Column("labels", Number, nullable=False),
    Column("body", Text, nullable=False),
    Index("ix_performance_start", "start"),
)

drift_reports = Table(
    "drift_reports",
    metadata,
    Column("id", Text, primary_key=True),
    Column("endpoint", Text, nullable=False),
    Column("variant", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("start", Float, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("created", Float, nullable=False),
    Column("drifted", Boolean, nullable=False),
    Column("body", Text, nullable=False),
    Index("ix_drift_reports_endpoint_created", "endpoint", "created"),
    Index("ix_drift_reports_created", "created"),
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("endpoint", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("changed", Float, nullable=False),
    Column("revision", Number, nullable=False),
    Column("body", Text, nullable=False),
    Index("ix_alerts_changed", "changed"),
    Index("ix_alerts_endpoint_changed", "endpoint", "changed"),
)

alert_events = Table(
    "alert_events",
    metadata,
    Column("alert", Text, primary_key=True),
    Column("revision", Number, primary_key=True, autoincrement=False),
    Column("time", Float, nullable=False),
    Column("state", Text, nullable=False),
    Column("body", Text, nullable=False),
    Index("ix_alert_events_time", "time"),
)

reports = Table(
    "reports",
    metadata,
    Column("id", Text, primary_key=True),
    Column("endpoint", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("media", Text, nullable=False),
    Column("summary", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("ix_reports_created", "created"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("open", Boolean, nullable=False),
    Column("run_at", Float, nullable=False),
    Column("created", Float, nullable=False),
    Column("changed", Float, nullable=False),
    Column("revision", Number, nullable=False),
    Column("holder", Text, nullable=False),
    Column("token", Number, nullable=False),
    Column("expires", Float, nullable=False),
    Column("body", Text, nullable=False),
    Index("ix_jobs_created", "created"),
    Index("ix_jobs_open_run_at", "open", "run_at"),
)
Index(
    "uq_jobs_open_key",
    jobs.c.key,
    unique=True,
    sqlite_where=text("open AND key != ''"),
    postgresql_where=text("open AND key != ''"),
)
"""The same work is queued once, until it has ended."""

schedules = Table(
    "schedules",
    metadata,
    Column("name", Text, primary_key=True),
    Column("next", Float, nullable=False),
    Column("changed", Float, nullable=False),
    Column("body", Text, nullable=False),
)

retrainings = Table(
    "retrainings",
    metadata,
    Column("id", Text, primary_key=True),
    Column("endpoint", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("open", Boolean, nullable=False),
    Column("created", Float, nullable=False),
    Column("changed", Float, nullable=False),
    Column("revision", Number, nullable=False),
    Column("body", Text, nullable=False),
    Index("ix_retrainings_endpoint_created", "endpoint", "created"),
)
Index(
    "uq_retrainings_open_endpoint",
    retrainings.c.endpoint,
    unique=True,
    sqlite_where=text("open"),
    postgresql_where=text("open"),
)
"""An endpoint has one open retraining at most."""
