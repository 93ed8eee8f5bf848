"""Routing snapshots as they were published. They are made by releases and experiments, never through here."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Response

from tidegate.control.access.caller import Caller
from tidegate.control.api import examples
from tidegate.control.api.calls import Cursor, Limit, Operating, give, page, unpack
from tidegate.control.api.documents import documented
from tidegate.errors import NotFound
from tidegate.storage.records import Acknowledgement, Published
from tidegate.types import RoutingSnapshot

router = APIRouter(prefix="/api/v1/snapshots", tags=["snapshots"])

LARGEST = 2**53


class SnapshotView(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    published: float
    reason: str
    author: str
    release: str
    snapshot: RoutingSnapshot
    acknowledgements: tuple[Acknowledgement, ...] = ()
    """Only where one snapshot is asked for."""


@router.get("", summary="Published snapshots, newest first")
@documented("operate", SnapshotView, many=True, example=examples.SNAPSHOT)
def list_all(call: Operating, limit: Limit = 50, cursor: Cursor = None) -> Response:
    before = unpack(cursor, int)
    with call.services.store.read() as unit:
        found = unit.snapshots.history(limit=limit + 1, before=_sound(before))
    return page(found, limit, lambda one: one.number, lambda one: _view(one, call.caller))


@router.get("/{number}", summary="One snapshot, and who has it in force")
@documented("operate", SnapshotView, example=examples.SNAPSHOT, problems=(404,))
def one(call: Operating, number: Annotated[int, Path(ge=1, le=LARGEST)]) -> Response:
    with call.services.store.read() as unit:
        found = unit.snapshots.get(number)
        words = unit.instances.acknowledgements(number) if found is not None else []
    if found is None:
        raise NotFound(f"no snapshot {number} was published")
    return give(_view(found, call.caller, tuple(words)))


def _view(one: Published, caller: Caller, words: tuple[Acknowledgement, ...] = ()) -> SnapshotView:
    endpoints = {name: plan for name, plan in one.snapshot.endpoints.items() if caller.facts.reaches(name)}
    return SnapshotView(
        number=one.number,
        published=one.published,
        reason=one.reason,
        author=one.author,
        release=one.release,
        snapshot=msgspec.structs.replace(one.snapshot, endpoints=endpoints),
        acknowledgements=words,
    )


def _sound(number: int | None) -> int | None:
    return None if number is None else max(0, min(number, LARGEST))
