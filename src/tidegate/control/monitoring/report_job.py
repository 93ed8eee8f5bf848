"""The job of kind ``report``: an endpoint's stored predictions, what they are compared with, and the document kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from tidegate.control.monitoring import rows
from tidegate.control.monitoring.evidently_page import check_installed
from tidegate.control.monitoring.folding import Reference
from tidegate.control.monitoring.frames import numbers_among
from tidegate.control.monitoring.records import Alert
from tidegate.control.monitoring.references import References, model_of
from tidegate.control.monitoring.reports import (
    MEDIA,
    MOST_SHOWN_ALERTS,
    Made,
    ReportKind,
    Summary,
    compose,
    of_profile,
    packed,
)
from tidegate.errors import UserError
from tidegate.monitor_plan import MonitorPlan
from tidegate.observations import PredictionEvent
from tidegate.settings import Settings
from tidegate.storage.records import DocumentRow
from tidegate.types import ModelRef

if TYPE_CHECKING:
    from tidegate.control.jobs.task import Task
    from tidegate.storage.store import Store

MOST_EVENTS = 50_000
KEPT = 50
"""Documents of an endpoint; older ones go."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The payload. ``baseline`` empty: what the endpoint's monitor compares with. ``seconds``: so long until the job was
    made, instead of start and end."""

    kind: ReportKind
    endpoint: str
    start: float = 0.0
    end: float = 0.0
    seconds: Annotated[float, Meta(ge=0)] = 0.0
    variant: Annotated[str, Meta(max_length=100)] = "baseline"
    baseline: Annotated[str, Meta(max_length=200)] = ""


def document_id(job: str) -> str:
    """The same for all tries of a job."""
    return f"doc-{job.removeprefix('j-')}"


def work(task: Task) -> Mapping[str, Any]:
    check_installed()
    try:
        wanted = msgspec.convert(task.payload, Wanted)
    except msgspec.ValidationError as error:
        raise UserError(f"the payload of a report: {error}") from error
    if wanted.seconds:
        end = task.job.created
        wanted = msgspec.structs.replace(wanted, start=end - wanted.seconds, end=end)
    task.progress(0, 4, "reading predictions")
    made = _report(task, wanted)
    summary = msgspec.structs.replace(made.summary, id=document_id(task.job.id))
    keep(task.store, msgspec.structs.replace(made, summary=summary))
    columns = [one for one in summary.columns if one.evidently is not None and one.evidently.drifted]
    return {
        "report": summary.id,
        "place": f"/api/v1/reports/{summary.id}",
        "rows": summary.rows,
        "drifted": summary.drifted,
        "drifted_by_evidently": [one.column for one in columns],
        "broken": len(summary.findings),
        "told_apart": None if summary.domain is None else summary.domain.auc.value,
    }


def keep(store: Store, made: Made) -> None:
    """Writes it down, once; the oldest of its endpoint go."""
    about = made.summary
    body = packed(made)
    with store.begin() as unit:
        if unit.documents.get(about.id) is not None:
            return
        text = msgspec.json.encode(about).decode()
        unit.documents.add(DocumentRow(about.id, about.endpoint, about.kind, about.created, MEDIA, text, body))
        unit.documents.keep_newest(about.endpoint, KEPT)


def _report(task: Task, wanted: Wanted) -> Made:
    events, notes = _events(task.store, wanted)
    version = Counter(event.version for event in events).most_common(1)[0][0]
    of_version = [event for event in events if event.version == version]
    if len(of_version) < len(events):
        others = len({event.version for event in events}) - 1
        notes.append(f"{len(events) - len(of_version):,} predictions of {others} other versions are left out")
    about = Summary(
        kind=wanted.kind,
        title=f"{wanted.endpoint}: {wanted.kind}",
        endpoint=wanted.endpoint,
        variant=wanted.variant,
        version=version,
        start=wanted.start,
        end=wanted.end,
        created=task.clock.wall(),
        rows=sum(event.rows for event in of_version),
        alerts=_alerts(task.store, wanted.endpoint) if wanted.kind == "summary" else (),
    )
    plan = _plan(task.settings, wanted.endpoint)
    found = _reference(task, wanted, version, plan)
    if isinstance(found, str):
        if wanted.kind != "quality":
            raise UserError(f"a {wanted.kind} report needs a reference: {found}")
        notes.append(f"without a reference: {found}")
        table = numbers_among(rows.table_of(of_version))
        about = msgspec.structs.replace(about, notes=tuple(notes))
        return compose(about, None, table, None, plan, MOST_EVENTS, 0, task.progress)
    about = msgspec.structs.replace(about, baseline=found.name, notes=tuple(notes))
    return of_profile(
        about, found.profile, rows.table_of(of_version, found.profile.names), plan=plan, tell=task.progress
    )


def _events(store: Store, wanted: Wanted) -> tuple[list[PredictionEvent], list[str]]:
    """Of the variant, without forced ones."""
    with store.read() as unit:
        found = unit.events.between(wanted.endpoint, wanted.start, wanted.end, MOST_EVENTS)
    notes = [f"the newest {MOST_EVENTS:,} predictions of that time"] if len(found) == MOST_EVENTS else []
    events = [event for event in found if event.variant == wanted.variant and not event.forced]
    if not events:
        others = sorted({event.variant for event in found if not event.forced})
        raise UserError(
            f"no predictions of {wanted.endpoint} by {wanted.variant} were kept in that time"
            + (f"; there are some by {', '.join(others)}" if others else "; store.event_sample says how many are kept")
        )
    return events, notes


def _reference(task: Task, wanted: Wanted, version: str, plan: MonitorPlan) -> Reference | str:
    references = References(task.store, task.registry, task.clock, task.base)
    if wanted.baseline:
        return references.named(wanted.baseline) or f"there is no baseline {wanted.baseline}"
    return references.find(wanted.endpoint, plan.reference, _model(task, wanted, version))


def _model(task: Task, wanted: Wanted, version: str) -> ModelRef | None:
    with task.store.read() as unit:
        published = unit.snapshots.history(KEPT)
    for one in published:
        endpoint = one.snapshot.endpoints.get(wanted.endpoint)
        if endpoint is None:
            continue
        for variant in endpoint.variants:
            if variant.name == wanted.variant and variant.model.version == version:
                return variant.model
    configured = task.settings.endpoints.get(wanted.endpoint)
    return None if configured is None else model_of(configured, wanted.variant, version)


def _plan(settings: Settings, endpoint: str) -> MonitorPlan:
    configured = settings.endpoints.get(endpoint)
    return (configured.monitor if configured is not None else None) or MonitorPlan()


def _alerts(store: Store, endpoint: str) -> tuple[Alert, ...]:
    with store.read() as unit:
        found = unit.alerts.list(endpoint, ("pending", "firing", "resolved"), MOST_SHOWN_ALERTS)
    return tuple(msgspec.json.decode(row.body, type=Alert) for row in found)
