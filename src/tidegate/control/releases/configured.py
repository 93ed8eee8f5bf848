"""What the configuration says of endpoints, published: the first time, and when it was changed since.

The store remembers in its audit log what the configuration last said. An endpoint whose entry changed gets the new
models at once, as an operator's explicit act, and no release; while a release or an experiment is open on it the change
waits for the next start. What a release promoted stays when the configuration did not change.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from tidegate.clock import Clock
from tidegate.control.access import audit
from tidegate.control.registry.base import Registry
from tidegate.control.registry.refs import SHOWN_DIGITS
from tidegate.errors import DigestMismatch
from tidegate.registry_files import digest_of_options, scheme_of
from tidegate.settings import EndpointSettings, Settings, VariantSettings
from tidegate.storage.records import Published
from tidegate.storage.store import Store, Unit
from tidegate.types import EndpointPlan, ModelRef, RoutingSnapshot, Variant

logger = logging.getLogger("tidegate.releases")

WHO = "configuration"


def bootstrap(store: Store, registry: Registry, settings: Settings, clock: Clock) -> Published | None:
    """Publishes what is new; None when nothing is. Raises ModelError, RegistryAway, StoreAway.

    Any number of control planes may do it at once.
    """
    wanted = {name: plan_of(name, endpoint, registry) for name, endpoint in settings.endpoints.items()}
    now = clock.wall()
    with store.begin() as unit:
        newest = unit.snapshots.latest()
        current = newest.snapshot if newest is not None else RoutingSnapshot(0, {})
        default = settings.default_endpoint or next(iter(settings.endpoints), current.default_endpoint)
        plans, reasons = dict(current.endpoints), []
        for name, plan in wanted.items():
            said = audit.without_secrets(_said(settings.endpoints[name], plan))  # as the log keeps it
            before = _said_before(unit, name)
            if name in plans and before == said:
                continue
            if name in plans and before is not None and (busy := _busy(unit, name)):
                logger.warning("endpoint %s was changed in the configuration, but %s: not now", name, busy)
                continue
            known = name in plans
            changes = not known or (before is not None and before != said)
            text = f"{name} serves {plan.baseline.model.uri} version {plan.baseline.model.version}"
            audit.record(
                unit, WHO, "endpoint.configure", _target(name), at=now, before=before, after=said,
                reason=text if changes else "the configuration is known from now on",
            )  # fmt: skip
            if changes:
                plans[name] = plan
                reasons.append(text)
        if not reasons and default == current.default_endpoint:
            return None
        return unit.snapshots.publish(
            RoutingSnapshot(0, plans, default),
            reason="configuration: " + ("; ".join(reasons) or f"the default endpoint is {default}"),
            author=WHO,
            at=now,
        )


def plan_of(name: str, endpoint: EndpointSettings, registry: Registry) -> EndpointPlan:
    """As the configuration says, with every model pinned to the bytes, and the version, that are there now."""
    variants = [Variant("baseline", _pinned(endpoint, registry))]
    variants += [
        Variant(
            variant_name,
            _pinned(variant, registry),
            share=0 if variant.shadow else round(variant.share * 100),
            shadow=variant.shadow,
        )
        for variant_name, variant in endpoint.variants.items()
    ]
    return EndpointPlan(name, tuple(variants), salt=endpoint.routing.salt)


def _pinned(model: EndpointSettings | VariantSettings, registry: Registry) -> ModelRef:
    if scheme_of(model.model) == "fake":  # a model of options alone, as the data plane knows it
        digest = model.digest or digest_of_options(model.options)
        version = model.version or digest.removeprefix("sha256:")[:SHOWN_DIGITS]
        return ModelRef(model.model, "", version, digest, model.runtime, model.options)
    found = registry.ref(model.model)
    if model.digest and found.digest and model.digest.lower() != found.digest:
        raise DigestMismatch(f"{model.model}: the bytes are {found.digest}, pinned is {model.digest}")
    return msgspec.structs.replace(
        found,
        version=model.version or found.version,
        digest=found.digest or model.digest,
        runtime=model.runtime if model.runtime != "auto" else found.runtime,
        options=model.options or found.options,
    )


def _said(endpoint: EndpointSettings, plan: EndpointPlan) -> dict[str, Any]:
    """What counts as a change. An alias is its name here: where it points to is the registry's to tell."""
    models: dict[str, Any] = {}
    entries: list[EndpointSettings | VariantSettings] = [endpoint, *endpoint.variants.values()]
    for variant, written in zip(plan.variants, entries, strict=True):
        named = scheme_of(written.model) in ("models", "runs")
        models[variant.name] = {
            "model": written.model,
            "version": written.version,
            "digest": "" if named else variant.model.digest,
            "runtime": written.runtime,
            "options": msgspec.to_builtins(written.options),
            "share": variant.share,
            "shadow": variant.shadow,
        }
    return {"models": models, "salt": plan.salt}


def _said_before(unit: Unit, name: str) -> dict[str, Any] | None:
    for row in unit.audit.list(limit=1, target=_target(name)):
        after = msgspec.json.decode(row.body, type=audit.Change).after
        return after if isinstance(after, dict) else None
    return None


def _busy(unit: Unit, name: str) -> str:
    """What is open on the endpoint, and would be ended by another baseline; empty when nothing is."""
    releases = unit.releases.list(endpoint=name, open=True, limit=1)
    experiments = [row for row in unit.experiments.list(limit=1000, open=True) if row.endpoint == name]
    found = [f"release {row.id} is open" for row in releases]
    found += [f"experiment {row.name} is {row.state}" for row in experiments]
    return found[0] if found else ""


def _target(name: str) -> str:
    return f"configuration:{name}"
