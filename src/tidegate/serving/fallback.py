"""Runs a call on the variant that was chosen; a candidate's failure is not the user's failure: the baseline answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from time import perf_counter
from typing import Any

from tidegate.errors import CallerGone, DeadlineExceeded, ModelFailed, Refused, RequestError, TidegateError
from tidegate.serving.batching import Ran
from tidegate.serving.call import Call
from tidegate.serving.outcome import outcome_of
from tidegate.serving.routing import Route
from tidegate.serving.version import Version

logger = logging.getLogger("tidegate.predict")

FAIR = 2.0
"""A candidate that gets less than so many times what it usually takes is not to blame for being late."""


def run(call: Call, route: Route) -> Coroutine[Any, Any, tuple[Version, Ran]]:
    """The version that answered, and its answer."""
    version = call.endpoint.versions[route.variant.name]
    if version is call.endpoint.baseline:
        return _run_baseline(call, version)
    return _run_candidate(call, version, exact=bool(call.version))


async def _run_baseline(call: Call, version: Version) -> tuple[Version, Ran]:
    try:
        ran = await version.run(call.inputs, call.rows, call.deadline, call.priority, call.gone)
    except (Refused, CallerGone, RequestError, asyncio.CancelledError):
        raise
    except Exception:
        version.breaker.failed(perf_counter())  # read by readiness; the baseline itself is never ejected
        raise
    version.breaker.succeeded()
    return version, ran


async def _run_candidate(call: Call, version: Version, exact: bool) -> tuple[Version, Ran]:
    """A candidate's failure is not the user's failure: the baseline answers, unless exactly this version was asked for."""
    endpoint, now = call.endpoint, perf_counter()
    if not version.breaker.allows(now) and not exact:
        call.fallback = "breaker_open"
        endpoint.count_fallback("breaker_open")
        return await _fall_back(call)
    patience = version.timeout or (call.deadline - now) / 2
    deadline = call.deadline if exact else min(call.deadline, now + patience)
    try:
        ran = await version.run(call.inputs, call.rows, deadline, call.priority, call.gone)
    except (CallerGone, RequestError, asyncio.CancelledError):
        version.breaker.undecided()
        raise
    except Exception as error:
        refused = isinstance(error, Refused)
        if refused or (
            isinstance(error, DeadlineExceeded) and deadline - now < FAIR * version.expected_seconds(call.rows)
        ):
            version.breaker.undecided()  # a hasty caller must not be able to eject a candidate
        elif version.breaker.failed(perf_counter()):
            logger.warning(
                "%s/%s: ejected after repeated failures; the baseline answers",
                endpoint.name,
                version.variant,
                extra={"endpoint": endpoint.name, "variant": version.variant},
            )
        if exact:
            raise
        reason = "refused" if refused else "timeout" if isinstance(error, DeadlineExceeded) else "failed"
        _note_failed_candidate(call, version, error, reason)
        return await _fall_back(call)
    version.breaker.succeeded()
    return version, ran


async def _fall_back(call: Call) -> tuple[Version, Ran]:
    """The baseline in a candidate's place; when it fails too, the error says that it was the baseline."""
    baseline = call.endpoint.baseline
    try:
        return await _run_baseline(call, baseline)
    except TidegateError as error:
        error.variant = baseline.variant
        raise
    except Exception as error:
        failure = ModelFailed(f"{type(error).__name__}: {error}")
        failure.variant = baseline.variant
        raise failure from error


def _note_failed_candidate(call: Call, version: Version, error: Exception, reason: str) -> None:
    call.fallback = reason
    call.endpoint.count_fallback(reason)
    call.endpoint.count(version.variant, call.protocol, outcome_of(error)[0])
    if reason == "failed":
        logger.warning(
            "%s/%s: failed; the baseline answers: %s: %s",
            call.endpoint.name,
            version.variant,
            type(error).__name__,
            error,
            extra={"endpoint": call.endpoint.name, "variant": version.variant, "correlation_id": call.request_id},
        )
