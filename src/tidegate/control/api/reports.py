"""Reports to read: ask for one, list them, look at one, open its page."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Response
from msgspec import Meta

from tidegate.control.api import baselines, examples, reach
from tidegate.control.api.calls import Answer, Call, Cursor, Limit, Operating, body_of, give, page, unpack
from tidegate.control.api.documents import documented
from tidegate.control.jobs.job import Job
from tidegate.control.monitoring.report_page import SERVED
from tidegate.control.monitoring.reports import MEDIA, ReportKind, Summary, unpacked
from tidegate.errors import InvalidInput, NotFound
from tidegate.section import Duration, seconds_of
from tidegate.storage.records import DocumentRow

router = APIRouter(prefix="/api/v1/reports", tags=["reports"])

LONGEST_SECONDS = 366 * 86_400.0


class MakeReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``since``: how far back; or ``start`` and ``end`` in seconds since the epoch. ``baseline``: the name of one, else what
    the endpoint's monitor compares with."""

    kind: ReportKind
    endpoint: Annotated[str, Meta(min_length=1, max_length=200)]
    variant: Annotated[str, Meta(min_length=1, max_length=100)] = "baseline"
    baseline: Annotated[str, Meta(max_length=200)] = ""
    since: Duration = "24h"
    start: Annotated[float, Meta(ge=0, le=1e12)] | None = None
    end: Annotated[float, Meta(ge=0, le=1e12)] | None = None
    reason: Annotated[str, Meta(max_length=1000)] = ""


@router.post("", status_code=202, summary="Make a report, as a job")
@documented(
    "operate", Job, takes=MakeReport, status=202, takes_example=examples.MAKE_REPORT, example=examples.REPORT_JOB,
    problems=(404,),
)  # fmt: skip
def make(call: Operating, asked: Annotated[MakeReport, Depends(body_of(MakeReport))]) -> Response:
    call.caller.must_reach(asked.endpoint)
    if asked.endpoint not in call.services.settings.endpoints:
        raise NotFound(f"there is no endpoint {asked.endpoint[:80]!r}")
    if asked.baseline and call.caller.facts.endpoints:  # the page shows what the reference is made of
        baselines.visible(call, asked.baseline)
    end = call.services.clock.wall() if asked.end is None else asked.end
    start = end - seconds_of(asked.since) if asked.start is None else asked.start
    if not 0 < end - start <= LONGEST_SECONDS:
        raise InvalidInput("start and end: from more than 0 seconds to 366 days apart", ("start",))
    payload = {
        "kind": asked.kind,
        "endpoint": asked.endpoint,
        "variant": asked.variant,
        "baseline": asked.baseline,
        "start": start,
        "end": end,
    }

    def act() -> Answer:
        job = call.services.jobs.submit(
            "report", payload, who=call.who, endpoint=asked.endpoint, reason=asked.reason, timeout=3600.0
        )
        return Answer(job, 202, f"/api/v1/jobs/{job.id}")

    return call.write(act)


@router.get("", summary="Reports, newest first")
@documented("operate", Summary, many=True, example=examples.REPORT)
def list_all(
    call: Operating,
    endpoint: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    after = unpack(cursor, str)
    with call.services.store.read() as unit:
        read = partial(unit.documents.list, endpoint)
        found = reach.some(call.caller, read, limit + 1, after, lambda row: row.id, lambda row: row.endpoint)
    return page(found, limit, lambda row: row.id, lambda row: msgspec.Raw(row.summary.encode()))


@router.get("/{id}", summary="What a report says, in short")
@documented("operate", Summary, example=examples.REPORT, problems=(404,))
def one(call: Operating, id: str) -> Response:  # noqa: A002
    return give(msgspec.Raw(visible(call, id).summary.encode()))


@router.get("/{id}/document", summary="Its page, which stands alone and can call nothing")
@documented("operate", media="text/html", problems=(404,))
def document(call: Operating, id: str) -> Response:  # noqa: A002
    html = unpacked(visible(call, id).body).html
    # A browser does not open a page in a sandbox that asks for a group of its own.
    headers = {"Content-Security-Policy": SERVED, "Cross-Origin-Opener-Policy": "unsafe-none"}
    return Response(html.encode(), 200, headers, media_type=MEDIA)


@router.get("/{id}/data", summary="All its figures, ours and Evidently's")
@documented("operate", dict[str, Any], problems=(404,))
def data(call: Operating, id: str) -> Response:  # noqa: A002
    row = visible(call, id)
    return give({"report": msgspec.Raw(row.summary.encode()), "evidently": unpacked(row.body).evidently})


def visible(call: Call, id: str) -> DocumentRow:  # noqa: A002
    with call.services.store.read() as unit:
        return reach.one(call.caller, "report", id, unit.documents.get, lambda row: row.endpoint)
