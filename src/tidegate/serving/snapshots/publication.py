"""What the control plane has published, as a serving process follows it, laid over what its own configuration says."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from tidegate.errors import ModelError
from tidegate.serving.routing import BUCKETS
from tidegate.serving.snapshots.file import placed
from tidegate.settings import Settings
from tidegate.types import EndpointPlan, RoutingSnapshot

logger = logging.getLogger("tidegate.bridge")

Origin = Literal["store", "disk"]


class Publication(msgspec.Struct, frozen=True):
    """Snapshot ``number`` of the store. ``published``: seconds since the epoch; ``origin``: where it was read."""

    number: int
    endpoints: Mapping[str, EndpointPlan]
    published: float = 0.0
    origin: Origin = "store"


def followed(
    publication: Publication, settings: Settings, base: Path, unloaded: Collection[str] = ()
) -> Mapping[str, EndpointPlan]:
    """The published plans of endpoints that the configuration knows, with their models as they are found here.

    Raises ModelError for a plan that cannot be served.
    """
    unknown = sorted(publication.endpoints.keys() - settings.endpoints.keys())
    if unknown:
        logger.warning(
            "snapshot %d: not in this configuration, and left out: %s", publication.number, ", ".join(unknown[:20])
        )
    return {
        name: _checked(publication.number, name, plan, settings, base)
        for name, plan in publication.endpoints.items()
        if name in settings.endpoints and name not in unloaded
    }


def warm_part(now: Publication | None, newest: Publication) -> Publication | None:
    """What of ``newest`` needs no load, over what is in force ``now``: a share or a rollback of one endpoint does not wait
    for a candidate of another that is still being loaded, or cannot be. None when that is nothing, or all of it.

    It keeps the number that is in force, since the newest one is not, yet.
    """
    if now is None:
        return None
    endpoints = {name: _warm(newest.endpoints.get(name, plan), plan) for name, plan in now.endpoints.items()}
    if endpoints in (now.endpoints, newest.endpoints):
        return None
    return Publication(now.number, endpoints, now.published, newest.origin)


def _warm(plan: EndpointPlan, now: EndpointPlan) -> EndpointPlan:
    loaded = [variant.model for variant in now.variants]
    return plan if all(variant.model in loaded for variant in plan.variants) else now


def overlay(number: int, plans: Mapping[str, EndpointPlan], default: str, settings: Settings) -> RoutingSnapshot:
    """The plans in the order of the configuration."""
    return RoutingSnapshot(number, {name: plans[name] for name in settings.endpoints if name in plans}, default)


def _checked(number: int, name: str, plan: EndpointPlan, settings: Settings, base: Path) -> EndpointPlan:
    where = f"snapshot {number}, endpoint {name!r}"
    if not plan.variants:
        raise ModelError(f"{where}: it has no variant")
    names = [variant.name for variant in plan.variants]
    if len(set(names)) < len(names):
        raise ModelError(f"{where}: two variants have the same name: {', '.join(names)}")
    if sum(variant.share for variant in plan.variants[1:]) > BUCKETS or any(v.share < 0 for v in plan.variants):
        raise ModelError(f"{where}: the shares are not within 0 and {BUCKETS}")
    variants = tuple(
        msgspec.structs.replace(variant, model=placed(variant.model, settings, base)) for variant in plan.variants
    )
    return msgspec.structs.replace(plan, name=name, variants=variants)
