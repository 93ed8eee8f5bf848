"""Hundreds of releases through the real HTTP path: harmless ones are let through, faulty ones are caught, users see nothing."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest

from tests.integration.releases.world import Behaviour, World, world
from tidegate.control.releases.release import Release
from tidegate.settings import (
    ErrorsGuardrail,
    Guardrail,
    LatencyGuardrail,
    OutputsGuardrail,
    ReleaseSettings,
    StepPlan,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ALPHA = 0.01
PLAN = ReleaseSettings(
    steps=(20, 50, 100),
    step=StepPlan(min_requests=40, min_seconds=4, max_seconds=60),
    guardrails=(
        Guardrail(errors=ErrorsGuardrail(tolerance=2.0, acceptable_rate=0.04, alpha=ALPHA)),
        Guardrail(latency=LatencyGuardrail(quantiles=(0.5, 0.9), slack=0.2, acceptable_ms=20.0, alpha=ALPHA)),
        Guardrail(outputs=OutputsGuardrail(max_shift=0.3, alpha=ALPHA)),
    ),
)
SIDE_BY_SIDE = 25
REQUESTS = 40
"""To each endpoint, between two looks."""
LOOK_SECONDS = 2.0

FAULTY = (
    Behaviour(failing=0.3),
    Behaviour(failing=0.1),
    Behaviour(nan=0.25),
    Behaviour(slow_ms=60.0),
    Behaviour(shifted=0.8),
)


async def run(of: World, candidates: list[str]) -> list[Release]:
    """One release of each candidate, ``SIDE_BY_SIDE`` at a time, each on an endpoint of its own."""
    ended: list[Release] = []
    endpoints = list(of.settings.endpoints)
    while candidates:
        group, candidates = candidates[: len(endpoints)], candidates[len(endpoints) :]
        running = {
            endpoint: of.service.start(endpoint, candidate, who="test").id
            for endpoint, candidate in zip(endpoints, group, strict=False)
        }
        for _ in range(80):
            await of.turn(LOOK_SECONDS)
            left = of.open(running)
            left = [endpoint for endpoint in left if of.release(running[endpoint]).state != "inconclusive"]
            if not left:
                break
            await of.send(left, REQUESTS)
        for release_id in running.values():
            if of.release(release_id).open:
                of.service.rollback(release_id, who="test", reason="the next group")
            ended.append(of.release(release_id))
            if ended[-1].state == "promoted":
                of.service.rollback(release_id, who="test", reason="the next group")
        await of.turn(LOOK_SECONDS)
    return ended


async def test_of_200_harmless_releases_hardly_one_is_rolled_back(tmp_path: Path) -> None:
    endpoints = [f"e{number}" for number in range(SIDE_BY_SIDE)]
    models = {"baseline": Behaviour(failing=0.01)}
    models |= {f"same-{number}": Behaviour(failing=0.01) for number in range(200)}
    async with world(tmp_path, PLAN, endpoints, models) as of:
        ended = await run(of, [name for name in models if name != "baseline"])
    states = Counter(release.state for release in ended)
    blamed = [
        release.reason for release in ended if release.state == "rolled_back" and release.reason != "the next group"
    ]
    most = sum(3 * [ALPHA])
    assert len(blamed) <= 200 * (most + 3 * math.sqrt(most * (1 - most) / 200)), blamed
    assert states["promoted"] >= 160, (states, [release.waiting for release in ended][:5])


async def test_all_of_50_faulty_releases_are_caught_and_no_user_sees_one(tmp_path: Path) -> None:
    """A broken candidate never breaks a user: it raises, answers NaN, is slow, or answers something else."""
    endpoints = [f"e{number}" for number in range(SIDE_BY_SIDE)]
    models = {"baseline": Behaviour()}
    models |= {f"faulty-{number}": FAULTY[number % len(FAULTY)] for number in range(50)}
    async with world(tmp_path, PLAN, endpoints, models) as of:
        ended = await run(of, [name for name in models if name != "baseline"])
        assert of.answers > 1000
        assert of.bad_answers == 0
        for release in ended[:10]:
            assert of.service.replay(release.id).agrees
    missed = [
        (release.candidate.uri, release.state, release.waiting)
        for release in ended
        if release.state != "rolled_back" or release.reason == "the next group"
    ]
    assert not missed
