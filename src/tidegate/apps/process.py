"""One serving process: the composition root of the data plane. Builds every object, answers until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import uvicorn

from tidegate import __version__
from tidegate.apps.connection import SILENT_SECONDS, Connection
from tidegate.apps.desired import Desired, Told
from tidegate.clock import SystemClock
from tidegate.errors import TidegateError
from tidegate.keys import KnownKey
from tidegate.metrics import Metrics
from tidegate.protocols.health import Health
from tidegate.protocols.http import App
from tidegate.protocols.keyring import Keyring
from tidegate.protocols.meters import Meters
from tidegate.protocols.mlflow import Mlflow
from tidegate.protocols.native import Native
from tidegate.protocols.openapi import OpenApi
from tidegate.protocols.v2 import OpenInference
from tidegate.serving.live import CLOSE_SECONDS, Live, Prepared
from tidegate.serving.predict import Predictor, Tracer
from tidegate.serving.runtimes.base import LoadedModel
from tidegate.serving.runtimes.load import load_model
from tidegate.serving.shelf import isolation_of, patience_of
from tidegate.serving.snapshots.file import snapshot_of, trusted
from tidegate.serving.snapshots.publication import followed, overlay
from tidegate.settings import EndpointSettings, Settings, Trust
from tidegate.telemetry import BUILD_INFO
from tidegate.types import EndpointPlan, RoutingSnapshot, Variant

if TYPE_CHECKING:
    from tidegate.config import Loaded
    from tidegate.protocols.grpc import GrpcServer
    from tidegate.serving.events.recorder import Recorder

logger = logging.getLogger("tidegate.serve")

Operate = Callable[[str, str], Awaitable[None]]

MOST_TEXT = 4096
"""Characters of an error that is told to others."""

RECORD_SECONDS = 5.0
"""Longest that the end of the process waits for the store to take what was recorded last."""

FRESH_SECONDS = 1.0
"""How long a connection that was taken just before the end may keep its first request to itself."""

END_SECONDS = FRESH_SECONDS + CLOSE_SECONDS + RECORD_SECONDS + 4.0
"""Longest that the end takes beyond ``drain_seconds`` and ``shutdown_seconds``."""


_LOOK_TICKS = 50
"""Of uvicorn's ticks, ten a second: how often connections that say nothing are looked for."""


class _Uvicorn(uvicorn.Server):
    """Leaves the signals to the process, and ends without cutting off a client that has only just connected.

    A client may send a request again when a connection that had answered before is closed under it, but not its
    first: so those that have sent nothing yet are waited for.
    """

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for taken in sockets or []:
            taken.close()
        patience = asyncio.get_running_loop().time() + FRESH_SECONDS
        # One look more than the loop needs: a connection may be taken, but not yet made known.
        await asyncio.sleep(0.02)
        while self._has_fresh() and asyncio.get_running_loop().time() < patience:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        if counter % _LOOK_TICKS == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.close_if_silent(now)
        return await super().on_tick(counter)

    def _has_fresh(self) -> bool:
        return any(getattr(connection, "cycle", True) is None for connection in self.server_state.connections)


