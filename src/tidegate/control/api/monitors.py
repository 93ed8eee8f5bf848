"""Monitors: how what is served compares with what it was made for, over time."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from tidegate.control.api import examples
from tidegate.control.api.calls import Answer, Call, Cursor, Limit, Operating, give, in_pages
from tidegate.control.api.documents import documented
from tidegate.control.monitoring.comparison import Distribution, WindowView
from tidegate.control.monitoring.heat import Heat
from tidegate.control.monitoring.monitor import Monitor
from tidegate.control.monitoring.records import Performance
from tidegate.control.monitoring.views import between
from tidegate.errors import InvalidInput, NotFound
from tidegate.section import seconds_of

router = APIRouter(prefix="/api/v1/monitors", tags=["monitors"])

Since = Annotated[
    float | None, Query(ge=0, le=1e12, description="Only windows that start then or later; seconds since the epoch.")
]
Until = Annotated[float | None, Query(ge=0, le=1e12, description="Only windows that start earlier.")]
Start = Annotated[float | None, Query(ge=0, le=1e12, description="Start of the window; the newest, if absent.")]
Variant = Annotated[str, Query(min_length=1, max_length=200, description="Such as baseline or candidate.")]


@router.get("", summary="What is watched, with the newest results")
@documented("operate", Monitor, many=True, example=examples.MONITOR)
def list_all(call: Operating, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """Endpoints with a `monitor` section in the configuration."""
    found = [one for one in call.services.monitoring.monitors() if call.caller.facts.reaches(one.endpoint)]
    return in_pages(found, limit, cursor)


@router.get("/{endpoint}", summary="One monitor")
@documented("operate", Monitor, example=examples.MONITOR, problems=(404,))
def one(call: Operating, endpoint: str) -> Response:
    visible(call, endpoint)
    return give(call.services.monitoring.get(endpoint))


@router.post("/{endpoint}/run", summary="Look now")
@documented("operate", Monitor, example=examples.MONITOR, problems=(404,))
def run(call: Operating, endpoint: str) -> Response:
    """Reads new predictions, checks the windows and measures what has labels, as is done by itself every `monitor.every`."""
    visible(call, endpoint)
    return call.write(lambda: Answer(call.services.monitoring.run(endpoint)))


@router.get("/{endpoint}/heat", summary="Drift of every column over time")
@documented("operate", Heat, example=examples.HEAT, problems=(404,))
def heat(
    call: Operating, endpoint: str, since: Since = None, until: Until = None, variant: Variant = "baseline"
) -> Response:
    """The last 48 windows, if nothing is said; at most the newest 500."""
    begin, end = _between(call, endpoint, since, until)
    return give(call.services.monitoring.heat(endpoint, begin, end, variant))


@router.get("/{endpoint}/window", summary="All columns of one window, then and now")
@documented("operate", WindowView, example=examples.WINDOW_VIEW, problems=(404,))
def window(call: Operating, endpoint: str, start: Start = None, variant: Variant = "baseline") -> Response:
    visible(call, endpoint)
    return give(call.services.monitoring.window(endpoint, variant, start))


@router.get("/{endpoint}/distribution", summary="One column then and now")
@documented("operate", Distribution, example=examples.DISTRIBUTION, problems=(404,))
def distribution(
    call: Operating,
    endpoint: str,
    column: Annotated[str, Query(min_length=1, max_length=500, description="As the baseline names it.")],
    start: Start = None,
    variant: Variant = "baseline",
) -> Response:
    visible(call, endpoint)
    return give(call.services.monitoring.distribution(endpoint, column, variant, start))


@router.get("/{endpoint}/performance", summary="Quality of the predictions over time")
@documented("operate", Performance, many=True, example=examples.PERFORMANCE, problems=(404,))
def performance(
    call: Operating,
    endpoint: str,
    since: Since = None,
    until: Until = None,
    variant: Annotated[str | None, Query(max_length=200, description="All, if absent.")] = None,
    limit: Limit = 500,
    cursor: Cursor = None,
) -> Response:
    """By the time of the prediction, by that of the label's arrival, and, without labels, what the scores let expect:
    `basis` says which, and `estimated` is never measured. The last 48 windows, if nothing is said."""
    begin, end = _between(call, endpoint, since, until)
    return in_pages(call.services.monitoring.performance(endpoint, begin, end, variant), limit, cursor)


def visible(call: Call, endpoint: str) -> None:
    """Raises NotFound for what is not watched, and in the same words for what the key may not see."""
    if not call.caller.facts.reaches(endpoint):
        raise NotFound(call.services.monitoring.absent(endpoint))
    call.services.monitoring.plan(endpoint)


def _between(call: Call, endpoint: str, since: float | None, until: float | None) -> tuple[float, float]:
    visible(call, endpoint)
    seconds = seconds_of(call.services.monitoring.plan(endpoint).window)
    try:
        return between(since, until, call.services.clock.wall(), seconds)
    except InvalidInput:
        raise InvalidInput("since is before until", ("query", "since")) from None
