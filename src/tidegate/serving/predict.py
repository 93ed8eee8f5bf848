"""The story of a request, from decoded inputs to recorded answer. Read this first.

A call comes in from a protocol; the router chooses a variant; the cache may know the answer; else the version runs it
(``version.py``: limit, queue, batch, model), with the baseline behind it (``fallback.py``); shadows get a copy; what
happened is counted and traced.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from tidegate.errors import ModelFailed, TidegateError
from tidegate.serving.batching import Ran
from tidegate.serving.cached import run_cached
from tidegate.serving.call import Call, part_of
from tidegate.serving.fallback import run
from tidegate.serving.live import Live
from tidegate.serving.outcome import outcome_of
from tidegate.serving.routing import Route
from tidegate.serving.shadow import copy_to_shadows
from tidegate.serving.version import Version
from tidegate.types import Prediction, Timing

logger = logging.getLogger("tidegate.predict")


class Tracer(Protocol):
    def begin(self, call: Call) -> None:
        """Draws whether the request is traced, and its ids, into ``call.trace``."""

    def record(
        self, call: Call, variant: str, prediction: Prediction | None, error: BaseException | None, ended: float
    ) -> None:
        """Makes the request's spans, if it is sampled. ``variant`` answered or failed; ``ended`` is ``perf_counter`` seconds."""


class Predictor:
    """Answers calls from what is live. ``draw`` gives the random numbers that split traffic without units."""

    def __init__(self, live: Live, tracer: Tracer | None = None, draw: Callable[[], float] = random.random) -> None:
        self.live = live
        self.tracer = tracer
        self._draw = draw

    def predict(self, call: Call) -> Coroutine[Any, Any, Prediction]:
        """Raises NotFound, InvalidInput, Refused, DeadlineExceeded, CallerGone, ModelFailed."""
        if call.units:
            return self._predict_by_unit(call)
        return self._predict_one(call, self.choose(call, call.unit))

    def choose(self, call: Call, unit: str) -> Route:
        """Where the unit's request goes, with its exposure on record if it takes part in an experiment."""
        endpoint = call.endpoint
        route = endpoint.router.choose(unit, call.forced, call.version, self._draw)
        if route.experiment and not (
            endpoint.recording is not None and endpoint.recording.exposed(unit, route, call.request_id)
        ):
            return endpoint.router.outside  # nobody takes part in an experiment off the record
        return route

    async def _predict_one(self, call: Call, route: Route) -> Prediction:
        endpoint = call.endpoint
        endpoint.calls_in_flight += 1
        if self.tracer is not None:
            self.tracer.begin(call)
        try:
            if endpoint.cache is None:
                version, ran = await run(call, route)
                cached = False
            else:
                version, ran, cached = await run_cached(call, route)
        except BaseException as error:
            self._record_failure(call, route, error)
            if not isinstance(error, Exception) or outcome_of(error)[0] != "failed" or isinstance(error, ModelFailed):
                raise
            raise ModelFailed(f"{type(error).__name__}: {error}") from error
        finally:
            endpoint.calls_in_flight -= 1
        if route.shadows:
            copy_to_shadows(endpoint, route.shadows, call.inputs, call.rows, call.unit, ran.outputs)
        return self._record(call, route, version, ran, cached)

    async def _predict_by_unit(self, call: Call) -> Prediction:
        """Rows of one request may belong to different variants: each group runs on its own, and the rows are rejoined."""
        groups: dict[str, tuple[Route, list[int]]] = {}
        for row, unit in enumerate(call.units):
            route = self.choose(call, unit)
            groups.setdefault(route.variant.name, (route, []))[1].append(row)
        call.endpoint.calls_in_flight += 1  # the parts begin a turn of the loop later
        try:
            parts = await asyncio.gather(
                *(self._predict_one(part_of(call, rows), route) for route, rows in groups.values())
            )
        finally:
            call.endpoint.calls_in_flight -= 1
        return _rejoin(parts, [rows for _, rows in groups.values()])

    def _record(self, call: Call, route: Route, version: Version, ran: Ran, cached: bool) -> Prediction:
        endpoint, now = call.endpoint, perf_counter()
        endpoint.count(version.variant, call.protocol, "ok")
        endpoint.latency[version.variant].observe(now - call.received)
        if endpoint.recording is not None:
            endpoint.recording.answered(call, route, version, ran, cached, now)
        timing = Timing(0.0, 0.0, 0) if cached else Timing(ran.queue, ran.run, ran.batch_rows)
        prediction = Prediction(ran.outputs, version.variant, version.ref.version, timing, cached, route.forced)
        if call.trace is not None and self.tracer is not None:
            self.tracer.record(call, version.variant, prediction, None, now)
        return prediction

    def _record_failure(self, call: Call, route: Route, error: BaseException) -> None:
        endpoint, now = call.endpoint, perf_counter()
        if endpoint.recording is not None:
            endpoint.recording.failed(call, route, error, now)
        variant = (isinstance(error, TidegateError) and error.variant) or route.variant.name
        outcome, reason = outcome_of(error)
        if outcome != "invalid":  # those are counted where bodies that cannot be decoded are, too
            endpoint.count(variant, call.protocol, outcome)
        if reason:
            endpoint.count_rejected(reason)
        if outcome == "failed":
            logger.error(
                "%s/%s: the model failed",
                endpoint.name,
                variant,
                exc_info=error,
                extra={"endpoint": endpoint.name, "variant": variant, "correlation_id": call.request_id},
            )
        if call.trace is not None and self.tracer is not None:
            self.tracer.record(call, variant, None, error, now)


def _rejoin(parts: list[Prediction], places: list[list[int]]) -> Prediction:
    order = np.argsort(np.concatenate([np.asarray(rows) for rows in places]))
    outputs = {name: np.concatenate([part.outputs[name] for part in parts])[order] for name in parts[0].outputs}
    slowest = max(parts, key=lambda part: part.timing.queue + part.timing.run)
    same = len({part.variant for part in parts}) == 1
    return Prediction(
        outputs,
        parts[0].variant if same else "mixed",
        parts[0].version if same else "mixed",
        slowest.timing,
        all(part.cached for part in parts),
        parts[0].forced,
    )
