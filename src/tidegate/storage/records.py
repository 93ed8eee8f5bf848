"""What the store gives and takes beside the records of ``tidegate.observations``: frozen, one per table.

Fields are in the order of the table's columns. A ``body`` is JSON text that only its owner reads. Times are seconds
since the epoch.
"""

from __future__ import annotations

import msgspec

from tidegate.observations import Feedback, PredictionEvent, VariantWindow
from tidegate.types import RoutingSnapshot


class Published(msgspec.Struct, frozen=True):
    """A routing snapshot in force or once in force. ``release`` is the release that it was published for, if any."""

    number: int
    published: float
    reason: str
    author: str
    release: str
    snapshot: RoutingSnapshot


class Acknowledgement(msgspec.Struct, frozen=True):
    """That an instance has a snapshot in force in all its processes, or with ``error`` why it kept the old one."""

    number: int
    instance: str
    time: float
    error: str = ""


class Stored(msgspec.Struct, frozen=True):
    """A window with its place in the store; a reader that goes on after the newest ``id`` it saw misses none."""

    id: int
    window: VariantWindow


class Total(msgspec.Struct, frozen=True):
    endpoint: str
    variant: str
    requests: int
    failures: int


class Labelled(msgspec.Struct, frozen=True):
    """A late label beside the prediction that it is about."""

    feedback: Feedback
    event: PredictionEvent

    @property
    def row(self) -> int | None:
        """Which of the request's rows; None where that is not said and there are several, or where it had none such."""
        row = self.feedback.row
        if row is None:
            return 0 if self.event.rows == 1 else None
        return row if 0 <= row < self.event.rows else None


class ReleaseRow(msgspec.Struct, frozen=True):
    """``body`` is the JSON of a Release; ``open`` is true until it has ended."""

    id: str
    endpoint: str
    state: str
    open: bool
    created: float
    changed: float
    revision: int
    body: str


class ReleaseEventRow(msgspec.Struct, frozen=True):
    """What happened to a release, under the revision that it made."""

    release: str
    revision: int
    time: float
    kind: str
    body: str


class EvidenceRow(msgspec.Struct, frozen=True):
    """What one look at a release saw and concluded; all looks together let every decision be replayed."""

    release: str
    tick: int
    time: float
    body: str


class ExperimentRow(msgspec.Struct, frozen=True):
    name: str
    endpoint: str
    state: str
    created: float
    revision: int
    body: str


class ReportRow(msgspec.Struct, frozen=True):
    experiment: str
    time: float
    body: str


class KeyRow(msgspec.Struct, frozen=True):
    """An API key: ``digest`` of its secret with ``salt``; roles, endpoints and limits are in ``body``."""

    id: str
    salt: str
    digest: str
    created: float
    expires: float | None
    revoked: float | None
    used: float | None
    body: str


class SessionRow(msgspec.Struct, frozen=True):
    """A sign-in to the console; ``digest`` is of the cookie, ``key`` the id of the key that was shown."""

    digest: str
    key: str
    created: float
    expires: float
    csrf: str


class AuditRow(msgspec.Struct, frozen=True):
    """One change. ``hash`` covers ``previous``, the hash of the row before, and all other fields."""

    sequence: int
    time: float
    who: str
    action: str
    target: str
    body: str
    previous: str
    hash: str


class IdempotencyRow(msgspec.Struct, frozen=True):
    """The answer that a repeated call gets again. ``request`` is a digest of what was asked."""

    key: str
    who: str
    request: str
    status: int
    body: str
    created: float


class Lease(msgspec.Struct, frozen=True):
    """The right to act. ``token`` grows with each new holder, so that an earlier one can be refused."""

    name: str
    holder: str
    token: int
    expires: float


class BaselineRow(msgspec.Struct, frozen=True):
    """What production is compared with; ``body`` is the JSON of a profile, ``digest`` that of the body."""

    name: str
    endpoint: str
    model: str
    version: str
    digest: str
    created: float
    body: str


class MonitorRow(msgspec.Struct, frozen=True):
    """How far a monitor has come: ``cursor`` is the id of the newest event that was folded."""

    endpoint: str
    cursor: int
    changed: float
    body: str


class ProfileRow(msgspec.Struct, frozen=True):
    """The profile of a window of production; ``baseline`` is the digest of the one whose bins it has."""

    endpoint: str
    variant: str
    version: str
    baseline: str
    start: float
    seconds: float
    rows: int
    body: str


class PerformanceRow(msgspec.Struct, frozen=True):
    """Quality in a window, from labels. ``basis`` says whose time counts: prediction, arrival, or estimated."""

    endpoint: str
    variant: str
    version: str
    basis: str
    start: float
    seconds: float
    labels: int
    body: str


class DriftReportRow(msgspec.Struct, frozen=True):
    """What one check of a window found."""

    id: str
    endpoint: str
    variant: str
    version: str
    start: float
    seconds: float
    created: float
    drifted: bool
    body: str


class AlertRow(msgspec.Struct, frozen=True):
    """``rule`` names what is watched; one alert an endpoint and rule, which comes and goes."""

    id: str
    endpoint: str
    rule: str
    state: str
    created: float
    changed: float
    revision: int
    body: str


class AlertEventRow(msgspec.Struct, frozen=True):
    alert: str
    revision: int
    time: float
    state: str
    body: str


class DocumentRow(msgspec.Struct, frozen=True):
    """A report to read: ``summary`` is JSON, ``body`` the document, zlib-compressed."""

    id: str
    endpoint: str
    kind: str
    created: float
    media: str
    summary: str
    body: bytes


class JobRow(msgspec.Struct, frozen=True):
    """``token`` grows with each worker that takes the job, so that one that slept can be refused; the worker that has it
    renews ``expires``. ``key``: no two open jobs share one that is not empty."""

    id: str
    kind: str
    key: str
    endpoint: str
    state: str
    open: bool
    run_at: float
    created: float
    changed: float
    revision: int
    holder: str
    token: int
    expires: float
    body: str


class ScheduleRow(msgspec.Struct, frozen=True):
    name: str
    next: float
    changed: float
    body: str


class RetrainingRow(msgspec.Struct, frozen=True):
    """``body`` is the JSON of the chain from the trigger to the promotion."""

    id: str
    endpoint: str
    state: str
    open: bool
    created: float
    changed: float
    revision: int
    body: str
