"""The loaded versions. A snapshot is loaded and warmed beside the one in force, swapped in one assignment, and what it
no longer names is closed once its last request has left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from tidegate.errors import ModelError, NotFound, NotReady, TidegateError, UserError
from tidegate.metrics import Counter, Latency, Metrics
from tidegate.serving.cache.memory import MemoryCache
from tidegate.serving.loading import Loader, Loading
from tidegate.serving.routing import Router
from tidegate.serving.runtimes.signatures import example_inputs
from tidegate.serving.shelf import Shelf
from tidegate.serving.statistics import statistics_of
from tidegate.serving.version import Version, timeout_of
from tidegate.settings import EndpointSettings
from tidegate.telemetry import (
    CACHE,
    FALLBACKS,
    REJECTED,
    RELEASE_SHARE,
    REQUEST_SECONDS,
    REQUESTS,
    SNAPSHOT_NUMBER,
)
from tidegate.types import EndpointPlan, RoutingSnapshot, Signature

if TYPE_CHECKING:
    from tidegate.serving.events.recorder import Recorder
    from tidegate.serving.events.recording import Recording

logger = logging.getLogger("tidegate.live")

RETIRE_SECONDS = 60.0
"""Longest time that a version which is no longer served may finish what it runs."""
CLOSE_SECONDS = 5.0
"""The same at the end of the process, for all of them."""

Operation = Callable[[str, str], Awaitable[None]]
StoreState = Literal["none", "following", "away"]
Origin = Literal["configuration", "store", "disk"]


class Endpoint:
    """A plan in force: what it takes to answer for one name."""

    def __init__(
        self,
        plan: EndpointPlan,
        settings: EndpointSettings,
        versions: Mapping[str, Version],
        cache: MemoryCache | None,
        metrics: Metrics,
    ) -> None:
        self.name = plan.name
        self.plan = plan
        self.settings = settings
        self.versions = versions
        self.baseline = versions[plan.baseline.name]
        self.signature = self.baseline.signature
        self.router = Router(plan)
        self.cache = cache
        self.timeout = settings.timeout_ms / 1000
        self.unit_header = settings.routing.unit_header.lower().encode("latin-1")
        self.force_header = settings.routing.force_header.lower().encode("latin-1")
        self.calls_in_flight = 0
        self.shadows_in_flight = 0
        self.recording: Recording | None = None
        """What is told to the store; None without one."""
        self._metrics = metrics
        self._requests: dict[tuple[str, str, str], Counter] = {}
        self.latency: Mapping[str, Latency] = {
            name: metrics.latency(REQUEST_SECONDS, plan.name, name) for name in versions
        }

    @property
    def busy(self) -> bool:
        return bool(self.calls_in_flight or self.shadows_in_flight)

    def count(self, variant: str, protocol: str, outcome: str) -> None:
        key = (variant, protocol, outcome)
        counter = self._requests.get(key)
        if counter is None:
            counter = self._requests[key] = self._metrics.counter(REQUESTS, self.name, *key)
        counter.add()

    def count_rejected(self, reason: str) -> None:
        self._metrics.counter(REJECTED, self.name, reason).add()

    def count_fallback(self, reason: str) -> None:
        self._metrics.counter(FALLBACKS, self.name, reason).add()

    def count_cache(self, result: str) -> None:
        self._metrics.counter(CACHE, self.name, result).add()


class Prepared(msgspec.Struct, frozen=True, eq=False):
    """A snapshot whose versions are all loaded and warm, and which takes no traffic yet."""

    snapshot: RoutingSnapshot
    endpoints: Mapping[str, Endpoint]


class Standing(msgspec.Struct, frozen=True):
    """How this instance stands with the store."""

    store: StoreState = "none"
    refused: int = 0
    """A newer snapshot that it could not load; 0 when there is none."""


class Live:
    """What this process serves now. ``loader`` blocks and runs in a thread; ``operate`` asks whoever owns the
    configuration to load or unload an endpoint in every process."""

    def __init__(self, loader: Loader, metrics: Metrics, operate: Operation | None = None) -> None:
        self.snapshot = RoutingSnapshot(0, {})
        self.endpoints: Mapping[str, Endpoint] = {}
        self.draining = False
        self.waiting = False
        """True while other serving processes behind the same port are not warm yet."""
        self.last_error = ""
        self.recorder: Recorder | None = None
        """Records what every endpoint answers; None without a store."""
        self._metrics = metrics
        self._operate = operate
        self.standing = Standing()
        self.origin: Origin = "configuration"
        """Where the snapshot in force came from."""
        self.since = 0.0
        """When it came into force, in seconds since the epoch."""
        self._shelf = Shelf()
        self._loading = Loading(loader, metrics, self._shelf, self._sweep)
        self._turn = 0
        self._preparing = False
        self._prepared: Prepared | None = None
        self._lingering: list[Endpoint] = []
        self._closing: set[asyncio.Task[None]] = set()

    def endpoint(self, name: str) -> Endpoint:
        """By name, or the default for ``""``. Raises NotFound, and NotReady before the first snapshot."""
        endpoint = self.endpoints.get(name or self.snapshot.default_endpoint)
        if endpoint is None:
            if not self.snapshot.number:
                raise NotReady("the models are still being loaded; try again soon")
            known = ", ".join(sorted(self.endpoints)[:20]) or "none"
            raise NotFound(
                f"no endpoint {name[:80]!r}; served: {known}" if name else f"no default endpoint; served: {known}"
            )
        return endpoint

    async def apply(self, snapshot: RoutingSnapshot, settings: Mapping[str, EndpointSettings]) -> None:
        """Loads and warms what is new, then swaps. On failure everything stays as it was, and ModelError says why."""
        self.commit(await self.prepare(snapshot, settings))

    async def prepare(self, snapshot: RoutingSnapshot, settings: Mapping[str, EndpointSettings]) -> Prepared:
        """Loads and warms what is new beside what is in force, which goes on unchanged; ModelError says why it cannot.

        What was prepared before and not committed is discarded, but for what this needs, too. One that is still being
        prepared gives way at once: a rollback does not wait for the candidate that it removes.
        """
        self._turn += 1
        turn = self._turn
        self._prepared, self._preparing = None, True
        claimed: list[Version] = []
        try:
            endpoints = {
                name: await self._endpoint(plan, settings[name], claimed) for name, plan in snapshot.endpoints.items()
            }
            if self.recorder is not None:
                await self.recorder.attach(snapshot.number, endpoints)
            if turn != self._turn:
                raise ModelError(f"snapshot {snapshot.number} was overtaken by a newer one")
        except Exception as error:
            if turn == self._turn:
                self.last_error = str(error) if isinstance(error, TidegateError) else type(error).__name__
                self._discard_fresh()
            else:
                self._sweep()
            raise
        finally:
            if turn == self._turn:
                self._preparing = False
        for version in self._shelf.take_fresh(but=claimed):
            self._retire(version, ())
        self._prepared = Prepared(snapshot, endpoints)
        return self._prepared

    def commit(self, prepared: Prepared) -> None:
        """Swaps: no request sees a part of it. Raises ValueError for what was discarded, or prepared before another."""
        if prepared is not self._prepared:
            raise ValueError(f"snapshot {prepared.snapshot.number} is not prepared any more")
        self._shelf.keep()
        self._prepared = None
        self._put_in_force(prepared.snapshot, prepared.endpoints)

    def discard(self, prepared: Prepared) -> None:
        """Closes what was loaded for it; nothing happens when that was done before."""
        if prepared is self._prepared:
            self._discard_fresh()

    def _discard_fresh(self) -> None:
        self._prepared = None
        for version in self._shelf.take_fresh():
            self._retire(version, ())

    async def _endpoint(self, plan: EndpointPlan, settings: EndpointSettings, claimed: list[Version]) -> Endpoint:
        current = self.endpoints.get(plan.name)
        versions: dict[str, Version] = {}
        for variant in plan.variants:
            now = None if current is None else current.versions.get(variant.name)
            version = await self._loading.version(plan.name, variant, settings, claimed, now)
            claimed.append(version)
            versions[variant.name] = version.under(variant.name, timeout_of(variant.name, settings))
        baseline = versions[plan.baseline.name]
        for name, version in versions.items():
            _check_same_inputs(plan.name, name, baseline.signature, version.signature)
        cache = None
        if settings.cache is not None:
            cache = current.cache if current is not None and current.settings.cache == settings.cache else None
            if cache is None:
                cache = MemoryCache(settings.cache.ttl_seconds, int(settings.cache.max_mb * 2**20), perf_counter)
        return Endpoint(plan, settings, versions, cache, self._metrics)

    def _sweep(self) -> None:
        """A model came in that nobody waits for any more; one that is being prepared looks after that at its end."""
        if self._preparing:
            return
        held = [] if self._prepared is None else self._prepared.endpoints.values()
        for version in self._shelf.take_fresh(but=[v.origin for endpoint in held for v in endpoint.versions.values()]):
            self._retire(version, ())

    def _put_in_force(self, snapshot: RoutingSnapshot, endpoints: Mapping[str, Endpoint]) -> None:
        before = [e for e in (*self._lingering, *self.endpoints.values()) if e is not endpoints.get(e.name)]
        self._lingering = [endpoint for endpoint in before if endpoint.busy]
        self.endpoints = endpoints
        self.snapshot = snapshot
        self.last_error = ""
        used = {id(version.origin) for endpoint in endpoints.values() for version in endpoint.versions.values()}
        for version in [v for v in self._shelf if id(v) not in used]:
            self._retire(version, before)
        self._metrics.gauge(SNAPSHOT_NUMBER).set(snapshot.number)
        for endpoint in before:
            self._metrics.gauge(RELEASE_SHARE, endpoint.name).set(0.0)
        for name, plan in snapshot.endpoints.items():
            share = sum(variant.share for variant in plan.variants[1:])
            self._metrics.gauge(RELEASE_SHARE, name).set(share / 10_000)
        logger.info("snapshot %d in force", snapshot.number, extra={"snapshot": snapshot.number})

    def _retire(self, version: Version, holders: Collection[Endpoint]) -> None:
        """Closes the version once the calls of the endpoints that held it have ended: one may still fall back to it."""
        self._shelf.remove(version)
        holding = [e for e in holders if any(held.origin is version for held in e.versions.values())]

        async def close() -> None:
            patience = perf_counter() + RETIRE_SECONDS
            while version.busy or any(endpoint.busy for endpoint in holding):
                await asyncio.sleep(0.02)
                if perf_counter() > patience:
                    logger.warning("version %s still runs after %g s; closing it", version.ref.version, RETIRE_SECONDS)
                    break
            try:
                await version.close()
            except Exception:
                logger.exception("version %s could not be closed", version.ref.version)

        task = asyncio.ensure_future(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def not_ready(self) -> list[str]:
        """Why this process should get no traffic; empty when it should."""
        if self.draining:
            return ["draining"]
        if not self.snapshot.number:
            return ["no snapshot in force yet"]
        return ["other serving processes are still loading"] if self.waiting else []

    async def probe(self, seconds: float = 1.0) -> list[str]:
        """As ``not_ready``, and each baseline that failed several times in a row is tried on its example row."""
        reasons = self.not_ready()
        for endpoint in self.endpoints.values():
            version = endpoint.baseline
            if not version.breaker.tripped:
                continue
            inputs = example_inputs(version.signature, 1)
            try:
                await version.run(inputs, 1, perf_counter() + seconds, 0, None)
                version.breaker.succeeded()
            except Exception as error:  # noqa: BLE001 - a model may raise anything
                reasons.append(f"{endpoint.name}: the model does not answer ({type(error).__name__})")
        return reasons

    async def load_endpoint(self, name: str) -> None:
        """Loads the endpoint again from its source, in every process. Raises NotFound, or NotReady that says why not."""
        await self._ask("load", name)

    async def unload_endpoint(self, name: str) -> None:
        """Stops serving the endpoint, in every process. Raises NotFound, or NotReady that says why not."""
        self.endpoint(name)
        await self._ask("unload", name)

    async def _ask(self, operation: str, name: str) -> None:
        if self._operate is None:
            raise NotReady("this server was started without the means to load and unload", retry_after=60.0)
        try:
            await self._operate(operation, name)
        except UserError as error:  # who may ask this may read why: a model's place, a line of the configuration
            raise NotReady(f"{operation} of {name[:80]!r} failed, what was in force stays: {error}") from error

    def statistics(self, name: str) -> Mapping[str, Mapping[str, float]]:
        """Per variant, over all processes and since the start: requests, failures, seconds, rows, p50 and p99."""
        read = self._metrics.read()
        endpoint = self.endpoint(name)
        return {
            variant: statistics_of(read, endpoint, variant, version) for variant, version in endpoint.versions.items()
        }

    async def close(self) -> None:
        self._discard_fresh()
        for version in self._shelf:
            self._retire(version, ())
        if self._closing:
            await asyncio.wait(set(self._closing), timeout=CLOSE_SECONDS)


def _check_same_inputs(endpoint: str, variant: str, baseline: Signature, other: Signature) -> None:
    wanted = [(spec.name, spec.datatype == "BYTES", spec.shape) for spec in baseline.inputs]
    got = [(spec.name, spec.datatype == "BYTES", spec.shape) for spec in other.inputs]
    if wanted != got:
        raise ModelError(
            f"endpoint {endpoint!r}: variant {variant!r} takes other inputs than the baseline: {_show(got)} instead of {_show(wanted)}"
        )


def _show(specs: list[tuple[Any, ...]]) -> str:
    return ", ".join(f"{name}{list(shape)}" for name, _, shape in specs)
