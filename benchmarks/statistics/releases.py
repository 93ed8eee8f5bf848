"""Whole releases, window by window, through the code that decides them: good candidates and faulty ones."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec
import numpy as np

from benchmarks.statistics.latencies import Draw, histogram, slow_tail, usual
from tidegate.control.releases import evidence as judge
from tidegate.observations import VariantWindow
from tidegate.settings import ErrorsGuardrail, Guardrail, LatencyGuardrail, OutputsGuardrail, ReleaseSettings
from tidegate.types import Verdict

PLAN = ReleaseSettings(
    guardrails=(
        Guardrail(errors=ErrorsGuardrail()),
        Guardrail(latency=LatencyGuardrail()),
        Guardrail(outputs=OutputsGuardrail()),
    )
)
RATE = 500
"""Requests a second."""
SECONDS = 5
"""Length of a window here, to save time: a look at each."""
STEP_SECONDS = 60
LONGEST = 1800

_numbers = count(1)


class Candidate(msgspec.Struct, frozen=True):
    """What is wrong with it; by default nothing."""

    name: str
    failing: float = 1.0
    """Times the baseline's failure rate."""
    latency: Draw = usual
    labels: tuple[float, ...] = (0.5, 0.3, 0.2)


GOOD = Candidate("good")
FAULTY = (
    Candidate("fails 5 times as often", failing=5.0),
    Candidate("slow tail", latency=slow_tail),
    Candidate("predicts otherwise", labels=(0.2, 0.3, 0.5)),
)


class Ended(msgspec.Struct, frozen=True):
    how: str
    """promoted, rolled_back or inconclusive."""
    culprit: str
    seconds: int
    requests: int
    """That the candidate got."""


def failure_rate(second: int) -> float:
    """Of the baseline: 0.2 %, with a storm of 3 % every five minutes, for both variants."""
    return 0.03 if second % 300 in range(120, 150) else 0.002


def release(
    rng: np.random.Generator, candidate: Candidate, watch: Callable[[int, int, tuple[Verdict, ...]], Any] | None = None
) -> Ended:
    """``watch`` is shown the second, the step and the verdicts after each look."""
    evidence, began = judge.begin(PLAN), 0
    steps = [round(step * 100) for step in PLAN.steps if step < 100]
    for second in range(0, LONGEST, SECONDS):
        share = steps[evidence.step] / 10_000
        requests = int(rng.poisson(RATE * SECONDS))
        mine = int(rng.binomial(requests, share))
        windows = [
            _window(rng, GOOD, "baseline", share, requests - mine, second),
            _window(rng, candidate, "candidate", share, mine, second),
        ]
        evidence = judge.fold(evidence, PLAN, windows)
        found = judge.verdicts(evidence, PLAN)
        if watch is not None:
            watch(second, evidence.step, found)
        culprit = next((verdict.guardrail for verdict in found if verdict.outcome == "fail"), "")
        if culprit:
            return _ended(evidence, "rolled_back", culprit, second)
        if second - began < STEP_SECONDS or judge.requests_in_step(evidence, "candidate") < PLAN.step.min_requests:
            continue
        if evidence.step + 1 < len(steps):
            evidence, began = judge.next_step(evidence, PLAN), second
        elif all(verdict.outcome == "pass" for verdict in found):
            return _ended(evidence, "promoted", "", second)
    return _ended(evidence, "inconclusive", "", LONGEST)


def _ended(evidence: judge.Evidence, how: str, culprit: str, second: int) -> Ended:
    return Ended(how, culprit, second + SECONDS, judge.sides(evidence)["candidate"].requests)


def _window(
    rng: np.random.Generator, model: Candidate, variant: str, share: float, requests: int, second: int
) -> VariantWindow:
    failures = int(rng.binomial(requests, min(1.0, model.failing * failure_rate(second))))
    answered = requests - failures
    kinds = rng.multinomial(answered, model.labels)
    return VariantWindow(
        process="simulated", sequence=next(_numbers), endpoint="e", variant=variant, version="1", snapshot=2,
        share=round(10_000 * (share if variant == "candidate" else 1 - share)), start=float(second),
        seconds=float(SECONDS), requests=requests, failures=failures, outcomes={"ok": answered, "failed": failures},
        latency=histogram(model.latency(rng, answered)),
        outputs={name: int(number) for name, number in zip("abc", kinds, strict=True)}, unitless=requests,
    )  # fmt: skip
