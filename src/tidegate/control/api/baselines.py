"""Baselines: what production is compared with."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Response
from msgspec import Meta

from tidegate.control.api import examples, reach
from tidegate.control.api.calls import Answer, Call, Cursor, Limit, Operating, body_of, give, page, unpack
from tidegate.control.api.documents import documented
from tidegate.control.api.drift_reports import OfEndpoint
from tidegate.control.monitoring import profiles
from tidegate.control.monitoring.kept import Baseline
from tidegate.errors import InvalidInput, NotAllowed

router = APIRouter(prefix="/api/v1/baselines", tags=["baselines"])

PATH = "/api/v1/baselines"
MOST_BYTES = 16 * 1024 * 1024
"""Of a body with rows or a profile."""
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Text = Annotated[str, Meta(max_length=200)]
Time = Annotated[float, Meta(ge=0, le=1e12)]


class Production(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sampled predictions made in [since, until); until now, if that is absent."""

    since: Time
    until: Time | None = None
    variant: Text = ""
    """The baseline's, if absent."""


class CreateBaseline(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of one of `rows`, `profile`, `production`, or `model` and `version`."""

    name: Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    endpoint: Text = ""
    """Whose it is; production's is that of the predictions."""
    rows: Annotated[list[dict[str, Any]], Meta(max_length=100_000)] | None = None
    kinds: Annotated[dict[str, Literal["number", "category", "text"]], Meta(max_length=10_000)] = {}
    """What columns of `rows` are, where it is not what it seems: a number may name a category."""
    matrix: Text = ""
    """The input whose columns `rows` has, where the model takes one array for all of them."""
    profile: dict[str, Any] | None = None
    """As `tidegate baseline create` makes it."""
    production: Production | None = None
    model: Text = ""
    version: Text = ""
    reason: Annotated[str, Meta(max_length=1000)] = ""


class DeleteBaseline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reason: Annotated[str, Meta(max_length=1000)] = ""


@router.post("", status_code=201, summary="Make a baseline")
@documented(
    "operate",
    Baseline,
    takes=CreateBaseline,
    status=201,
    example=examples.BASELINE,
    takes_example=examples.CREATE_BASELINE,
    problems=(404,),
)
def create(call: Operating, asked: Annotated[CreateBaseline, Depends(body_of(CreateBaseline))]) -> Response:
    """The body may have 16 MiB. A name that is taken is refused: what windows were compared with does not change."""
    sources = (asked.rows, asked.profile, asked.production, asked.model or None)
    if sum(source is not None for source in sources) != 1:
        raise InvalidInput("give one of rows, profile, production, or model with version", ("rows",))
    if asked.endpoint:
        call.caller.must_reach(asked.endpoint)
    elif call.caller.facts.endpoints:
        raise InvalidInput("the key is of some endpoints: say for which the baseline is", ("endpoint",))
    _must_be_free(call, asked)

    def act() -> Answer:
        made = _made(call, asked)
        return Answer(made, 201, f"{PATH}/{made.name}")

    return call.write(act)


@router.get("", summary="Baselines, newest first, without their columns")
@documented("operate", Baseline, many=True, example=examples.BASELINE | {"columns": []})
def list_all(call: Operating, endpoint: OfEndpoint = None, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """The profile that was registered with a version is the baseline `model@version` once it was used."""
    among = call.caller.facts.endpoints
    found = call.services.monitoring.baselines.list(endpoint, limit + 1, unpack(cursor, str), among)
    return page(found, limit, lambda one: one.name)


@router.get("/{name}", summary="One baseline")
@documented("operate", Baseline, example=examples.BASELINE, problems=(404,))
def one(call: Operating, name: str) -> Response:
    visible(call, name)
    return give(call.services.monitoring.baselines.get(name))


@router.delete("/{name}", status_code=204, summary="Delete a baseline, with the windows that have its bins")
@documented(
    "operate",
    status=204,
    takes=DeleteBaseline,
    body_required=False,
    takes_example=examples.UNSILENCE,
    problems=(404,),
)
def delete(
    call: Operating, name: str, asked: Annotated[DeleteBaseline, Depends(body_of(DeleteBaseline, optional=True))]
) -> Response:
    """Not while a monitor is configured to use it."""
    visible(call, name)

    def act() -> Answer:
        call.services.monitoring.baselines.delete(name, who=call.who, reason=asked.reason)
        return Answer(status=204)

    return call.write(act)


def _must_be_free(call: Call, asked: CreateBaseline) -> None:
    """What a key of some endpoints may not do to others: decide what they are compared with, or read the profiles of their
    models. Raises NotAllowed."""
    caller = call.caller
    if not caller.facts.endpoints:
        return
    for endpoint, configured in call.services.settings.endpoints.items():
        plan = configured.monitor
        if plan is not None and plan.reference == asked.name and not caller.facts.reaches(endpoint):
            raise NotAllowed(f"the name {asked.name} is kept for a monitor that this key may not change")
    if asked.model:
        raise NotAllowed("this key is for some endpoints only; a model may be of any")


def _made(call: Call, asked: CreateBaseline) -> Baseline:
    service = call.services.monitoring.baselines
    who: dict[str, str] = {"who": call.who, "reason": asked.reason}
    if asked.rows is not None:
        return service.of_rows(
            asked.name, asked.rows, endpoint=asked.endpoint, kinds=asked.kinds, matrix=asked.matrix, **who
        )
    if asked.profile is not None:
        profile = profiles.decode(msgspec.json.encode(asked.profile))
        return service.of_profile(asked.name, profile, endpoint=asked.endpoint, **who)
    if asked.production is not None:
        if not asked.endpoint:
            raise InvalidInput("predictions of which endpoint?", ("endpoint",))
        until = call.services.clock.wall() if asked.production.until is None else asked.production.until
        if until <= asked.production.since:
            raise InvalidInput("since is before until", ("production", "since"))
        given = asked.production
        return service.of_production(asked.name, asked.endpoint, given.since, until, variant=given.variant, **who)
    if not asked.version:
        raise InvalidInput("of which version of the model?", ("version",))
    return service.of_model(asked.name, asked.model, asked.version, endpoint=asked.endpoint, **who)


def visible(call: Call, name: str) -> None:
    """Raises NotFound, as ``reach.one`` does."""
    reach.one(call.caller, "baseline", name, call.services.monitoring.baselines.row, lambda found: found.endpoint)
