"""Batch predictions: a file of rows in, a file of answers out."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse
from msgspec import Meta

from tidegate.control.api import examples
from tidegate.control.api.calls import Answer, Call, Cursor, Limit, Operating, body_of, give, needs, respond
from tidegate.control.api.documents import documented
from tidegate.control.api.jobs import ActOnJob, Endpoint, listed, visible
from tidegate.control.api.sources import served_from
from tidegate.control.jobs.batch import BatchPlan, Name
from tidegate.control.jobs.batches import KIND, Upload
from tidegate.control.jobs.job import Job, State
from tidegate.control.jobs.pieces import Format
from tidegate.errors import InvalidInput, NotFound, UnsupportedMedia

router = APIRouter(prefix="/api/v1", tags=["batch-jobs"])

PATH = "/api/v1/batch-jobs"
UPLOADS = "/api/v1/batch-inputs"
MEDIA: dict[Format, str] = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}


class SubmitBatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``source`` is what an upload gave, or a path or address below one of jobs.sources."""

    endpoint: Name
    source: Annotated[str, Meta(min_length=1, max_length=2000)]
    format: Format
    output: Format | None = None
    """As the input's when it is not said."""
    model: Annotated[str, Meta(max_length=2000)] = ""
    """Instead of the version that the endpoint serves."""
    keep: Annotated[tuple[Name, ...], Meta(max_length=100)] = ()
    """Columns of the input that go into the results."""
    reason: Annotated[str, Meta(max_length=1000)] = ""


@router.post("/batch-inputs", status_code=201, summary="Upload the input of a batch job")
@documented("operate", Upload, status=201, example=examples.UPLOAD, problems=(409, 413))
async def upload(request: Request, call: Annotated[Call, Depends(needs("operate"))]) -> Response:
    """The body is the file itself, as application/octet-stream. It is kept for a day, or until its job is done."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/octet-stream":
        raise UnsupportedMedia("send the file itself as application/octet-stream")
    return respond(Answer(await call.services.batches.upload(request.stream()), 201))


@router.post("/batch-jobs", status_code=202, summary="Predict every row of a file")
@documented("operate", Job, takes=SubmitBatch, status=202, takes_example=examples.BATCH, problems=(404,))
def submit(call: Operating, asked: Annotated[SubmitBatch, Depends(body_of(SubmitBatch))]) -> Response:
    call.caller.must_reach(asked.endpoint)
    if len(set(asked.keep)) < len(asked.keep):
        raise InvalidInput("keep: a column is named twice", ("keep",))
    services = call.services
    with services.store.read() as unit:
        published = unit.snapshots.latest()
    known = set(services.settings.endpoints) | set(published.snapshot.endpoints if published else ())
    if asked.endpoint not in known:
        raise NotFound(f"there is no endpoint {asked.endpoint[:80]!r}")
    plan = BatchPlan(
        endpoint=asked.endpoint,
        model=served_from(asked.model, services.settings.trust, services.batches.home) if asked.model else "",
        source=asked.source,
        format=asked.format,
        output=asked.output or asked.format,
        keep=asked.keep,
    )

    def act() -> Answer:
        job = services.batches.submit(plan, who=call.who, reason=asked.reason)
        return Answer(job, 202, f"{PATH}/{job.id}")

    return call.write(act)


@router.get("/batch-jobs", summary="Batch jobs, newest first")
@documented("operate", Job, many=True)
def list_all(
    call: Operating, state: State | None = None, endpoint: Endpoint = None, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    return listed(call, KIND, state, endpoint, limit, cursor)


@router.get("/batch-jobs/{job_id}", summary="One batch job")
@documented("operate", Job, problems=(404,))
def one(call: Operating, job_id: str) -> Response:
    return give(visible(call, job_id, KIND))


@router.get("/batch-jobs/{job_id}/results", summary="The answers, in the order of the rows")
@documented("operate", media="application/octet-stream", problems=(404, 409))
def results(call: Operating, job_id: str) -> Response:
    """Of the media type of the output: CSV, JSON lines or Parquet."""
    job = visible(call, job_id, KIND)
    path = call.services.batches.file(job)
    output = msgspec.convert(job.payload, BatchPlan).output
    return FileResponse(path, media_type=MEDIA[output], filename=f"{job.id}.{output}")


@router.get("/batch-jobs/{job_id}/errors", summary="The rows without an answer, and why")
@documented("operate", media="application/x-ndjson", problems=(404, 409))
def errors(call: Operating, job_id: str) -> Response:
    """A JSON object a line: row (from 1) and reason."""
    job = visible(call, job_id, KIND)
    return FileResponse(call.services.batches.file(job, errors=True), media_type=MEDIA["jsonl"])


@router.post("/batch-jobs/{job_id}/cancel", summary="Cancel a batch job")
@documented("operate", Job, takes=ActOnJob, body_required=False, takes_example=examples.ACT, problems=(404,))
def cancel(
    call: Operating, job_id: str, asked: Annotated[ActOnJob, Depends(body_of(ActOnJob, optional=True))]
) -> Response:
    visible(call, job_id, KIND)
    return call.write(lambda: Answer(call.services.jobs.cancel(job_id, who=call.who, reason=asked.reason)))
