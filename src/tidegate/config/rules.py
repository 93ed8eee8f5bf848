"""Rules between settings, which no single type can state. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tidegate.monitor_plan import BOUNDED, MonitorPlan
from tidegate.section import not_finite, seconds_of
from tidegate.settings import EndpointSettings, ReleaseSettings, Settings

BASELINE = "baseline"
SHORTEST = 1.0
"""Seconds of a window of monitoring, and between two looks."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def broken_rules(settings: Settings) -> list[tuple[str, str]]:
    """Pairs of dotted key and what is wrong."""
    return [*_server(settings), *_access(settings), *_endpoints(settings), *_jobs(settings)]


def _server(settings: Settings) -> Iterator[tuple[str, str]]:
    server = settings.server
    if server.grpc_port and server.grpc_port == server.port:
        yield "server.grpc_port", f"is the HTTP port too ({server.port}); choose another"
    if not _HEADER.fullmatch(server.correlation_header):
        yield "server.correlation_header", "is not the name of a header"
    if settings.tracing.endpoint and not settings.tracing.endpoint.startswith(("http://", "https://")):
        yield "tracing.endpoint", "must start with http:// or https://"


def _access(settings: Settings) -> Iterator[tuple[str, str]]:
    access = settings.access
    if access.operate_key and access.operate_key == access.predict_key:
        yield "access.operate_key", "equals access.predict_key, so that every caller could operate; choose another"


def _jobs(settings: Settings) -> Iterator[tuple[str, str]]:
    for name, job in settings.jobs.schedules.items():
        key = f"jobs.schedules.{name}"
        if seconds_of(job.every) < SHORTEST:
            yield f"{key}.every", f"is {job.every}; at least {SHORTEST:g}s"
        if job.kind == "report" and job.endpoint not in settings.endpoints:
            yield f"{key}.endpoint", f'a report needs an endpoint; none is called "{job.endpoint}"'


def _endpoints(settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.default_endpoint and settings.default_endpoint not in settings.endpoints:
        known = ", ".join(sorted(settings.endpoints)[:20]) or "none are configured"
        yield "default_endpoint", f'no endpoint is called "{settings.default_endpoint}"; endpoints: {known}'
    for name, endpoint in settings.endpoints.items():
        key = f"endpoints.{name}"
        if not _NAME.fullmatch(name):
            yield key, "a name has letters, digits, - and _, starts with a letter or digit, and has at most 63"
        yield from _endpoint(key, endpoint)


def _endpoint(key: str, endpoint: EndpointSettings) -> Iterator[tuple[str, str]]:
    yield from _model(key, endpoint.model, endpoint.digest)
    total = sum(variant.share for variant in endpoint.variants.values())
    if total > 100:
        yield f"{key}.variants", f"the shares add up to {total:g}; at most 100"
    if endpoint.batching.max_queue_rows < endpoint.batching.max_rows:
        yield (
            f"{key}.batching.max_queue_rows",
            f"is {endpoint.batching.max_queue_rows}; at least batching.max_rows ({endpoint.batching.max_rows})",
        )
    routing = endpoint.routing
    for field, header in (("unit_header", routing.unit_header), ("force_header", routing.force_header)):
        if not _HEADER.fullmatch(header):
            yield f"{key}.routing.{field}", "is not the name of a header"
    if routing.unit_header.lower() == routing.force_header.lower():
        yield f"{key}.routing.force_header", "is the unit header too; choose another"
    for name, variant in endpoint.variants.items():
        here = f"{key}.variants.{name}"
        if name == BASELINE:
            yield here, f"{BASELINE} is the name of the endpoint's own model; choose another"
        elif not _NAME.fullmatch(name):
            yield here, "a name has letters, digits, - and _, starts with a letter or digit, and has at most 63"
        if variant.shadow and variant.share:
            yield f"{here}.share", "a shadow takes no traffic; leave out share or shadow"
        if variant.timeout_ms > endpoint.timeout_ms:
            yield f"{here}.timeout_ms", f"is longer than the endpoint's timeout_ms ({endpoint.timeout_ms:g})"
        yield from _model(here, variant.model, variant.digest)
    yield from _release(f"{key}.release", endpoint.release)
    if endpoint.monitor is not None:
        yield from _monitor(f"{key}.monitor", endpoint.monitor)


def _release(key: str, release: ReleaseSettings) -> Iterator[tuple[str, str]]:
    for place in not_finite(release):
        yield ".".join([key, *map(str, place)]), "must be a finite number"
    if not release.steps or list(release.steps) != sorted(set(release.steps)):
        yield f"{key}.steps", "must be percentages that grow, such as [1, 5, 25, 50, 100]"
    elif release.steps[-1] != 100:
        yield f"{key}.steps", f"end at {release.steps[-1]:g}; the last step of a release is 100"
    if release.step.max_seconds < release.step.min_seconds:
        yield f"{key}.step.max_seconds", f"is less than min_seconds ({release.step.min_seconds:g})"
    for index, guardrail in enumerate(release.guardrails):
        here = [name for name in guardrail.__struct_fields__ if getattr(guardrail, name) is not None]
        if len(here) != 1:
            known = ", ".join(guardrail.__struct_fields__)
            found = " and ".join(here) or "none"
            yield f"{key}.guardrails.{index}", f"expected exactly one of {known}, got {found}"
        elif guardrail.prometheus is not None and not guardrail.prometheus.url.startswith(("http://", "https://")):
            yield f"{key}.guardrails.{index}.prometheus.url", "must start with http:// or https://"


def _monitor(key: str, plan: MonitorPlan) -> Iterator[tuple[str, str]]:
    for place in not_finite(plan):
        yield ".".join([key, *map(str, place)]), "must be a finite number"
    for field, duration in (("window", plan.window), ("every", plan.every)):
        if seconds_of(duration) < SHORTEST:
            yield f"{key}.{field}", f"is {duration}; at least {SHORTEST:g}s"
    performance = plan.performance
    tasks = BOUNDED if performance.task == "auto" else {performance.task: BOUNDED[performance.task]}
    known = [metric for names in tasks.values() for metric in names]
    for name, bound in performance.bounds.items():
        here = f"{key}.performance.bounds.{name}"
        if name not in known:
            yield here, f"is no metric of quality; one of: {', '.join(known)}"
        elif (bound.min, bound.max, bound.max_drop) == (None, None, None):
            yield here, "is empty; set min, max or max_drop"
        elif bound.min is not None and bound.max is not None and bound.min > bound.max:
            yield f"{here}.min", f"is greater than max ({bound.max:g})"
    retrain = plan.retrain
    if retrain is not None and not retrain.config.strip():
        yield f"{key}.retrain.config", "is empty; give the path of a training configuration"
    if retrain is not None and retrain.every is not None and seconds_of(retrain.every) < SHORTEST:
        yield f"{key}.retrain.every", f"is {retrain.every}; at least {SHORTEST:g}s"


def _model(key: str, model: str, digest: str) -> Iterator[tuple[str, str]]:
    if not model.strip():
        yield f"{key}.model", "is empty; give a path or URI"
    if digest and not _DIGEST.fullmatch(digest):
        yield f"{key}.digest", "expected sha256: and 64 hexadecimal digits"
