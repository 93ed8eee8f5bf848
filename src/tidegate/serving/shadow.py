"""Copies of answered requests for shadow variants: they never slow an answer, and their agreement is counted."""

from __future__ import annotations

import asyncio
from time import perf_counter

import numpy as np

from tidegate.errors import CallerGone, DeadlineExceeded, Refused
from tidegate.serving.live import Endpoint
from tidegate.types import Array, Tensors, Variant

MOST_IN_FLIGHT = 256
"""Copies of one endpoint on their way; more are dropped and counted."""

BULK = 2
PATIENCE_SECONDS = 30.0
TOLERANCE = 1e-4
"""Relative and absolute, for numbers that count as the same answer."""

_tasks: set[asyncio.Task[None]] = set()


def copy_to_shadows(
    endpoint: Endpoint, shadows: tuple[Variant, ...], inputs: Tensors, rows: int, unit: str, answer: Tensors
) -> None:
    """``unit``: whose request it was; several failures of one unit are one in the records."""
    for variant in shadows:
        if endpoint.shadows_in_flight >= MOST_IN_FLIGHT:
            _count(endpoint, variant, "refused", unit)
            continue
        endpoint.shadows_in_flight += 1
        task = asyncio.get_running_loop().create_task(_shadow(endpoint, variant, inputs, rows, unit, answer))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)


async def _shadow(endpoint: Endpoint, variant: Variant, inputs: Tensors, rows: int, unit: str, answer: Tensors) -> None:
    version, started = endpoint.versions[variant.name], perf_counter()
    seconds: float | None = None
    outputs: Tensors | None = None
    try:
        if not version.breaker.allows(started):
            outcome = "breaker_open"
        else:
            ran = await version.run(inputs, rows, started + PATIENCE_SECONDS, BULK, None)
            version.breaker.succeeded()
            outputs, seconds = ran.outputs, perf_counter() - started
            outcome = "agree" if agrees(answer, outputs) else "differ"
            endpoint.latency[variant.name].observe(seconds)
    except (Refused, CallerGone):
        version.breaker.undecided()
        outcome = "refused"
    except DeadlineExceeded:
        version.breaker.failed(perf_counter())
        outcome, seconds = "timeout", perf_counter() - started
    except Exception:  # noqa: BLE001 - whatever a shadow raises must stay in the shadow
        version.breaker.failed(perf_counter())
        outcome = "failed"
    finally:
        endpoint.shadows_in_flight -= 1
    _count(endpoint, variant, outcome, unit, seconds, outputs)


_OUTCOMES = {"breaker_open": "refused", "timeout": "deadline"}
"""Words of the metrics for what the records tell apart."""


def _count(
    endpoint: Endpoint,
    variant: Variant,
    kind: str,
    unit: str,
    seconds: float | None = None,
    outputs: Tensors | None = None,
) -> None:
    endpoint.count(variant.name, "shadow", _OUTCOMES.get(kind, kind))
    if endpoint.recording is not None:
        endpoint.recording.shadowed(variant.name, kind, unit, seconds, outputs)


def agrees(answer: Tensors, other: Tensors) -> bool:
    """Whether the answers that clients act on are the same: ``predictions`` where there are any, else all outputs."""
    names = ["predictions"] if "predictions" in answer else list(answer)
    return all(name in other and _same(answer[name], other[name]) for name in names)


def _same(one: Array, other: Array) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.kind == "f" or other.dtype.kind == "f":
        try:
            return bool(np.allclose(one.astype(float), other.astype(float), TOLERANCE, TOLERANCE, equal_nan=True))
        except ValueError:
            return False
    return bool(np.array_equal(one, other))
