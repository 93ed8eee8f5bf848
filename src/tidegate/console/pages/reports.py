"""Reports to read: the list, and one in a frame that can do nothing but show itself."""

from __future__ import annotations

from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidegate.console import lists
from tidegate.console.site import Site
from tidegate.control.access.caller import Caller
from tidegate.control.monitoring.reports import Summary
from tidegate.errors import NotFound
from tidegate.storage.records import DocumentRow

DOCUMENT = "/api/v1/reports/{}/document"


def routes(site: Site) -> list[Route]:
    services = site.services

    def index(request: Request, visitor: Caller) -> Response:
        endpoint = request.query_params.get("endpoint") or None
        if endpoint is not None:
            visitor.must_reach(endpoint)
        cursor = request.query_params.get("cursor")
        with services.store.read() as unit:
            read = partial(unit.documents.list, endpoint)
            found, following = lists.seen(visitor, read, cursor, lambda row: row.id, lambda row: row.endpoint)
        return site.render(
            request,
            "reports.html",
            visitor,
            section="Reports",
            reports=[(row, summary_of(row)) for row in found],
            following=following,
            endpoint=endpoint,
            watched=next(iter(site.watch.plans(visitor)), ""),
        )

    def show(request: Request, visitor: Caller) -> Response:
        id_ = request.path_params["id"]
        with services.store.read() as unit:
            row = unit.documents.get(id_)
        if row is None:
            raise NotFound(f"there is no report {id_[:80]}; the newest of each endpoint are kept")
        visitor.must_reach(row.endpoint)
        return site.render(
            request,
            "report.html",
            visitor,
            section="Reports",
            report=row,
            summary=summary_of(row),
            document=DOCUMENT.format(row.id),
            framing=True,
        )

    return [Route("/reports", site.page(index)), Route("/reports/{id}", site.page(show))]


def summary_of(row: DocumentRow) -> Summary | None:
    """None for one that this version does not know."""
    try:
        return msgspec.json.decode(row.summary or "{}", type=Summary)
    except msgspec.DecodeError:
        return None
