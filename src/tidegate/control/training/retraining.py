"""A retraining: what caused it, what it was trained on, what came of it. One record, the whole chain; frozen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from tidegate.control.monitoring.records import Metric
from tidegate.control.registry.base import ModelVersion
from tidegate.control.training.gate import Comparison
from tidegate.control.training.result import Rows, Trained
from tidegate.control.training.sources import Origin
from tidegate.storage.records import RetrainingRow

Mode = Literal["features", "combined"]
Trigger = Literal["alert", "schedule", "person"]
State = Literal[
    "queued",  # its job waits for a worker
    "training",  # a worker has it
    "accepted",  # a version is registered, and its release is to begin
    "refused",  # the gate did not let it through
    "failed",  # the job failed
    "releasing",  # the release goes on
    "promoted",  # the new version is the champion
    "rolled_back",  # the release was rolled back
    "ended",  # nothing more is to be done; the last event says why
]
OPEN: tuple[State, ...] = ("queued", "training", "accepted", "releasing")
MOST_EVENTS = 50


class Event(msgspec.Struct, frozen=True):
    time: float
    state: State
    text: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What its training gave; the result of its job."""

    accepted: bool
    name: str
    version: str = ""
    uri: str = ""
    run_id: str = ""
    family: str = ""
    data_digest: str = ""
    config_digest: str = ""
    model_digest: str = ""
    code_version: str = ""
    rows: Rows
    origins: tuple[Origin, ...] = ()
    gate: Comparison
    metrics: Mapping[str, Metric] = {}
    compiled: bool = False
    compile_note: str = ""


class Retraining(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    endpoint: str
    mode: Mode
    trigger: Trigger
    alerts: tuple[str, ...] = ()
    reports: tuple[str, ...] = ()
    """Ids of the drift reports behind the alerts."""
    reason: str = ""
    author: str
    state: State = "queued"
    job: str = ""
    outcome: Outcome | None = None
    release: str = ""
    waiting: str = ""
    """Why nothing happens now; empty when it has ended."""
    created: float
    changed: float
    events: tuple[Event, ...] = ()
    """Oldest first."""
    revision: int = 0

    @property
    def open(self) -> bool:
        return self.state in OPEN


def moved(retraining: Retraining, state: State, now: float, text: str, **more: object) -> Retraining:
    """The next one, with what happened."""
    return msgspec.structs.replace(
        retraining,
        state=state,
        changed=now,
        revision=retraining.revision + 1,
        events=(*retraining.events, Event(now, state, text))[-MOST_EVENTS:],
        waiting=str(more.pop("waiting", "")),
        **more,
    )


def row_of(retraining: Retraining) -> RetrainingRow:
    return RetrainingRow(
        retraining.id,
        retraining.endpoint,
        retraining.state,
        retraining.open,
        retraining.created,
        retraining.changed,
        retraining.revision,
        msgspec.json.encode(retraining).decode(),
    )


def retraining_of(row: RetrainingRow) -> Retraining:
    return msgspec.json.decode(row.body, type=Retraining)


def outcome_of(trained: Trained) -> Outcome:
    return Outcome(
        accepted=trained.accepted,
        name=trained.name,
        version=trained.version,
        uri=trained.uri,
        run_id=trained.run_id,
        family=trained.best.family,
        data_digest=trained.data_digest,
        config_digest=trained.config_digest,
        model_digest=trained.model_digest,
        code_version=trained.environment.code,
        rows=trained.rows,
        origins=trained.origins,
        gate=trained.gate,
        metrics=trained.metrics,
        compiled=trained.compiled,
        compile_note=trained.compile_note,
    )


def outcome_of_version(version: ModelVersion) -> Outcome:
    """The same from what the registry keeps of it, for a training that was killed after it had registered. Raises
    msgspec.MsgspecError for metadata that somebody changed."""
    kept = version.metadata
    decode = msgspec.json.decode
    return Outcome(
        accepted=True,
        name=version.name,
        version=version.version,
        uri=f"models:/{version.name}/{version.version}",
        run_id=version.run_id,
        family=kept.get("family", ""),
        data_digest=kept.get("data_digest", ""),
        config_digest=kept.get("config_digest", ""),
        model_digest=kept.get("model_digest", ""),
        code_version=kept.get("code_version", ""),
        rows=decode(kept["rows"], type=Rows),
        origins=decode(kept.get("origins", "[]"), type=tuple[Origin, ...]),
        gate=decode(kept["gate"], type=Comparison),
        metrics=decode(kept.get("metrics", "{}"), type=dict[str, Metric]),
        compiled=kept.get("compiled") == "true",
        compile_note=kept.get("compile_note", ""),
    )
