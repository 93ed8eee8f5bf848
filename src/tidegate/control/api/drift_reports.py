"""Drift reports: what the checks of a window found."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from tidegate.control.api import examples, reach
from tidegate.control.api.calls import Cursor, Limit, Operating, give, page, unpack
from tidegate.control.api.documents import documented
from tidegate.control.monitoring.records import DriftReport

router = APIRouter(prefix="/api/v1/drift-reports", tags=["drift-reports"])

OfEndpoint = Annotated[str | None, Query(max_length=200, description="Only of this endpoint.")]


@router.get("", summary="Checks of windows, newest first")
@documented("operate", DriftReport, many=True, example=examples.DRIFT_REPORT)
def list_all(call: Operating, endpoint: OfEndpoint = None, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """A window that is not over is checked again; its report keeps its id."""
    service, among = call.services.monitoring, call.caller.facts.endpoints
    return page(service.reports(endpoint, limit + 1, unpack(cursor, str), among), limit, lambda one: one.id)


@router.get("/{report_id}", summary="One report")
@documented("operate", DriftReport, example=examples.DRIFT_REPORT, problems=(404,))
def one(call: Operating, report_id: str) -> Response:
    get = call.services.monitoring.report
    return give(reach.one(call.caller, "drift report", report_id, get, lambda found: found.endpoint))
