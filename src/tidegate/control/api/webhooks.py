"""Signed calls of a model registry: an alias that was moved there starts a release here, by the settings."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy import delete

from tidegate.control.access import audit
from tidegate.control.aliases import aliases_of
from tidegate.control.api.calls import Answer, address_of, respond, services_of
from tidegate.control.api.documents import documented
from tidegate.control.api.errors import request_id_of
from tidegate.control.api.services import Services
from tidegate.control.registry.base import CHALLENGER, CHAMPION, AliasMoved
from tidegate.control.registry.webhooks import Delivery, Event, StageMoved, parse, verify
from tidegate.errors import Conflict, NotAuthenticated
from tidegate.storage.tables import deliveries

router = APIRouter(prefix="/api/v1/webhooks", tags=["webhooks"])

PRODUCTION = "production"


class Taken(msgspec.Struct, frozen=True):
    """What the webhook was taken for; ``releases`` are those that began."""

    event: str
    releases: tuple[str, ...] = ()


class Anything(msgspec.Struct, frozen=True):
    """What MLflow, or an older registry, sends."""


async def _raw(request: Request) -> bytes:
    return await request.body()


@router.post("/mlflow", status_code=202, summary="A signed webhook of MLflow")
@documented(None, Taken, takes=Anything, status=202, example={"event": "AliasMoved", "releases": ["r-1f2e3d4c"]},
            problems=(401, 403, 429))  # fmt: skip
def mlflow(
    request: Request,
    services: Annotated[Services, Depends(services_of)],
    raw: Annotated[bytes, Depends(_raw)],
) -> Response:
    """Signed with `registry.webhook_secret` over id, time and body; at most five minutes old; taken once."""
    address = address_of(request)
    services.access.limits.arrive(address)
    now = services.clock.wall()
    try:
        delivery = verify(request.headers, raw, services.settings.registry.webhook_secret, now)
    except NotAuthenticated:
        services.access.limits.fail(address)
        raise
    event = parse(raw)
    with services.store.begin() as unit:
        if not unit.deliveries.add(delivery.id, now):
            raise Conflict("this delivery was taken before")
    try:
        with audit.acting_from(audit.Origin(address, delivery.id, request_id_of(request))):
            begun = _act(services, event, delivery)
    except BaseException:
        with services.store.begin() as unit:  # the sender may try again: it was not taken
            unit.connection.execute(delete(deliveries).where(deliveries.c.id == delivery.id))
        raise
    return respond(Answer(Taken(type(event).__name__, begun), 202))


def _act(services: Services, event: Event, delivery: Delivery) -> tuple[str, ...]:
    match event:
        case AliasMoved(name=name, alias=alias, version=str(version)) if alias in aliases_of(services.settings):
            pass
        case AliasMoved(name=name, alias=alias, version=str(version)) if alias == CHALLENGER:
            named = services.releases.challenger_named(name, version, f"webhook {delivery.id}")
            return tuple(release.id for release in named)
        case StageMoved(name=name, version=version, stage=stage) if stage.lower() == PRODUCTION:
            alias = CHAMPION
        case _:
            return ()
    begun = services.releases.alias_moved(name, version, f"webhook {delivery.id}", alias)
    return tuple(release.id for release in begun)
