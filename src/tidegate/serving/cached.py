"""Runs a call through the endpoint's cache: kept answers, and one run for equal requests that come together."""

from __future__ import annotations

from time import perf_counter

from tidegate.errors import DeadlineExceeded
from tidegate.serving.batching import Ran
from tidegate.serving.cache.memory import key_of
from tidegate.serving.call import Call, for_all
from tidegate.serving.fallback import run
from tidegate.serving.routing import Route
from tidegate.serving.version import Version


async def run_cached(call: Call, route: Route) -> tuple[Version, Ran, bool]:
    endpoint = call.endpoint
    cache = endpoint.cache
    assert cache is not None
    version = endpoint.versions[route.variant.name]
    answered = version

    shared = for_all(call)

    async def fill() -> Ran:
        nonlocal answered
        answered, ran = await run(shared, route)
        if answered is not version:
            raise _AnsweredByBaseline(ran, shared.fallback)
        return ran

    key = key_of(version.loaded.facts.digest, version.ref.version, call.inputs)
    try:
        ran, result = await cache.get(key, fill, call.deadline - perf_counter())
    except _AnsweredByBaseline as other:
        call.fallback = other.reason
        return endpoint.baseline, other.ran, False
    except TimeoutError:
        raise DeadlineExceeded("the deadline passed before the model answered") from None
    endpoint.count_cache(result)
    return version, ran, result == "hit"


class _AnsweredByBaseline(Exception):
    """Carries an answer past the cache of the version that failed to give it."""

    def __init__(self, ran: Ran, reason: str) -> None:
        super().__init__()
        self.ran = ran
        self.reason = reason
