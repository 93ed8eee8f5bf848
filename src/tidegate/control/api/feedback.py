"""Labels and outcomes of earlier predictions, for callers that reach the control port only; counts of what came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from fastapi import APIRouter, Depends, Response
from msgspec import Meta

from tidegate.control.api import examples
from tidegate.control.api.calls import Answer, Call, Operating, Predicting, body_of, give
from tidegate.control.api.documents import documented
from tidegate.errors import InvalidInput
from tidegate.observations import Feedback, label_of

if TYPE_CHECKING:
    from tidegate.storage.store import Unit

router = APIRouter(prefix="/api/v1/feedback", tags=["feedback"])

Text = Annotated[str, Meta(max_length=256)]
Row = Annotated[int, Meta(ge=0, lt=1_000_000)]
Number = Annotated[float, Meta(ge=-1e300, le=1e300)]


class FeedbackIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A ``value`` or a ``label`` for a ``request_id``, for one ``row`` of it (from 0), or for a ``unit`` of an
    experiment."""

    metric: Annotated[str, Meta(min_length=1, max_length=128)]
    request_id: Text = ""
    row: Row | None = None
    unit: Text = ""
    endpoint: Text = ""
    value: Number | None = None
    label: Annotated[str, Meta(min_length=1, max_length=256)] | bool | int | float | None = None
    """The true class: text, a number, true or false."""
    time: Annotated[float, Meta(ge=0, le=1e11)] = 0.0
    """When it happened, in seconds since the epoch; now, if absent."""


Several = Annotated[list[FeedbackIn], Meta(min_length=1, max_length=10_000)]


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
def send(call: Predicting, asked: Annotated[FeedbackIn | Several, Depends(body_of(FeedbackIn | Several))]) -> Response:
    """Durable before the answer. The same request and metric twice changes nothing, unless `time` is later."""
    several = asked if isinstance(asked, list) else [asked]
    now = call.services.clock.wall()
    only = (call.caller.facts.endpoints or ("",))[0]
    for index, one in enumerate(several):
        _check(call, index, one)
    rows = [
        Feedback(
            metric=one.metric,
            request_id=one.request_id,
            row=one.row,
            unit=one.unit,
            endpoint=one.endpoint or only,
            value=one.value,
            label=None if one.label is None else label_of(one.label),
            time=one.time or now,
            received=now,
        )
        for one in several
    ]

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


def _check(call: Call, index: int, one: FeedbackIn) -> None:
    if not one.request_id and not one.unit:
        raise InvalidInput("feedback needs a request_id or a unit", (index, "request_id"))
    if one.row is not None and not one.request_id:
        raise InvalidInput("a row is one of a request: feedback needs its request_id", (index, "request_id"))
    if one.value is None and one.label is None:
        raise InvalidInput("feedback needs a value or a label", (index, "value"))
    if one.endpoint:
        call.caller.must_reach(one.endpoint)
    elif len(call.caller.facts.endpoints) > 1:  # else it would count for endpoints that are not the key's
        raise InvalidInput("feedback needs an endpoint, for this key is of several", (index, "endpoint"))


def _check_owner(call: Call, rows: list[Feedback], unit: Unit) -> None:
    """A key of some endpoints may not label what others predicted."""
    if not call.caller.facts.endpoints:
        return
    for endpoints in unit.events.endpoints_of([row.request_id for row in rows if row.request_id]).values():
        if not any(map(call.caller.facts.reaches, endpoints)):
            call.caller.must_reach(min(endpoints))
