"""The serving instances, by their newest sign of life."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Response

from tidegate.control.access.caller import Caller
from tidegate.control.api import examples
from tidegate.control.api.calls import Cursor, Limit, Operating, in_pages
from tidegate.control.api.documents import documented
from tidegate.control.figures import InstanceHealth

router = APIRouter(prefix="/api/v1/instances", tags=["instances"])


@router.get("", summary="Serving instances, those that need a look first")
@documented("operate", InstanceHealth, many=True, example=examples.INSTANCE)
def list_all(call: Operating, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """`age` is the seconds since the newest beat; `behind` means that an older snapshot is in force."""
    found = call.services.figures.look().instances
    return in_pages(found, limit, cursor, lambda one: _view(one, call.caller))


def _view(one: InstanceHealth, caller: Caller) -> InstanceHealth:
    """Without what it serves beside the caller's endpoints."""
    models = {name: versions for name, versions in one.beat.models.items() if caller.facts.reaches(name)}
    return msgspec.structs.replace(one, beat=msgspec.structs.replace(one.beat, models=models))
