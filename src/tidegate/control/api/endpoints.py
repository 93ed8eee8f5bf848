"""What is served: the plan in force, who has it, and the figures of the last minute."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, Response

from tidegate.control.api import examples
from tidegate.control.api.calls import Call, Cursor, Limit, Operating, give, in_pages
from tidegate.control.api.documents import documented
from tidegate.control.figures import EndpointFigures, InstanceHealth, Split, VariantFigures, effect_of
from tidegate.errors import NotFound
from tidegate.storage.records import Acknowledgement

router = APIRouter(prefix="/api/v1/endpoints", tags=["endpoints"])


class Having(msgspec.Struct, frozen=True, kw_only=True):
    """A serving instance beside the newest snapshot. ``effect_seconds`` from the publication to its acknowledgement; null
    for one that started later, and found it there."""

    instance: str
    state: str
    snapshot: int
    acknowledged: float | None = None
    effect_seconds: float | None = None
    error: str = ""
    models: dict[str, str] = {}
    """Variant -> version in force for this endpoint."""


class EndpointView(msgspec.Struct, frozen=True, kw_only=True):
    """Quantiles in seconds, rates in requests a second, over the last minute; shares in basis points of 10 000."""

    name: str
    is_default: bool
    health: str
    why: str
    plan: tuple[Split, ...]
    snapshot: int
    """Newest number published; instances that have it are in ``instances``."""
    published: float
    effect_seconds: float | None
    """From the newest publication until the last of the instances that were there had it; null until then, and when there
    were none."""
    total: VariantFigures
    variants: dict[str, VariantFigures]
    instances: tuple[Having, ...]
    release: str | None
    experiment: str | None


@router.get("", summary="All endpoints")
@documented("operate", EndpointView, many=True, example=examples.ENDPOINT)
def list_all(call: Operating, limit: Limit = 50, cursor: Cursor = None) -> Response:
    return in_pages(views(call), limit, cursor)


@router.get("/{name}", summary="One endpoint")
@documented("operate", EndpointView, example=examples.ENDPOINT, problems=(404,))
def one(call: Operating, name: str) -> Response:
    found = next((view for view in views(call) if view.name == name), None)
    if found is None:
        raise NotFound(f"there is no endpoint {name[:80]!r}")
    return give(found)


def views(call: Call) -> list[EndpointView]:
    """Of the endpoints that the caller may see."""
    look = call.services.figures.look()
    with call.services.store.read() as unit:
        words = unit.instances.acknowledgements(look.snapshot)
    acknowledged = {word.instance: word for word in words}
    context: dict[str, Any] = {"snapshot": look.snapshot, "published": look.published}
    return [
        _view(figures, [_having(one, figures.name, acknowledged, look.published) for one in look.instances], **context)
        for figures in look.endpoints
        if call.caller.facts.reaches(figures.name)
    ]


def _view(figures: EndpointFigures, having: list[Having], *, snapshot: int, published: float) -> EndpointView:
    live = [one for one in having if one.state != "gone"]
    times = [one.effect_seconds for one in live if one.effect_seconds is not None]
    return EndpointView(
        name=figures.name,
        is_default=figures.is_default,
        health=figures.health,
        why=figures.why,
        plan=figures.splits,
        snapshot=snapshot,
        published=published,
        effect_seconds=max(times, default=None) if all(one.acknowledged is not None for one in live) else None,
        total=figures.total,
        variants=dict(figures.variants),
        instances=tuple(having),
        release=figures.release.id if figures.release is not None else None,
        experiment=figures.experiment or None,
    )


def _having(one: InstanceHealth, endpoint: str, acknowledged: dict[str, Acknowledgement], published: float) -> Having:
    word = acknowledged.get(one.beat.instance)
    good = word is not None and not word.error
    return Having(
        instance=one.beat.instance,
        state=one.state,
        snapshot=one.beat.snapshot,
        acknowledged=word.time if word is not None and good else None,
        effect_seconds=effect_of(one.beat, word, published),
        error=(word.error if word is not None else "") or one.beat.error,
        models=dict(one.beat.models.get(endpoint, {})),
    )
