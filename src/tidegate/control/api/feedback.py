"""Labels and outcomes of earlier predictions, for callers that reach the control port only; counts of what came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Response
from msgspec import Meta

from tidegate.control.api import examples
from tidegate.control.api.calls import Answer, Call, Operating, Predicting, body_of, give
from tidegate.control.api.documents import documented
from tidegate.feedback import LATEST, LONGEST, MOST_ROWS, ROWS_OF_REQUEST, feedback_of, within
from tidegate.observations import Feedback

if TYPE_CHECKING:
    from tidegate.storage.store import Unit

router = APIRouter(prefix="/api/v1/feedback", tags=["feedback"])

Text = Annotated[str, Meta(max_length=LONGEST)]
Row = Annotated[int, Meta(ge=0, lt=ROWS_OF_REQUEST)]
Number = Annotated[float, Meta(ge=-1e300, le=1e300)]


class FeedbackIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A ``value`` or a ``label`` for a ``request_id``, for one ``row`` of it (from 0), or for a ``unit`` of an
    experiment. For the document: ``feedback_of`` reads it, as on the data port."""

    metric: Annotated[str, Meta(min_length=1, max_length=LONGEST)]
    request_id: Text | None = None
    row: Row | None = None
    unit: Text | None = None
    endpoint: Text | None = None
    value: Number | bool | None = None
    label: Annotated[str, Meta(min_length=1, max_length=LONGEST)] | bool | int | float | None = None
    time: Annotated[float, Meta(ge=0, lt=LATEST)] | str | None = None


Several = Annotated[list[FeedbackIn], Meta(min_length=1, max_length=MOST_ROWS)]


class Kept(msgspec.Struct, frozen=True):
    """As on the data port. All are on the disk; ``duplicates`` were known before."""

    accepted: int
    duplicates: int


class Counts(msgspec.Struct, frozen=True):
    """``unknown``: about requests that no kept prediction or exposure knows. They are kept, and may still be joined."""

    total: int
    unknown: int
    by_metric: dict[str, int]


@router.post("", summary="Send labels and outcomes")
@documented(
    "predict",
    Kept,
    takes=FeedbackIn | Several,
    example={"accepted": 1, "duplicates": 0},
    takes_example=examples.FEEDBACK,
)
def send(call: Predicting, asked: Annotated[Any, Depends(body_of(Any))]) -> Response:
    """Durable before the answer. The same request, row and metric twice changes nothing, unless `time` is later: seconds
    since 1970 or ISO 8601; now, if absent."""
    rows = within(feedback_of(asked, call.services.clock.wall()), call.caller.facts.endpoints)

    def act() -> Answer:
        with call.services.store.begin() as unit:
            _check_owner(call, rows, unit)
            new = unit.feedback.add(rows)
        return Answer(Kept(new, len(rows) - new))

    return call.write(act)


@router.get("", summary="How much came, and how much of it nobody knows")
@documented("operate", Counts, example={"total": 120, "unknown": 3, "by_metric": {"accuracy": 120}})
def counts(call: Operating) -> Response:
    """To a key of some endpoints: of what was sent for these."""
    endpoints = call.caller.facts.endpoints
    with call.services.store.read() as unit:
        by_metric, unknown = unit.feedback.counts(endpoints), unit.feedback.unknown(endpoints)
    return give(Counts(sum(by_metric.values()), unknown, by_metric))


def _check_owner(call: Call, rows: list[Feedback], unit: Unit) -> None:
    """A key of some endpoints may not label what others predicted."""
    if not call.caller.facts.endpoints:
        return
    for endpoints in unit.events.endpoints_of([row.request_id for row in rows if row.request_id]).values():
        if not any(map(call.caller.facts.reaches, endpoints)):
            call.caller.must_reach(min(endpoints))
