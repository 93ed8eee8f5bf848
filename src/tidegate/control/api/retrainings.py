"""Retrainings: ask for one, follow the chain from its trigger to its release, end it."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Response
from msgspec import Meta

from tidegate.control.api import examples, reach
from tidegate.control.api.calls import Answer, Call, Cursor, Limit, Operating, body_of, give, in_pages, page, unpack
from tidegate.control.api.documents import documented
from tidegate.control.training.demand import Outlook
from tidegate.control.training.retraining import Mode, Retraining

router = APIRouter(prefix="/api/v1/retrainings", tags=["retrainings"])

PATH = "/api/v1/retrainings"
ASKED: dict[str, Any] = {"endpoint": "iris", "mode": "combined", "reason": "a new season"}


class StartRetraining(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``mode`` is that of the endpoint's plan when absent."""

    endpoint: Annotated[str, Meta(min_length=1, max_length=200)]
    mode: Mode | None = None
    reason: Annotated[str, Meta(max_length=1000)] = ""


class CancelRetraining(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reason: Annotated[str, Meta(max_length=1000)] = ""


@router.post("", status_code=202, summary="Train the endpoint's model anew")
@documented("operate", Retraining, takes=StartRetraining, status=202, takes_example=ASKED, problems=(404,))
def start(call: Operating, asked: Annotated[StartRetraining, Depends(body_of(StartRetraining))]) -> Response:
    call.caller.must_reach(asked.endpoint)

    def act() -> Answer:
        made = call.services.retraining.start(asked.endpoint, mode=asked.mode, who=call.who, reason=asked.reason)
        return Answer(made, 202, f"{PATH}/{made.id}")

    return call.write(act)


@router.get("", summary="Retrainings, newest first")
@documented("operate", Retraining, many=True)
def list_all(
    call: Operating,
    endpoint: Annotated[str | None, Query(max_length=200, description="Of this endpoint alone.")] = None,
    open: Annotated[bool | None, Query(description="Only those that have not ended, or that have.")] = None,  # noqa: A002
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    read = partial(call.services.retraining.list, endpoint, open)
    after = unpack(cursor, str)
    found = reach.some(call.caller, read, limit + 1, after, lambda one: one.id, lambda one: one.endpoint)
    return page(found, limit, lambda one: one.id)


@router.get("/outlook", summary="Which endpoints are trained anew by themselves, and why not now")
@documented("operate", Outlook, many=True)
def outlook(call: Operating, limit: Limit = 50, cursor: Cursor = None) -> Response:
    found = [one for one in call.services.retraining.outlook() if call.caller.facts.reaches(one.endpoint)]
    return in_pages(found, limit, cursor)


@router.get("/{id}", summary="One retraining: the whole chain")
@documented("operate", Retraining, problems=(404,))
def one(call: Operating, id: str) -> Response:  # noqa: A002
    return give(visible(call, id))


@router.post("/{id}/cancel", summary="End a retraining that is not being released yet")
@documented(
    "operate", Retraining, takes=CancelRetraining, body_required=False, takes_example=examples.ACT, problems=(404,)
)
def cancel(
    call: Operating,
    id: str,  # noqa: A002
    asked: Annotated[CancelRetraining, Depends(body_of(CancelRetraining, optional=True))],
) -> Response:
    visible(call, id)
    service = call.services.retraining
    return call.write(lambda: Answer(service.cancel(id, who=call.who, reason=asked.reason)))


def visible(call: Call, id: str) -> Retraining:  # noqa: A002
    return reach.one(call.caller, "retraining", id, call.services.retraining.get, lambda found: found.endpoint)
