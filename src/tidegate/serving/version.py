"""One loaded model: its queue, its limit, its breaker, its figures; and the variant that it answers for."""

from __future__ import annotations

import asyncio
import copy
import inspect
import math
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from tidegate.errors import Overloaded
from tidegate.metrics import Metrics
from tidegate.serving.admission import Breaker, ConcurrencyLimit
from tidegate.serving.batching import INLINE_SECONDS, Batcher, Observer, Ran
from tidegate.serving.runtimes.base import LoadedModel
from tidegate.serving.runtimes.checked import checker
from tidegate.settings import EndpointSettings
from tidegate.telemetry import (
    BATCH_ROWS,
    MODEL_LOAD_SECONDS,
    MODEL_MEMORY_BYTES,
    MODEL_SECONDS,
    MODEL_WARMUP_SECONDS,
    QUEUE_ROWS,
    QUEUE_SECONDS,
)
from tidegate.types import ModelRef, Signature, Tensors, Variant

_OWN = (
    MODEL_SECONDS,
    QUEUE_SECONDS,
    BATCH_ROWS,
    QUEUE_ROWS,
    MODEL_LOAD_SECONDS,
    MODEL_WARMUP_SECONDS,
    MODEL_MEMORY_BYTES,
)
"""Metrics of a version, which end with it."""


class Version(Observer):
    """One loaded model under one variant, with its queue, limit and breaker.

    After a promotion the same model answers for another variant: ``under`` gives it another name, and nothing else.
    """

    def __init__(
        self,
        endpoint: str,
        variant: Variant,
        loaded: LoadedModel,
        settings: EndpointSettings,
        metrics: Metrics,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        batching = settings.batching
        self.ref: ModelRef = variant.model
        self.variant = variant.name
        self.loaded = loaded
        self.ready = True
        self.timeout = timeout_of(variant.name, settings)
        """Seconds that it gets as a candidate; 0: half of what is left."""
        self.origin: Version = self
        """The one that was loaded, which owns what all its names share."""
        self._names: dict[tuple[str, float], Version] = {(self.variant, self.timeout): self}
        self.breaker = Breaker()
        self.executor = ThreadPoolExecutor(batching.concurrency, thread_name_prefix=f"{endpoint}-{variant.name}")
        self.batcher = Batcher(
            _checked(loaded),
            loop=loop,
            executor=self.executor,
            max_rows=batching.max_rows,
            max_queue_rows=batching.max_queue_rows,
            concurrency=batching.concurrency,
            inline_rows=_inline_rows(loaded, batching.max_rows),
            objective=settings.slo.p99_ms / 1000 if settings.slo is not None else math.inf,
            observer=self,
        )
        busy = 2 * batching.max_rows * batching.concurrency
        self.limit = ConcurrencyLimit(minimum=busy, maximum=busy + batching.max_queue_rows)
        version = variant.model.version
        self._metrics = metrics
        self._labels = (endpoint, version)
        metrics.claim(*self._labels)
        self._model_seconds = metrics.latency(MODEL_SECONDS, endpoint, version)
        self._queue_seconds = metrics.latency(QUEUE_SECONDS, endpoint, version)
        self._batch_rows = metrics.histogram(BATCH_ROWS, endpoint, version)
        self._queue_rows = metrics.gauge(QUEUE_ROWS, endpoint, version)
        self.waited = self._queue_seconds.observe  # type: ignore[method-assign]
        self.queued = self._queue_rows.set  # type: ignore[assignment,method-assign]
        metrics.gauge(MODEL_LOAD_SECONDS, endpoint, version).set(loaded.facts.load_seconds)
        metrics.gauge(MODEL_WARMUP_SECONDS, endpoint, version).set(loaded.facts.warmup_seconds)
        self._memory = metrics.gauge(MODEL_MEMORY_BYTES, endpoint, version)
        self._memory.add(loaded.facts.memory_bytes)

    def under(self, variant: str, timeout: float) -> Version:
        """The same loaded model for this variant: one queue, one limit, one breaker. Asked twice it gives the same."""
        origin = self.origin
        named = origin._names.get((variant, timeout))
        if named is None:
            named = copy.copy(origin)
            named.variant, named.timeout = variant, timeout
            origin._names[(variant, timeout)] = named
        return named

    @property
    def signature(self) -> Signature:
        return self.loaded.signature

    def batch(self, rows: int, seconds: float) -> None:
        self._model_seconds.observe(seconds)
        self._batch_rows.observe(rows)

    async def run(
        self, inputs: Tensors, rows: int, deadline: float, priority: int, gone: Callable[[], bool] | None
    ) -> Ran:
        """Raises Refused, DeadlineExceeded, CallerGone, or what the model raises."""
        limit = self.limit
        try:
            limit.enter(rows)
        except Overloaded:
            if not self.batcher.displace(rows, priority):
                raise
            limit.displace(rows)
        entered = perf_counter()
        try:
            ran = await self.batcher.submit(inputs, rows, deadline, priority, gone)
        except BaseException:
            limit.abandon(rows)
            raise
        now = perf_counter()
        limit.leave(rows, now - entered, now)
        return ran

    def expected_seconds(self, rows: int) -> float:
        """What one batch of ``rows`` takes, as far as is known; at least what one row took at warm-up."""
        return max(self.batcher.cost.estimate(rows), self.loaded.facts.single_row_ms / 1000)

    @property
    def busy(self) -> bool:
        return self.limit.in_flight > 0 or not self.batcher.idle

    async def close(self) -> None:
        """Frees the model; call it when nothing is in flight, or no longer waits for what is."""
        self.batcher.close()
        self.executor.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self.loaded.close)
        self._memory.add(-self.loaded.facts.memory_bytes)
        # A batch that hangs may still end, long after its series were given to others.
        deaf = Observer()
        self.batch, self.waited, self.queued = deaf.batch, deaf.waited, deaf.queued  # type: ignore[method-assign]
        self._metrics.release(_OWN, *self._labels)


def _checked(loaded: LoadedModel) -> Callable[[Tensors], Tensors | Awaitable[Tensors]]:
    """The model's ``predict``, its answers held against the signature: rows, names, types, finite numbers."""
    predict, check = loaded.runtime.predict, checker(loaded.signature)

    if inspect.iscoroutinefunction(predict):

        async def run_async(inputs: Tensors) -> Tensors:
            return check(await predict(inputs), rows_of(inputs))

        return run_async

    def run(inputs: Tensors) -> Tensors:
        return check(predict(inputs), rows_of(inputs))  # type: ignore[arg-type]

    return run


def rows_of(inputs: Tensors) -> int:
    for array in inputs.values():
        return len(array)
    return 0


def timeout_of(variant: str, settings: EndpointSettings) -> float:
    """Seconds that a candidate gets before the baseline answers; 0 where nothing is configured."""
    return settings.variants[variant].timeout_ms / 1000 if variant in settings.variants else 0.0


def _inline_rows(loaded: LoadedModel, max_rows: int) -> int:
    """Rows that may run on the event loop: as many as surely stay within ``INLINE_SECONDS``, if the model is inline at all."""
    facts = loaded.facts
    if not facts.inline or not facts.single_row_ms:
        return max_rows if facts.inline else 0
    return max(1, min(max_rows, int(INLINE_SECONDS / (facts.single_row_ms / 1000) * 4)))