class ServingProcess:
    """``operate`` is asked to load or unload an endpoint everywhere; ``first`` brings the first snapshot into force, if that
    takes more than ``apply``; ``on_ready`` is called once everything is warm, with
    the gRPC port. ``grpc_port`` is the one that all processes share, where the settings leave it open. With ``early``
    connections are taken from the start, so that health answers while the models load; a process that joins others takes
    them only once it is warm, since a caller would be refused here while another process could answer."""

    def __init__(
        self,
        desired: Desired,
        listening: socket.socket,
        *,
        index: int = 0,
        grpc_port: int = 0,
        early: bool = True,
        metrics_folder: Path | None = None,
        operate: Operate | None = None,
        first: Callable[[], Awaitable[None]] | None = None,
        on_ready: Callable[[int], None] | None = None,
    ) -> None:
        settings = desired.loaded.settings
        self.settings: Settings = settings
        self.grpc_port = 0
        self._desired = desired
        self._grpc_port = grpc_port
        self._listening = listening
        self._early = early
        self._first = first
        self._on_ready = on_ready
        self._pinned: Mapping[str, EndpointPlan] = {}
        """The configuration's own plans, as they were when it was read."""
        self._reading = 0
        self._stops = 0
        self.stopping = asyncio.Event()
        self._trust = trusted(settings, desired.loaded.base)
        self.metrics = Metrics(metrics_folder, index)
        self.metrics.gauge(BUILD_INFO, __version__).set(1.0)
        self.live = Live(self._load_model, self.metrics, operate)
        self.live.recorder = _recorder(desired.loaded, self.metrics)
        self.predictor = Predictor(self.live, _tracer(settings))
        self.keyring = Keyring(Meters(metrics_folder, index, settings.server.workers))
        if not settings.store.url:
            self.keyring.update(())  # there are none, and none will come
        self._keys: tuple[KnownKey, ...] | None = None
        self.app = _app(self.predictor, self.metrics, settings, self.keyring)
        self._uvicorn = _Uvicorn(_uvicorn_config(self.app, settings))
        self._grpc: GrpcServer | None = None

    async def run(self) -> None:
        """Serves until ``stop``; raises the error that kept the first snapshot from loading."""
        serving = self._serve() if self._early else None
        try:
            await (self._first or self._apply_desired)()
            await self._start_grpc()
            _settle_memory()
            serving = serving or self._serve()
            if self._on_ready is not None:
                self._on_ready(self.grpc_port)
            if self.live.recorder is not None:
                self.live.recorder.start()
            await self.stopping.wait()
            await self._drain()
        finally:
            self._uvicorn.should_exit = True
            if serving is not None:
                await serving
            await self.live.close()
            if self.live.recorder is not None:
                await asyncio.to_thread(self.live.recorder.close, RECORD_SECONDS)
            _close(self.predictor)

    def _serve(self) -> asyncio.Task[None]:
        return asyncio.create_task(self._uvicorn.serve(sockets=[self._listening]))

    async def _apply_desired(self) -> None:
        await self.apply(self._desired)

    async def apply(self, desired: Desired) -> None:
        """Loads and warms, then swaps; on failure what is in force stays, and the error says why."""
        self.commit(await self.prepare(desired), desired)

    async def prepare(self, desired: Desired) -> Prepared:
        """Loads and warms beside what is in force, which goes on unchanged; the error says why that failed."""
        settings = desired.loaded.settings
        trust = trusted(settings, desired.loaded.base)
        pinned = self._pinned if desired.reading == self._reading else {}
        snapshot = await asyncio.to_thread(_snapshot_of, desired, trust, pinned)
        self._trust = trust  # only loads ask for it
        return await self.live.prepare(snapshot, settings.endpoints)

    def commit(self, prepared: Prepared, desired: Desired) -> None:
        """Swaps what was prepared for this into force."""
        self.live.commit(prepared)
        self.settings = desired.loaded.settings
        published = desired.published
        theirs = () if published is None else published.endpoints
        own = {name: plan for name, plan in prepared.snapshot.endpoints.items() if name not in theirs}
        self._pinned = {**self._pinned, **own} if desired.reading == self._reading else own
        self._reading = desired.reading
        self.live.origin = "configuration" if published is None else published.origin
        self.live.since = SystemClock.wall()

    def take(self, told: Told) -> None:
        """What the owner says beside what is to be served."""
        self.live.standing = told.standing
        if told.keys is not None and told.keys != self._keys:
            self._keys = told.keys
            self.keyring.update(told.keys)

    def stop(self) -> None:
        """First call: drain and end, or end at once while nothing is served yet: a load cannot be interrupted.
        Second call: end at once."""
        self._stops += 1
        if not self.live.snapshot.number:
            logger.info("told to stop while the models were loading")
            logging.shutdown()
            os._exit(0)
        if self._stops > 1:
            logger.warning("told twice to stop: ending at once")
            os._exit(1)
        self.stopping.set()

    def handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                loop.add_signal_handler(number, self.stop)
            except NotImplementedError:  # Windows
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(self.stop))

    async def _drain(self) -> None:
        """Readiness goes off first; connections are still taken for the grace period, then only those in flight end."""
        self.live.draining = True
        logger.info("draining")
        await asyncio.sleep(self.settings.server.drain_seconds)
        if self._grpc is not None:
            await self._grpc.stop(self.settings.server.shutdown_seconds)

    async def _start_grpc(self) -> None:
        server = self.settings.server
        if server.grpc_port is None:
            return
        from tidegate.protocols.grpc import GrpcServer

        self._grpc = GrpcServer(
            self.predictor,
            self.settings.access,
            self.settings.limits,
            share_port=server.workers > 1,
            correlation_header=server.correlation_header,
            log_requests=self.settings.logs.requests,
            keyring=self.keyring,
        )
        self.grpc_port = await self._grpc.start(server.host, self._grpc_port or server.grpc_port)

    def _load_model(self, variant: Variant, endpoint: EndpointSettings) -> LoadedModel:
        return open_variant(variant, endpoint, self._trust, serving=self.live.snapshot.number > 0)


