"""Alerts: what is not right, and since when; silences."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query, Response
from msgspec import Meta

from tidegate.control.api import examples, reach
from tidegate.control.api.calls import Answer, Call, Cursor, Limit, Operating, body_of, give, in_pages, page, unpack
from tidegate.control.api.documents import documented
from tidegate.control.api.drift_reports import OfEndpoint
from tidegate.control.monitoring.raising import AlertChange
from tidegate.control.monitoring.records import Alert, AlertState

router = APIRouter(prefix="/api/v1/alerts", tags=["alerts"])


class Silence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nobody is notified for so many seconds; the alert itself goes on."""

    seconds: Annotated[float, Meta(gt=0, le=366 * 86_400)]
    reason: Annotated[str, Meta(max_length=1000)] = ""


class Unsilence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reason: Annotated[str, Meta(max_length=1000)] = ""


class AlertLine(msgspec.Struct, frozen=True):
    """What happened to an alert, with the state that it had then."""

    revision: int
    time: float
    state: str
    change: AlertChange


@router.get("", summary="Alerts, those that changed last first")
@documented("operate", Alert, many=True, example=examples.ALERT)
def list_all(
    call: Operating,
    endpoint: OfEndpoint = None,
    state: Annotated[AlertState | None, Query(description="Only in this state.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    among = call.caller.facts.endpoints
    states = () if state is None else (state,)
    found = call.services.monitoring.alerts(endpoint, states, limit + 1, unpack(cursor, str), among)
    return page(found, limit, lambda one: one.id)


@router.get("/{alert_id}", summary="One alert")
@documented("operate", Alert, example=examples.ALERT, problems=(404,))
def one(call: Operating, alert_id: str) -> Response:
    return give(visible(call, alert_id))


@router.get("/{alert_id}/events", summary="What happened to it, oldest first")
@documented("operate", AlertLine, many=True, example=examples.ALERT_LINE, problems=(404,))
def events(call: Operating, alert_id: str, limit: Limit = 100, cursor: Cursor = None) -> Response:
    visible(call, alert_id)
    return in_pages([AlertLine(*line) for line in call.services.monitoring.alert_changes(alert_id)], limit, cursor)


@router.post("/{alert_id}/silence", summary="Notify nobody of it for a while")
@documented("operate", Alert, takes=Silence, example=examples.ALERT, takes_example=examples.SILENCE, problems=(404,))
def silence(call: Operating, alert_id: str, asked: Annotated[Silence, Depends(body_of(Silence))]) -> Response:
    visible(call, alert_id)
    service = call.services.monitoring
    return call.write(lambda: Answer(service.silence(alert_id, asked.seconds, who=call.who, reason=asked.reason)))


@router.post("/{alert_id}/unsilence", summary="End its silence")
@documented(
    "operate",
    Alert,
    takes=Unsilence,
    body_required=False,
    example=examples.ALERT,
    takes_example=examples.UNSILENCE,
    problems=(404,),
)
def unsilence(
    call: Operating, alert_id: str, asked: Annotated[Unsilence, Depends(body_of(Unsilence, optional=True))]
) -> Response:
    visible(call, alert_id)
    service = call.services.monitoring
    return call.write(lambda: Answer(service.unsilence(alert_id, who=call.who, reason=asked.reason)))


def visible(call: Call, alert_id: str) -> Alert:
    return reach.one(call.caller, "alert", alert_id, call.services.monitoring.alert, lambda found: found.endpoint)
