"""Work in the background: what waits, runs and has ended."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Response
from msgspec import Meta

from tidegate.control.api import examples, reach
from tidegate.control.api.calls import Answer, Call, Cursor, Limit, Operating, body_of, give, page, unpack
from tidegate.control.api.documents import documented
from tidegate.control.jobs.job import Job, State
from tidegate.errors import InvalidInput, NotAllowed

router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"])

Kind = Annotated[str | None, Query(max_length=64, description="Only jobs of this kind.")]
Endpoint = Annotated[str | None, Query(max_length=256, description="Only jobs about this endpoint.")]


class ActOnJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reason: Annotated[str, Meta(max_length=1000)] = ""


Text = Annotated[str, Meta(max_length=500)]
Target = Annotated[str, Meta(min_length=1, max_length=500)]


class MoveData(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows that DVC tracks. ``folder`` is a repository, the configuration's folder or one below it; ``targets`` are files in
    it, all if empty. ``commit``: message under which a push commits the new versions to Git; none if empty."""

    kind: Literal["dvc-pull", "dvc-push"]
    folder: Annotated[str, Meta(min_length=1, max_length=500)] = "."
    targets: Annotated[tuple[Target, ...], Meta(max_length=100)] = ()
    remote: Text = ""
    commit: Text = ""
    reason: Annotated[str, Meta(max_length=1000)] = ""


@router.post("", status_code=202, summary="Fetch or keep the rows that DVC tracks")
@documented("operate", Job, takes=MoveData, status=202, takes_example=examples.MOVE_DATA)
def move(call: Operating, asked: Annotated[MoveData, Depends(body_of(MoveData))]) -> Response:
    """Other jobs begin elsewhere: batch-jobs, reports, retrainings."""
    if call.caller.facts.endpoints:
        raise NotAllowed("this key is for some endpoints only; data may be of any")
    path = PurePosixPath(asked.folder.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in asked.folder or "\0" in asked.folder:
        raise InvalidInput("folder: the configuration's folder (.), or one below it", ("folder",))
    payload = {
        "folder": asked.folder,
        "targets": asked.targets,
        "remote": asked.remote,
        "commit": asked.commit,
    }

    def act() -> Answer:
        job = call.services.jobs.submit(asked.kind, payload, who=call.who, reason=asked.reason)
        return Answer(job, 202, f"/api/v1/jobs/{job.id}")

    return call.write(act)


@router.get("", summary="Jobs, newest first")
@documented("operate", Job, many=True)
def list_all(
    call: Operating,
    kind: Kind = None,
    state: Annotated[State | None, Query(description="Only jobs in this state.")] = None,
    endpoint: Endpoint = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    return listed(call, kind, state, endpoint, limit, cursor)


@router.get("/{job_id}", summary="One job")
@documented("operate", Job, problems=(404,))
def one(call: Operating, job_id: str) -> Response:
    return give(visible(call, job_id))


@router.post("/{job_id}/cancel", summary="Cancel a job that waits or runs")
@documented("operate", Job, takes=ActOnJob, body_required=False, takes_example=examples.ACT, problems=(404,))
def cancel(
    call: Operating, job_id: str, asked: Annotated[ActOnJob, Depends(body_of(ActOnJob, optional=True))]
) -> Response:
    visible(call, job_id)
    return call.write(lambda: Answer(call.services.jobs.cancel(job_id, who=call.who, reason=asked.reason)))


@router.post("/{job_id}/retry", summary="Try a job again that failed or was cancelled")
@documented("operate", Job, takes=ActOnJob, body_required=False, takes_example=examples.ACT, problems=(404,))
def retry(
    call: Operating, job_id: str, asked: Annotated[ActOnJob, Depends(body_of(ActOnJob, optional=True))]
) -> Response:
    visible(call, job_id)
    return call.write(lambda: Answer(call.services.jobs.retry(job_id, who=call.who, reason=asked.reason)))


def listed(
    call: Call, kind: str | None, state: State | None, endpoint: str | None, limit: int, cursor: str | None
) -> Response:
    """A page of those that the key may see."""

    def read(count: int, after: str | None) -> list[Job]:
        return call.services.jobs.list(kind=kind, state=state, endpoint=endpoint, limit=count, cursor=after)[0]

    after = unpack(cursor, str)
    found = reach.some(call.caller, read, limit + 1, after, lambda job: job.id, lambda job: job.endpoint)
    return page(found, limit, lambda job: job.id)


def visible(call: Call, job_id: str, kind: str = "") -> Job:
    """One of another kind is not there either, where ``kind`` is given."""

    def get(name: str) -> Job | None:
        found = call.services.jobs.get(name)
        return found if kind in ("", found.kind) else None

    return reach.one(call.caller, "job", job_id, get, lambda found: found.endpoint)
