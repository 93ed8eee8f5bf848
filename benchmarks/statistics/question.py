"""Delays beside those of the published tests, false alarms beside alpha, whole releases, and what a decision costs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.measure import Effort, Spread
from benchmarks.harness.results import Result
from benchmarks.statistics import failures, latencies, plots, releases, units
from benchmarks.statistics.latencies import a_fifth_slower, slow_tail, usual
from tidegate.control.analysis import means
from tidegate.control.releases import evidence as judge
from tidegate.observations import VariantWindow
from tidegate.serving.events.windows import bins_of

Floats = NDArray[np.float64]
SEED = 20_261_121
BATCHES = 5
"""The spread of a row is that of so many parts of its runs."""
ROOM = 1.1
"""A delay may be so much longer than the published one."""

TWO_SIDED = {
    (0.5, 10.0): {1.5: (200, 405), 2: (64, 140), 3: (34, 60), 5: (21, 34)},
    (0.1, 100.0): {1.5: (424, 925), 2: (160, 311), 3: (72, 121), 5: (38, 60)},
    (0.05, 100.0): {1.5: (710, 1642), 2: (252, 539), 3: (106, 193), 5: (51, 78)},
}
"""(share, concentration) -> times as many failures -> median and 90th percentile of the delay."""
RAMP = {1.5: (589, 847), 2: (317, 532), 3: (217, 309)}
PROMOTE = {0.5: (146, 322), 0.25: (163, 410), 0.1: (360, 806)}
"""Share -> delay at equal rates, with a tolerance of 1.5."""


def run(effort: Effort) -> Result:
    result, rng = Result("statistics"), np.random.default_rng(SEED)
    false_alarms(result, rng)
    delays(result, rng)
    tails(result, rng)
    whole_releases(result, rng)
    sticky(result, rng)
    cost(result, rng)
    plots.write(np.random.default_rng(SEED))
    return result


def allowed(alpha: float, runs: int) -> float:
    return alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)


def parts(values: Floats, of: Callable[[Floats], float]) -> Spread:
    """The figure over all runs, with the range over parts of them."""
    found = [of(part) for part in np.array_split(values, BATCHES)]
    return Spread(of(values), min(found), max(found), len(values))


def fired(stops: Floats) -> float:
    return float(np.isfinite(stops).mean())


def median(stops: Floats) -> float:
    return float(np.quantile(stops, 0.5, method="inverted_cdf"))


def ninetieth(stops: Floats) -> float:
    return float(np.quantile(stops, 0.9, method="inverted_cdf"))


def false_alarms(result: Result, rng: np.random.Generator) -> None:
    bound, runs = allowed(failures.ALPHA, failures.RUNS), failures.RUNS

    def add(what: str, stops: Floats, bound: float = bound) -> None:
        result.add(f"false alarms: {what}", parts(stops, fired), unit="", side="at most", bound=bound)

    for share, concentration in TWO_SIDED:
        stops = failures.two_sided_stops(rng, share, concentration, 1.0, 2000)
        add(f"multinomial, {100 * share:g} %, k {concentration:g}", stops)
    add("ramp 1/5/25/50 %", failures.roll_back_stops(rng, 1.0, 2000))
    for share in PROMOTE:
        add(f"promotion at exactly 1.5, {100 * share:g} %", failures.promote_stops(rng, share, 1.5, 2000))
    naive = np.concatenate(
        [
            failures.stops(failures.z_test(failures.arrivals(rng, np.full(2000, 0.5), 1.0), 0.5))
            for _ in range(runs // failures.CHUNK)
        ]
    )
    result.add("false alarms: repeated z-test (broken)", parts(naive, fired), unit="", side="at least", bound=0.3)
    gavi, z = streams(rng)
    add("confidence sequence, 250 rows", gavi)
    result.add("false alarms: repeated z-test of means (broken)", parts(z, fired), unit="", side="at least", bound=0.3)
    same = latencies.stops(rng, usual, 3000, 100, 400, latencies.NONE)
    add("p50, p90 and p99 without slack", same, allowed(latencies.ALPHA, 400))


def streams(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Rows per arm, of 500, until the confidence sequence and the repeated z-test see a difference of means 0."""
    n = np.arange(1, 501)
    half = np.array([means.half_width(1.0, 2 * int(rows), failures.ALPHA, 250) for rows in n])
    scores = np.abs(rng.standard_normal((failures.RUNS, 500)).cumsum(axis=1)) / np.sqrt(n)
    found = [
        np.where((scores > bound).any(axis=1), (scores > bound).argmax(axis=1) + 1.0, np.inf) for bound in (half, 1.96)
    ]
    return found[0], found[1]


def delays(result: Result, rng: np.random.Generator) -> None:
    def add(what: str, stops: Floats, published: tuple[int, int]) -> None:
        for name, of, target in (("median", median, published[0]), ("90 %", ninetieth, published[1])):
            result.add(
                f"failures until it fires: {what}, {name}", parts(stops, of), unit="", side="at most",
                bound=ROOM * target, note=f"published {target}",
            )  # fmt: skip

    for (share, concentration), effects in TWO_SIDED.items():
        for times, published in effects.items():
            stops = failures.two_sided_stops(rng, share, concentration, times, 3 * published[1])
            add(f"{100 * share:g} %, k {concentration:g}, ×{times:g}", stops, published)
    for times, published in RAMP.items():
        add(f"ramp, ×{times:g}", failures.roll_back_stops(rng, times, 3 * published[1]), published)
    for share, published in PROMOTE.items():
        add(f"promotion, {100 * share:g} %", failures.promote_stops(rng, share, 1.0, 3 * published[1]), published)


