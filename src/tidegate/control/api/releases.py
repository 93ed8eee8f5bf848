"""Releases: start, look, step in, follow, recompute."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query, Response
from msgspec import Meta
from msgspec.structs import replace

from tidegate.control.access.caller import Caller
from tidegate.control.api import examples, reach
from tidegate.control.api.calls import Answer, Call, Cursor, Limit, Operating, body_of, give, page, unpack
from tidegate.control.api.documents import documented
from tidegate.control.api.services import Services
from tidegate.control.api.sources import served_from
from tidegate.control.releases.history import Line
from tidegate.control.releases.look import Point
from tidegate.control.releases.prometheus import without_password
from tidegate.control.releases.release import Release
from tidegate.control.releases.replay import Replayed
from tidegate.errors import InvalidInput
from tidegate.settings import ReleaseSettings
from tidegate.storage.records import ReleaseRow

router = APIRouter(prefix="/api/v1/releases", tags=["releases"])

Reason = Annotated[str, Meta(max_length=1000)]
PATH = "/api/v1/releases"


class StartRelease(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``model`` is a URI such as models:/iris/4; ``plan`` stands in for the endpoint's configured one."""

    endpoint: Annotated[str, Meta(min_length=1, max_length=200)]
    model: Annotated[str, Meta(min_length=1, max_length=2000)]
    reason: Reason = ""
    plan: ReleaseSettings | None = None


class Act(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a person steps in; kept in the audit log."""

    reason: Reason = ""


_START = Depends(body_of(StartRelease))
_ACT = Depends(body_of(Act, optional=True))
_acting = documented(
    "operate", Release, takes=Act, body_required=False, example=examples.RELEASE, takes_example=examples.ACT,
    problems=(404,),
)  # fmt: skip


@router.post("", status_code=201, summary="Start a release")
@documented(
    "operate", Release, takes=StartRelease, status=201, example=examples.RELEASE, takes_example=examples.START_RELEASE,
    problems=(404,),
)  # fmt: skip
def start(call: Operating, asked: Annotated[StartRelease, _START]) -> Response:
    call.caller.must_reach(asked.endpoint)
    _check_addresses(asked, call.services)
    model = served_from(asked.model, call.services.settings.trust, call.services.batches.home)

    def act() -> Answer:
        release = call.services.releases.start(
            asked.endpoint, model, who=call.who, reason=asked.reason, plan=asked.plan
        )
        return Answer(_shown(release), 201, f"{PATH}/{release.id}")

    return call.write(act)


@router.get("", summary="Releases, newest first")
@documented("operate", Release, many=True, example=examples.RELEASE)
def list_all(
    call: Operating,
    endpoint: Annotated[str | None, Query(max_length=200, description="Only of this endpoint.")] = None,
    is_open: Annotated[bool | None, Query(alias="open", description="Only open ones, or only ended ones.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    after = unpack(cursor, str)
    with call.services.store.read() as unit:
        read = partial(unit.releases.list, endpoint, is_open)
        found = reach.some(call.caller, read, limit + 1, after, lambda row: row.id, lambda row: row.endpoint)
    return page(found, limit, lambda row: row.id, _release)


@router.get("/{release_id}", summary="One release")
@documented("operate", Release, example=examples.RELEASE, problems=(404,))
def one(call: Operating, release_id: str) -> Response:
    return give(visible(call.services, call.caller, release_id))


@router.post("/{release_id}/pause", summary="Hold the share where it is")
@_acting
def pause(call: Operating, release_id: str, asked: Annotated[Act, _ACT]) -> Response:
    return _step_in(call, release_id, asked, call.services.releases.pause)


@router.post("/{release_id}/resume", summary="Go on after a pause or an inconclusive end")
@_acting
def resume(call: Operating, release_id: str, asked: Annotated[Act, _ACT]) -> Response:
    return _step_in(call, release_id, asked, call.services.releases.resume)


@router.post("/{release_id}/promote", summary="Give the candidate everything, whatever the evidence")
@_acting
def promote(call: Operating, release_id: str, asked: Annotated[Act, _ACT]) -> Response:
    return _step_in(call, release_id, asked, call.services.releases.promote)


@router.post("/{release_id}/rollback", summary="Give the old version everything again")
@_acting
def rollback(call: Operating, release_id: str, asked: Annotated[Act, _ACT]) -> Response:
    return _step_in(call, release_id, asked, call.services.releases.rollback)


@router.get("/{release_id}/history", summary="What happened to a release, oldest first")
@documented("operate", Line, many=True, example=examples.LINE, problems=(404,))
def history(call: Operating, release_id: str, limit: Limit = 200, cursor: Cursor = None) -> Response:
    visible(call.services, call.caller, release_id)
    after = unpack(cursor, int)
    lines = [line for line in call.services.releases.events(release_id) if after is None or line.revision > after]
    return page(lines[: limit + 1], limit, lambda line: line.revision)


@router.get("/{release_id}/evidence", summary="Every look at the evidence, oldest first")
@documented("operate", Point, many=True, example=examples.POINT, problems=(404,))
def evidence(call: Operating, release_id: str, limit: Limit = 200, cursor: Cursor = None) -> Response:
    visible(call.services, call.caller, release_id)
    after = unpack(cursor, int)
    sound = -1 if after is None else max(-1, min(after, 2**53))
    points = call.services.releases.evidence(release_id, after=sound, limit=limit + 1)
    return page(points, limit, lambda point: point.tick)


@router.get("/{release_id}/replay", summary="Every decision, computed again from the kept evidence")
@documented("operate", Replayed, problems=(404,))
def replay(call: Operating, release_id: str) -> Response:
    visible(call.services, call.caller, release_id)
    return give(call.services.releases.replay(release_id))


def visible(services: Services, caller: Caller, release_id: str) -> Release:
    with services.store.read() as unit:
        row = reach.one(caller, "release", release_id, unit.releases.get, lambda row: row.endpoint)
    return _release(row)


def _step_in(call: Call, release_id: str, asked: Act, act: Callable[..., Release]) -> Response:
    visible(call.services, call.caller, release_id)
    return call.write(lambda: Answer(_shown(act(release_id, who=call.who, reason=asked.reason))))


def _release(row: ReleaseRow) -> Release:
    return _shown(msgspec.json.decode(row.body, type=Release))


def _shown(release: Release) -> Release:
    """Without the passwords in the addresses of its plan."""
    rails = [
        rail
        if rail.prometheus is None
        else replace(rail, prometheus=replace(rail.prometheus, url=without_password(rail.prometheus.url)))
        for rail in release.plan.guardrails
    ]
    return replace(release, plan=replace(release.plan, guardrails=tuple(rails)))


def _check_addresses(asked: StartRelease, services: Services) -> None:
    """A plan must not make the control plane call an address that the operator did not configure."""
    configured = services.settings.endpoints.get(asked.endpoint)
    known = {""} | {
        guardrail.prometheus.url
        for guardrail in (configured.release.guardrails if configured is not None else ())
        if guardrail.prometheus is not None
    }
    for index, guardrail in enumerate(asked.plan.guardrails if asked.plan is not None else ()):
        if guardrail.prometheus is not None and guardrail.prometheus.url not in known:
            raise InvalidInput(
                "a plan may only ask the Prometheus server that the endpoint's configuration names",
                ("plan", "guardrails", index, "prometheus", "url"),
            )
