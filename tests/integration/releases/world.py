"""Both planes in one process: real HTTP, a real store, models that fail as told, and a clock that is pushed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tests.stores import sqlite_store
from tests.unit.protocols.server import listening
from tidegate.clock import ManualClock
from tidegate.control.registry.base import ModelVersion
from tidegate.control.releases.release import Release
from tidegate.control.releases.service import ReleaseService
from tidegate.errors import NotFound
from tidegate.metrics import Metrics
from tidegate.observations import Beat
from tidegate.protocols.http import App
from tidegate.protocols.native import Native
from tidegate.serving.events.recorder import Recorder
from tidegate.serving.events.store import StoreSink
from tidegate.serving.live import Live
from tidegate.serving.predict import Predictor
from tidegate.serving.runtimes.base import LoadedModel
from tidegate.settings import Access, EndpointSettings, Limits, ReleaseSettings, Server, Settings, Store
from tidegate.testing.predictor import FunctionRuntime
from tidegate.types import EndpointPlan, ModelFacts, ModelRef, RoutingSnapshot, Signature, Tensors, TensorSpec, Variant

SIGNATURE = Signature(
    (TensorSpec("x", "FP64", (-1, 2)),), (TensorSpec("predictions", "FP64"),), example={"x": [0.0, 0.0]}
)
CONNECTIONS = 4


class Behaviour(msgspec.Struct, frozen=True):
    """How a model behaves: the share of calls that fail, its delay, and the share of answers that are class 2."""

    failing: float = 0.0
    slow_ms: float = 0.0
    slow_share: float = 1.0
    shifted: float = 0.0
    nan: float = 0.0

    def run(self, chance: random.Random) -> Any:
        def predict(inputs: Tensors) -> Tensors:
            rows = inputs["x"]
            if self.slow_ms and chance.random() < self.slow_share:
                import time

                time.sleep(self.slow_ms / 1000)
            if chance.random() < self.failing:
                raise ValueError("fails as told")
            classes = (rows[:, 0] > 0.5).astype(float)
            classes[[chance.random() < self.shifted for _ in classes]] = 2
            if chance.random() < self.nan:
                return {"predictions": classes * np.nan}
            return {"predictions": classes}

        return predict


class Registry:
    """Models are named behaviours."""

    def ref(self, uri: str) -> ModelRef:
        return ModelRef(uri, "", "2", digest=f"sha256:{uri}")

    def versions(self, name: str) -> list[ModelVersion]:
        return []

    def get(self, name: str, version: str) -> ModelVersion:
        raise NotFound(name)

    def register(self, name: str, source: Path | str, **_: Any) -> ModelVersion:
        raise NotFound(name)

    def profile(self, version: ModelVersion, most_bytes: int) -> bytes:
        raise NotFound(version.name)

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        raise NotFound(name)


class World:
    """``models``: a behaviour for every path that a model is named by."""

    def __init__(self, folder: Path, plan: ReleaseSettings, endpoints: Sequence[str], models: Mapping[str, Behaviour]):
        self.clock = ManualClock()
        self.chance = random.Random(7)
        self._models = models
        self.store = sqlite_store(folder, self.clock)
        settings = Store(url=f"sqlite:///{folder / 'store.db'}", event_sample=0.0)
        plain = {name: EndpointSettings(model="baseline", release=plan) for name in endpoints}
        self.settings = Settings(endpoints=plain, store=settings)
        self.metrics = Metrics()
        self.live = Live(self._load, self.metrics)
        self.recorder = Recorder(settings, StoreSink(settings.url), self.metrics, folder, clock=self.clock)
        self.live.recorder = self.recorder
        predictor = Predictor(self.live, draw=self.chance.random)
        self.app = App(
            self.live, self.metrics, Native(predictor, Limits()).routes(),
            limits=Limits(), access=Access(), server=Server(),
        )  # fmt: skip
        self.service = ReleaseService(self.store, Registry(), self.settings, self.clock, "world")
        self.bad_answers = 0
        self.answers = 0
        self._streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    def _load(self, variant: Variant, settings: EndpointSettings) -> LoadedModel:
        behaviour = self._models[variant.model.uri]
        facts = ModelFacts(
            uri=variant.model.uri,
            digest=variant.model.digest,
            runtime="function",
            platform="function",
            inline=not behaviour.slow_ms,
        )
        return LoadedModel(FunctionRuntime(SIGNATURE, behaviour.run(self.chance)), facts)

    async def begin(self, port: int) -> None:
        plans = {
            name: EndpointPlan(name, (Variant("baseline", ModelRef("baseline", "", "1", digest="sha256:baseline")),))
            for name in self.settings.endpoints
        }
        with self.store.begin() as unit:
            unit.snapshots.publish(RoutingSnapshot(0, plans), reason="first", author="test", at=self.clock.wall())
        for _ in range(CONNECTIONS):
            self._streams.append(await asyncio.open_connection("127.0.0.1", port))
        await self.follow()

    async def follow(self) -> None:
        """What a serving process does: the newest snapshot comes into force, and is acknowledged."""
        with self.store.read() as unit:
            newest = unit.snapshots.latest()
        assert newest is not None
        if newest.number != self.live.snapshot.number:
            await self.live.apply(newest.snapshot, self.settings.endpoints)
        now = self.clock.wall()
        beat = Beat(
            instance="one", host="h", port=1, pid=1, workers=1, started=0.0, time=now, snapshot=newest.number, models={}
        )
        with self.store.begin() as unit:
            unit.instances.beat(beat)
            unit.instances.acknowledge(newest.number, "one", now)

    async def send(self, endpoints: Sequence[str], each: int) -> None:
        """``each`` pipelined requests to each endpoint, over the open connections."""

        async def over(stream: tuple[asyncio.StreamReader, asyncio.StreamWriter], mine: Sequence[str]) -> None:
            reader, writer = stream
            for endpoint in mine:
                for _ in range(each):
                    body = b'{"features":[[%.3f,0.5]]}' % self.chance.random()
                    head = f"POST /predict/{endpoint} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                    writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
                for _ in range(each):
                    await self._answer(reader)

        await asyncio.gather(
            *(over(stream, endpoints[place::CONNECTIONS]) for place, stream in enumerate(self._streams))
        )

    async def _answer(self, reader: asyncio.StreamReader) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        self.answers += 1
        self.bad_answers += not head.startswith(b"HTTP/1.1 200")

    async def turn(self, seconds: float) -> None:
        """Counts reach the store, the clock moves on, releases are looked at, and what they publish comes into force."""
        self.clock.advance(seconds)
        assert await asyncio.to_thread(self.recorder.drain)
        await self.follow()
        self.service.tick()
        await self.follow()

    def open(self, names: Mapping[str, str]) -> list[str]:
        """Endpoints of those releases (endpoint -> id) that have not ended."""
        return [endpoint for endpoint, name in names.items() if self.release(name).open]

    def release(self, name: str) -> Release:
        return self.service.get(name)

    async def close(self) -> None:
        for _, writer in self._streams:
            writer.close()
            await writer.wait_closed()
        self.recorder.close(5.0)
        self.store.close()


@asynccontextmanager
async def world(
    folder: Path, plan: ReleaseSettings, endpoints: Sequence[str], models: Mapping[str, Behaviour]
) -> AsyncIterator[World]:
    made = World(folder, plan, endpoints, models)
    try:
        async with listening(made.app) as port:
            await made.begin(port)
            try:
                yield made
            finally:
                await made.close()
    finally:
        await made.live.close()
