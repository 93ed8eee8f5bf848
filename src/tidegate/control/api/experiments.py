"""Experiments: start, look, end."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query, Response
from msgspec import Meta

from tidegate.control.api import examples, reach
from tidegate.control.api.calls import Answer, Call, Cursor, Limit, Operating, body_of, give, in_pages, page, unpack
from tidegate.control.api.documents import documented
from tidegate.control.api.sources import served_from
from tidegate.control.experiments.experiment import Experiment, Report, Spec

router = APIRouter(prefix="/api/v1/experiments", tags=["experiments"])

PATH = "/api/v1/experiments"


class StartExperiment(Spec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person asks for, and why."""

    reason: Annotated[str, Meta(max_length=1000)] = ""


class StopExperiment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reason: Annotated[str, Meta(max_length=1000)] = ""


@router.post("", status_code=201, summary="Start an experiment")
@documented("operate", Experiment, takes=StartExperiment, status=201, takes_example=examples.SPEC, problems=(404,))
def start(call: Operating, asked: Annotated[StartExperiment, Depends(body_of(StartExperiment))]) -> Response:
    call.caller.must_reach(asked.endpoint)

    trust, never = call.services.settings.trust, call.services.batches.home
    arms = tuple(msgspec.structs.replace(arm, model=served_from(arm.model, trust, never)) for arm in asked.arms)
    spec = Spec(**{name: getattr(asked, name) for name in Spec.__struct_fields__} | {"arms": arms})

    def act() -> Answer:
        made = call.services.experiments.start(spec, who=call.who, reason=asked.reason)
        return Answer(made, 201, f"{PATH}/{made.name}")

    return call.write(act)


@router.get("", summary="Experiments, newest first")
@documented("operate", Experiment, many=True)
def list_all(call: Operating, limit: Limit = 50, cursor: Cursor = None) -> Response:
    def read(count: int, after: str | None) -> list[Experiment]:
        return call.services.experiments.list(count, after)[0]

    after = unpack(cursor, str)
    found = reach.some(call.caller, read, limit + 1, after, lambda one: one.name, lambda one: one.spec.endpoint)
    return page(found, limit, lambda one: one.name)


@router.get("/{name}", summary="One experiment")
@documented("operate", Experiment, problems=(404,))
def one(call: Operating, name: str) -> Response:
    return give(visible(call, name))


@router.get("/{name}/report", summary="What is known now, with intervals that hold at any time")
@documented("operate", Report, problems=(404,))
def report(call: Operating, name: str) -> Response:
    visible(call, name)
    return give(call.services.experiments.report(name))


@router.get("/{name}/reports", summary="What was known while it ran, oldest first")
@documented("operate", Report, many=True, problems=(404,))
def reports(
    call: Operating,
    name: str,
    after: Annotated[float, Query(ge=0, le=1e12, description="Only later ones; seconds since the epoch.")] = 0.0,
    limit: Limit = 200,
    cursor: Cursor = None,
) -> Response:
    visible(call, name)
    return in_pages(call.services.experiments.reports(name, after), limit, cursor)


@router.post("/{name}/stop", summary="End an experiment; the control arm gets everything")
@documented(
    "operate", Experiment, takes=StopExperiment, body_required=False, takes_example=examples.ACT, problems=(404,)
)
def stop(
    call: Operating, name: str, asked: Annotated[StopExperiment, Depends(body_of(StopExperiment, optional=True))]
) -> Response:
    visible(call, name)
    service = call.services.experiments
    return call.write(lambda: Answer(service.stop(name, who=call.who, reason=asked.reason)))


def visible(call: Call, name: str) -> Experiment:
    return reach.one(call.caller, "experiment", name, call.services.experiments.get, lambda found: found.spec.endpoint)