def tails(result: Result, rng: np.random.Generator) -> None:
    found = latencies.stops(rng, slow_tail, 5000, 50, 200)
    result.add("requests per arm until +500 ms on 2 % are found", parts(found, median), unit="", side="at most",
               bound=ROOM * 1100, note="published about 1 100")  # fmt: skip
    slower = latencies.stops(rng, a_fifth_slower, 20_000, 100, 100)
    result.add("requests per arm until 20 % slower is found", parts(slower, median), unit="", note="10 % are allowed")
    seen = np.array([float(latencies.band_sees(rng, slow_tail, 30_000)) for _ in range(20)])
    result.add("the band finds +500 ms on 2 % in 30 000", Spread.of([float(seen.mean())]), unit="")


def whole_releases(result: Result, rng: np.random.Generator, good: int = 200, faulty: int = 20) -> None:
    """Three guardrails at 0.01 each."""
    ended = [releases.release(rng, releases.GOOD) for _ in range(good)]
    wrong = np.array([float(one.how == "rolled_back") for one in ended])
    right = np.array([float(one.how == "promoted") for one in ended])
    result.add("good releases rolled back", parts(wrong, lambda part: float(part.mean())), unit="", side="at most",
               bound=allowed(0.03, good))  # fmt: skip
    result.add("good releases promoted", parts(right, lambda part: float(part.mean())), unit="")
    promoted = [float(one.seconds) for one in ended if one.how == "promoted"]
    result.add(
        "seconds until a good one is promoted", Spread.of(promoted), unit="s", note=f"{releases.RATE} requests/s"
    )
    result.figures["seconds: good"] = [one.seconds for one in ended]
    for candidate in releases.FAULTY:
        ended = [releases.release(rng, candidate) for _ in range(faulty)]
        caught = np.array([float(one.how == "rolled_back") for one in ended])
        result.add(f"caught: {candidate.name}", Spread.of([float(caught.mean())]), unit="", side="at least", bound=1.0)
        result.add(
            f"seconds until rolled back: {candidate.name}", Spread.of([float(one.seconds) for one in ended]), unit="s"
        )
        result.add(f"requests it got: {candidate.name}", Spread.of([float(one.requests) for one in ended]), unit="")
        result.figures[f"seconds: {candidate.name}"] = [one.seconds for one in ended]
        result.figures[f"culprits: {candidate.name}"] = [one.culprit for one in ended]


def sticky(result: Result, rng: np.random.Generator, runs: int = 300) -> None:
    """Where units differ in their failures as well, the promise is not kept; the page says so."""
    for spread, what in ((0.0, "fail alike"), (1.0, "fail as they are")):
        found = units.alarms(rng, spread, runs).astype(np.float64)
        for place, name in enumerate(("configured share alone", "observed share alone", "both")):
            bounded = {"side": "at most", "bound": allowed(units.ALPHA, runs)} if place == 2 and not spread else {}
            share = parts(found[:, place], lambda part: float(part.mean()))
            result.add(f"false alarms, unequal units that {what}: {name}", share, unit="", **bounded)


def cost(result: Result, rng: np.random.Generator) -> None:
    """Windows of 8 processes and both variants: a second of 20 000 requests, until a million are folded."""
    plan = releases.PLAN
    windows = [window for process in range(8) for window in second_of(rng, 2500, f"process {process}")]
    evidence, folds, decisions = judge.begin(plan), [], []
    for _ in range(50):
        began = time.perf_counter()
        evidence = judge.fold(evidence, plan, windows)
        folds.append(1000 * (time.perf_counter() - began))
    for _ in range(50):
        began = time.perf_counter()
        judge.verdicts(evidence, plan)
        decisions.append(1000 * (time.perf_counter() - began))
    result.add("fold a second of 20 000 requests", Spread.of(folds), unit="ms", side="at most", bound=5.0)
    result.add("verdicts over a million requests", Spread.of(decisions), unit="ms", side="at most", bound=1.0)
    result.add("bytes of the evidence", Spread.of([float(len(msgspec.json.encode(evidence)))]), unit="")


def second_of(rng: np.random.Generator, requests: int, process: str) -> list[VariantWindow]:
    found = []
    for variant, share in (("baseline", 0.99), ("candidate", 0.01)):
        number = round(requests * share)
        bins, counts = np.unique(bins_of(usual(rng, number)), return_counts=True)
        window = VariantWindow(
            process=process, sequence=1, endpoint="e", variant=variant, version="1", snapshot=2,
            share=round(10_000 * share), start=0.0, seconds=1.0, requests=number, failures=number // 500,
            outcomes={"ok": number - number // 500, "failed": number // 500},
            latency=dict(zip(bins.tolist(), counts.tolist(), strict=True)), outputs={"a": number // 2, "b": number // 2},
            unitless=number,
        )  # fmt: skip
        found.append(window)
    return found
