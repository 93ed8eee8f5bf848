"""A data plane in memory, for tests of protocols: real records, a function in the model's place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tidegate.errors import NotFound
from tidegate.serving.call import Call
from tidegate.serving.live import Standing
from tidegate.serving.runtimes.base import LoadedModel
from tidegate.settings import EndpointSettings
from tidegate.types import (
    EndpointPlan,
    ModelFacts,
    ModelRef,
    Prediction,
    RoutingSnapshot,
    Signature,
    Tensors,
    Timing,
    Variant,
)

Model = Callable[[Tensors], Tensors]


class FunctionRuntime:
    """A function as a runtime."""

    platform = "function"
    inline_safe = True

    def __init__(self, signature: Signature, model: Model) -> None:
        self.signature = signature
        self._model = model

    def predict(self, inputs: Tensors) -> Tensors:
        return self._model(inputs)

    def close(self) -> None:
        pass


class FakeVersion:
    def __init__(self, variant: str, ref: ModelRef, loaded: LoadedModel) -> None:
        self.variant = variant
        self.ref = ref
        self.loaded = loaded
        self.ready = True


class FakeEndpoint(msgspec.Struct, frozen=True):
    name: str
    signature: Signature
    settings: EndpointSettings
    plan: EndpointPlan
    versions: Mapping[str, FakeVersion]
    unit_header: bytes = b"x-user-id"
    force_header: bytes = b"x-canary"

    def count(self, variant: str, protocol: str, outcome: str) -> None:
        pass

    @property
    def timeout(self) -> float:
        return self.settings.timeout_ms / 1000


class FakeLive:
    """Holds endpoints; ``reasons`` is what keeps it from being ready."""

    def __init__(self) -> None:
        self.standing = Standing()
        self.origin = "configuration"
        self.since = 0.0
        self._configured: dict[str, FakeEndpoint] = {}
        self.endpoints: dict[str, FakeEndpoint] = {}
        self.reasons: list[str] = []
        self.recorder: Any = None
        self.counts: dict[str, dict[str, float]] = {}

    def add(
        self, name: str, signature: Signature, model: Model, versions: tuple[str, ...] = ("1",), **settings: Any
    ) -> FakeEndpoint:
        """Adds an endpoint whose first version is the baseline; the others are candidates without traffic."""
        facts = ModelFacts(uri="", digest="", runtime="function", platform="function")
        loaded = LoadedModel(FunctionRuntime(signature, model), facts)
        variants = tuple(
            Variant("baseline" if index == 0 else f"candidate-{index}", ModelRef("", name, version))
            for index, version in enumerate(versions)
        )
        endpoint = FakeEndpoint(
            name,
            signature,
            EndpointSettings(model="", **settings),
            EndpointPlan(name, variants),
            {variant.name: FakeVersion(variant.name, variant.model, loaded) for variant in variants},
        )
        self._configured[name] = self.endpoints[name] = endpoint
        return endpoint

    @property
    def snapshot(self) -> RoutingSnapshot:
        return RoutingSnapshot(1, {name: endpoint.plan for name, endpoint in self._configured.items()})

    def endpoint(self, name: str) -> FakeEndpoint:
        name = name or next(iter(self.endpoints), "")
        if name not in self.endpoints:
            raise NotFound(f'no endpoint "{name}"; there are {", ".join(self.endpoints)}')
        return self.endpoints[name]

    def not_ready(self) -> list[str]:
        return self.reasons

    async def probe(self) -> list[str]:
        return self.reasons

    async def load_endpoint(self, name: str) -> None:
        if name not in self._configured:
            raise NotFound(f'no endpoint "{name}" is configured')
        self.endpoints[name] = self._configured[name]

    async def unload_endpoint(self, name: str) -> None:
        del self.endpoints[self.endpoint(name).name]

    def statistics(self, name: str) -> Mapping[str, Mapping[str, float]]:
        return {variant: self.counts[name] for variant in self.endpoints[name].versions if name in self.counts}


class FakePredictor:
    """Runs the model at once and remembers the calls it was given."""

    def __init__(self) -> None:
        self.live = FakeLive()
        self.calls: list[Call] = []

    async def predict(self, call: Call) -> Prediction:
        self.calls.append(call)
        version = call.endpoint.plan.baseline
        for variant in call.endpoint.plan.variants:
            if call.version == variant.model.version:
                version = variant
        outputs = call.endpoint.versions[version.name].loaded.runtime.predict(call.inputs)
        assert isinstance(outputs, Mapping)
        return Prediction(outputs, version.name, version.model.version, Timing(batch_rows=call.rows))
