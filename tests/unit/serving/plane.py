"""A data plane of functions: everything is real but the arithmetic."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

import numpy as np

from tidegate.metrics import Metrics
from tidegate.serving.call import Call
from tidegate.serving.events.recorder import Recorder
from tidegate.serving.live import Live
from tidegate.serving.predict import Predictor, Tracer
from tidegate.serving.runtimes.base import LoadedModel
from tidegate.serving.version import Version
from tidegate.settings import EndpointSettings, VariantSettings
from tidegate.telemetry import Metric
from tidegate.testing.predictor import FunctionRuntime
from tidegate.types import (
    EndpointPlan,
    Exposing,
    ModelFacts,
    ModelRef,
    RoutingSnapshot,
    Signature,
    Tensors,
    TensorSpec,
    Variant,
)

Model = Callable[[Tensors], Tensors]

SIGNATURE = Signature((TensorSpec("x", "FP64"),), (TensorSpec("predictions", "FP64"),), example={"x": 1.0})


def column(*values: float) -> Tensors:
    return {"x": np.array(values, float)}


def times(factor: float) -> Model:
    """A model that multiplies, so that an answer tells both its row and its model."""
    return lambda inputs: {"predictions": inputs["x"] * factor}


def failing(inputs: Tensors) -> Tensors:
    raise ValueError("the model fails")


class Gate:
    """A model that waits in its thread until it is let go; it tells which batches came."""

    def __init__(self, factor: float = 1.0) -> None:
        self.batches: list[list[float]] = []
        self._factor = factor
        self._loop = asyncio.get_running_loop()
        self._entered: asyncio.Queue[int] = asyncio.Queue()
        self._opened = threading.Event()

    def __call__(self, inputs: Tensors) -> Tensors:
        self.batches.append(list(inputs["x"]))
        self._loop.call_soon_threadsafe(self._entered.put_nowait, len(inputs["x"]))
        assert self._opened.wait(20), "nobody opened the gate"
        return {"predictions": inputs["x"] * self._factor}

    async def entered(self) -> int:
        """Rows of the next batch, once the model has it in hand."""
        return await asyncio.wait_for(self._entered.get(), 10)

    def open(self) -> None:
        self._opened.set()

    def shut(self) -> None:
        self._opened.clear()


def loaded(
    model: Model, *, inline: bool = False, digest: str = "sha256:0", signature: Signature = SIGNATURE
) -> LoadedModel:
    facts = ModelFacts(uri="", digest=digest, runtime="function", platform="function", inline=inline)
    return LoadedModel(FunctionRuntime(signature, model), facts)


def version_of(model: LoadedModel, metrics: Metrics | None = None, **batching: Any) -> Version:
    """One version, outside any endpoint. Needs a running loop."""
    settings = EndpointSettings(model="baseline", batching=batching_of(batching))
    variant = Variant("baseline", ModelRef("baseline"))
    return Version("e", variant, model, settings, metrics or Metrics(), asyncio.get_running_loop())


def batching_of(values: Mapping[str, Any]) -> Any:
    from tidegate.settings import Batching

    return Batching(**values)


class Plane:
    """One endpoint ``e`` whose baseline and candidates are functions. Shares are in percent."""

    def __init__(
        self,
        models: Mapping[str, Model | LoadedModel],
        tracer: Tracer | None = None,
        recorder: Recorder | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.models = dict(models)
        self.loads: list[str] = []
        self.metrics = metrics or Metrics()
        self.live = Live(self._load, self.metrics)
        self.live.recorder = recorder
        self.draws: list[float] = []
        self.predictor = Predictor(self.live, tracer, self._draw)

    def _load(self, variant: Variant, settings: EndpointSettings) -> LoadedModel:
        self.loads.append(variant.name)
        model = self.models[variant.model.uri]
        return model if isinstance(model, LoadedModel) else loaded(model, digest=variant.model.digest)

    def _draw(self) -> float:
        return self.draws.pop(0) if self.draws else 0.999

    async def apply(
        self,
        number: int = 1,
        shares: Mapping[str, float] | None = None,
        shadows: tuple[str, ...] = (),
        timeouts: Mapping[str, float] | None = None,
        versions: Mapping[str, str] | None = None,
        experiment: Exposing | None = None,
        **settings: Any,
    ) -> None:
        """``versions``: what each variant's model is called and found under; its own name if not given."""
        called = {name: name for name in self.models} | dict(versions or {})
        others = [name for name in self.models if name != "baseline" and name in ({*(shares or {})} | {*shadows})]
        variants = tuple(
            Variant(
                name,
                ModelRef(called[name], "e", called[name], f"sha256:{called[name]}"),
                share=round((shares or {}).get(name, 0) * 100),
                shadow=name in shadows,
            )
            for name in ["baseline", *others]
        )
        declared = {
            name: VariantSettings(
                model=name,
                share=(shares or {}).get(name, 0.0),
                shadow=name in shadows,
                timeout_ms=(timeouts or {}).get(name, 0.0),
            )
            for name in others
        }
        snapshot = RoutingSnapshot(number, {"e": EndpointPlan("e", variants, experiment=experiment)}, "e")
        await self.live.apply(snapshot, {"e": EndpointSettings(model="baseline", variants=declared, **settings)})

    def call(self, *values: float, seconds: float = 10.0, **named: Any) -> Call:
        now = perf_counter()
        endpoint = self.live.endpoint("e")
        return Call(endpoint, column(*values), len(values), "native", "id-1", now, now + seconds, **named)

    async def ask(self, *values: float, **named: Any) -> list[float]:
        prediction = await self.predictor.predict(self.call(*values, **named))
        return list(prediction.outputs["predictions"])

    def count(self, metric: Metric, *labels: str) -> float:
        """Sum of a counter over every series that begins with these labels."""
        read = self.metrics.read()
        return sum(cells[0] for key, cells in read.items() if key[: 1 + len(labels)] == (metric.name, *labels))

    def counts(self, metric: Metric) -> dict[tuple[str, ...], float]:
        """Every series of a counter, without the endpoint's label."""
        return {key[2:]: cells[0] for key, cells in self.metrics.read().items() if key[0] == metric.name}


@asynccontextmanager
async def serving(
    models: Mapping[str, Model | LoadedModel], tracer: Tracer | None = None, **applied: Any
) -> AsyncIterator[Plane]:
    plane = Plane(models, tracer)
    await plane.apply(**applied)
    try:
        yield plane
    finally:
        await plane.live.close()


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Polls, for what happens in other threads and tasks; fails when it does not happen."""
    deadline = perf_counter() + seconds
    while not condition():
        assert perf_counter() < deadline, "it did not happen in time"
        await asyncio.sleep(0.002)