def open_variant(variant: Variant, endpoint: EndpointSettings, trust: Trust, *, serving: bool) -> LoadedModel:
    """Loads a variant's model: in this process, or in one of its own where a fault must stay there.

    A candidate belongs into a process of its own unless it turns out to be a plain ONNX graph, which can neither hang nor
    run foreign code. While ``serving``, that is found out in the other process, since loading may be what crashes.
    Windows has no such processes, so there everything stays here.
    """
    isolation = isolation_of(variant.name, endpoint)
    if isolation == "no" or (isolation == "auto" and variant.model.uri.endswith(".onnx")):
        return load_model(variant.model, trust)
    if isolation == "auto" and not serving:
        loaded = load_model(variant.model, trust)
        if loaded.facts.inline:
            return loaded
        loaded.close()
    from tidegate.serving.runtimes.isolated import load_isolated

    loaded = load_isolated(variant.model, trust, timeout=patience_of(variant.name, endpoint))
    if isolation == "process" or not loaded.facts.inline:
        return loaded
    loaded.close()
    return load_model(variant.model, trust)


def _snapshot_of(desired: Desired, trust: Trust, pinned: Mapping[str, EndpointPlan]) -> RoutingSnapshot:
    """What is published laid over what is configured. Blocks, since it reads the files of models that are not pinned yet.

    Raises ModelError.
    """
    loaded, published, unloaded = desired.loaded, desired.published, desired.unloaded
    settings, base = loaded.settings, loaded.base
    plans = {} if published is None else followed(published, settings, base, unloaded)
    known = {name: plan for name, plan in pinned.items() if name not in unloaded}
    configured = snapshot_of(settings, base, desired.number, trust, {*unloaded, *plans, *known})
    return overlay(desired.snapshot, {**known, **configured.endpoints, **plans}, configured.default_endpoint, settings)


def _app(predictor: Predictor, metrics: Metrics, settings: Settings, keyring: Keyring) -> App:
    live = predictor.live
    routes = [
        *Health(live, metrics).routes(),
        *Native(predictor, settings.limits).routes(),
        *OpenInference(predictor).routes(),
        *Mlflow(predictor, settings.limits).routes(),
    ]
    return App(
        live,
        metrics,
        [*routes, *OpenApi(live, routes).routes()],
        limits=settings.limits,
        access=settings.access,
        server=settings.server,
        log_requests=settings.logs.requests,
        keyring=keyring,
    )


def _recorder(loaded: Loaded, metrics: Metrics) -> Recorder | None:
    store = loaded.settings.store
    if not store.url:
        return None
    from tidegate.apps.folders import folder_of
    from tidegate.serving.events.recorder import Recorder
    from tidegate.serving.events.store import StoreSink

    return Recorder(store, StoreSink(store.url), metrics, folder_of(loaded))


def _uvicorn_config(app: App, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Connection,
        loop="none",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=2048,
        timeout_keep_alive=int(SILENT_SECONDS),
        timeout_graceful_shutdown=math.ceil(settings.server.shutdown_seconds),  # whole seconds; 0 would end at once
    )


def _tracer(settings: Settings) -> Tracer | None:
    if not settings.tracing.endpoint:
        return None
    from tidegate.tracing import open_tracer

    return open_tracer(settings.tracing)


def _settle_memory() -> None:
    """What was imported and loaded stays: the collector need not walk through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def _close(predictor: Predictor) -> None:
    close = getattr(predictor.tracer, "close", None)
    if close is not None:
        close()


def run_loop(main: Callable[[], Awaitable[Any]]) -> Any:
    """``asyncio.run`` on uvloop where there is one."""
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with contextlib.suppress(ImportError):
        from uvloop import new_event_loop

    async def started() -> Any:
        return await main()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(started())


def leave(code: int) -> None:
    """Ends the process even when a model's thread hangs: nobody waits for its answer any more."""
    logging.shutdown()
    hung = [thread for thread in threading.enumerate() if thread is not threading.main_thread() and not thread.daemon]
    if hung:
        os._exit(code)
    raise SystemExit(code)


def explain(error: BaseException) -> str:
    """For the operator; not longer than a pipe, an acknowledgement or a sign of life may carry."""
    text = str(error) if isinstance(error, TidegateError) else f"{type(error).__name__}: {error}"
    return text[:MOST_TEXT]


def same_server(one: Settings, other: Settings) -> bool:
    """Whether a reload can bring ``other`` into force; ports, limits and keys need a restart."""
    keep = {"endpoints": {}, "default_endpoint": "", "trust": Trust()}
    return msgspec.structs.replace(one, **keep) == msgspec.structs.replace(other, **keep)
