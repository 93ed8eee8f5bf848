"""API keys: made, listed, rotated, revoked. A key itself is in one answer only, and never in a repeated one."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Response
from msgspec import Meta

from tidegate.control.access.keys import Created, KeyView
from tidegate.control.api import examples
from tidegate.control.api.calls import Administering, Answer, Cursor, Limit, body_of, give, in_pages
from tidegate.control.api.documents import documented
from tidegate.keys import KeyFacts, KeyRole

router = APIRouter(prefix="/api/v1/api-keys", tags=["api-keys"])

PATH = "/api/v1/api-keys"
Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Reason = Annotated[str, Meta(max_length=1000)]


class CreateKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits of 0 mean none of its own. ``endpoints`` empty: all."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    roles: Annotated[tuple[KeyRole, ...], Meta(min_length=1, max_length=3)] = ("predict",)
    endpoints: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=200)], ...], Meta(max_length=1000)] = ()
    requests_per_minute: Count = 0
    concurrency: Count = 0
    rows: Count = 0
    expires_seconds: Annotated[float, Meta(gt=0, le=10 * 366 * 86_400)] | None = None
    """From now; null: never."""
    reason: Reason = ""


class RotateKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The old key goes on for ``grace_seconds`` beside the new one."""

    grace_seconds: Annotated[float, Meta(ge=0, le=90 * 86_400)] = 3600.0
    reason: Reason = ""


class RevokeKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reason: Reason = ""


@router.get("", summary="All keys, newest first")
@documented("admin", KeyView, many=True, example=examples.KEY)
def list_all(call: Administering, limit: Limit = 50, cursor: Cursor = None) -> Response:
    return in_pages(call.services.access.keys.all(), limit, cursor)


@router.get("/{key_id}", summary="One key")
@documented("admin", KeyView, example=examples.KEY, problems=(404,))
def one(call: Administering, key_id: str) -> Response:
    return give(call.services.access.keys.get(key_id))


@router.post("", status_code=201, summary="Make a key; the answer shows it once")
@documented(
    "admin", Created, takes=CreateKey, status=201, example=examples.CREATED_KEY, takes_example=examples.CREATE_KEY
)
def create(call: Administering, asked: Annotated[CreateKey, Depends(body_of(CreateKey))]) -> Response:
    facts = KeyFacts(
        name=asked.name,
        roles=asked.roles,
        endpoints=asked.endpoints,
        requests_per_minute=asked.requests_per_minute,
        concurrency=asked.concurrency,
        rows=asked.rows,
    )
    expires = None if asked.expires_seconds is None else call.services.clock.wall() + asked.expires_seconds
    keys = call.services.access.keys
    return call.write(lambda: _created(keys.create(facts, who=call.who, expires=expires, reason=asked.reason)))


@router.post("/{key_id}/rotate", status_code=201, summary="A new key in place of this one, without a gap")
@documented(
    "admin", Created, takes=RotateKey, body_required=False, status=201, example=examples.CREATED_KEY,
    takes_example=examples.ROTATE, problems=(404,),
)  # fmt: skip
def rotate(
    call: Administering,
    key_id: str,
    asked: Annotated[RotateKey, Depends(body_of(RotateKey, optional=True))],
) -> Response:
    keys = call.services.access.keys
    return call.write(
        lambda: _created(keys.rotate(key_id, who=call.who, grace=asked.grace_seconds, reason=asked.reason))
    )


@router.post("/{key_id}/revoke", summary="From now on the key does not count")
@documented("admin", KeyView, takes=RevokeKey, body_required=False, example=examples.KEY, takes_example=examples.ACT,
            problems=(404,))  # fmt: skip
def revoke(
    call: Administering,
    key_id: str,
    asked: Annotated[RevokeKey, Depends(body_of(RevokeKey, optional=True))],
) -> Response:
    keys = call.services.access.keys
    return call.write(lambda: Answer(keys.revoke(key_id, who=call.who, reason=asked.reason)))


def _created(made: Created) -> Answer:
    return Answer(made, 201, f"{PATH}/{made.view.id}", kept=msgspec.structs.replace(made, key=""))
