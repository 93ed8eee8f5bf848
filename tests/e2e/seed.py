"""A store with something to show on every page: releases in every state, evidence, experiments, keys, an audit log.

Everything goes through the real store and the services' own records, at the time ``NOW`` of a clock that stands still.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import msgspec

from tidegate.control.access import audit
from tidegate.control.experiments.experiment import (
    Arm,
    Comparison,
    Estimate,
    Experiment,
    Metric,
    Report,
    Spec,
    StopRules,
)
from tidegate.control.releases.history import Entry, event_row, row_of
from tidegate.control.releases.look import Look, Taken
from tidegate.control.releases.release import Release, Side, State
from tidegate.metrics import bin_of
from tidegate.observations import Beat, VariantWindow
from tidegate.settings import (
    Batching,
    Cache,
    EndpointSettings,
    ErrorsGuardrail,
    Guardrail,
    LatencyGuardrail,
    OutputsGuardrail,
    ReleaseSettings,
    Settings,
    ShadowPlan,
    Slo,
    StepPlan,
)
from tidegate.storage.records import EvidenceRow, ExperimentRow
from tidegate.storage.store import Store, Unit
from tidegate.testing.registry import MemoryRegistry
from tidegate.types import EndpointPlan, Exposing, ModelRef, RoutingSnapshot, Signature, TensorSpec, Variant, Verdict

NOW = 1_795_262_400.0
"""21 November 2026, 12:00 UTC."""
THRESHOLD = math.log(100)
PERSON = "Ada (k3y0000000ad)"
PLAN = ReleaseSettings(
    shadow=ShadowPlan(min_requests=500),
    step=StepPlan(min_requests=2000, min_seconds=120),
    guardrails=(
        Guardrail(errors=ErrorsGuardrail()),
        Guardrail(latency=LatencyGuardrail()),
        Guardrail(outputs=OutputsGuardrail()),
    ),
)
ENDPOINTS = ("iris", "churn", "fraud", "pricing", "ranking", "sentiment")
LABELS: Mapping[str, Mapping[str, float]] = {
    "iris": {"setosa": 0.34, "versicolor": 0.33, "virginica": 0.33},
    "churn": {"stays": 0.81, "leaves": 0.19},
    "fraud": {"genuine": 0.962, "fraud": 0.038},
    "pricing": {"low": 0.4, "middle": 0.45, "high": 0.15},
    "ranking": {"0.1": 0.12, "0.2": 0.2, "0.3": 0.28, "0.4": 0.22, "0.5": 0.12, "0.6": 0.06},
    "sentiment": {"positive": 0.52, "neutral": 0.29, "negative": 0.19},
}


def settings() -> Settings:
    """What the configuration says of the endpoints that are seeded."""
    endpoints = {
        name: EndpointSettings(model=f"models:/{name}@champion", slo=Slo(p99_ms=50), release=PLAN) for name in ENDPOINTS
    }
    endpoints["iris"] = msgspec.structs.replace(
        endpoints["iris"], cache=Cache(ttl_seconds=60), batching=Batching(max_rows=256)
    )
    return Settings(endpoints=endpoints, default_endpoint="iris")


def ref(name: str, version: int) -> ModelRef:
    return ModelRef(f"models:/{name}/{version}", name, str(version), f"sha256:{version:02x}{'5e3a9c1b' * 7}{'0f' * 3}")


def registry() -> MemoryRegistry:
    """Models with a few versions each, aliases and signatures."""
    from tidegate.clock import ManualClock

    found = MemoryRegistry(ManualClock(NOW - 86_400))
    iris = Signature(
        (
            TensorSpec(
                "features", "FP32", (-1, 4), columns=("sepal length", "sepal width", "petal length", "petal width")
            ),
        ),
        (TensorSpec("label", "BYTES"), TensorSpec("probabilities", "FP32", (-1, 3))),
        labels=("setosa", "versicolor", "virginica"),
    )
    for name in ENDPOINTS:
        for version in range(1, 5):
            found.register(
                name,
                f"models:/{name}/{version}",
                metadata={"trained by": "nightly", "accuracy": f"{0.91 + version / 100:.2f}"},
                signature=iris if name == "iris" else None,
            )
        found.set_alias(name, "champion", "3")
        found.set_alias(name, "challenger", "4")
    return found


def seed(store: Store, windows: int = 90) -> None:
    """Fills an empty store; ``windows`` is how many seconds of counts are written."""
    rng = random.Random(7)
    with store.begin() as unit:
        _audit(
            unit, NOW - 7200, "tidegate", "key.create", "key:k3y0000000ad", "first start", after={"roles": ["admin"]}
        )
        for release, kinds in releases():
            add_release(unit, release, kinds, rng)
        _publish(unit)
        _instances(unit)
        _experiments(unit, rng)
        times = iter((NOW - 3000, NOW - 1800, NOW - 640))
        for what, target, reason in (
            ("key.revoke", "key:k3y0000000ex", "left the team"),
            ("model.alias", "model:churn", "promoted"),
            ("release.paused", "release:r-fraud-2", "checking the errors with the payments team"),
        ):
            _audit(unit, next(times), PERSON, what, target, reason, after={"state": "done"})
    with store.begin() as unit:
        unit.windows.add(list(traffic(rng, windows)))


def _audit(unit: Unit, at: float, who: str, action: str, target: str, reason: str, after: Any = None) -> None:
    with audit.acting_from(audit.Origin("10.0.4.17", "k3y0000000ad", "req-4711")):
        audit.record(unit, who, action, target, at=at, after=after, reason=reason)


def verdicts(state: str, progress: float = 1.0) -> tuple[Verdict, ...]:
    """Of the three guardrails of PLAN: good ones, undecided ones, or a failing one."""
    bad = state == "bad"
    against = THRESHOLD * (1.35 if bad else 0.12) * progress
    support = THRESHOLD * (0.1 if bad else 0.62 if state == "undecided" else 1.2) * progress
    return (
        Verdict(
            guardrail="errors",
            test="one-sided ramp test of failure rates",
            outcome="fail" if bad else "pass" if support >= THRESHOLD else "undecided",
            reason=(
                "46 of 1 204 requests of the candidate failed, 31 of 10 896 of the baseline: 13 times as often"
                if bad
                else "3 of 1 312 requests of the candidate failed, 31 of 24 530 of the baseline: 1.8 times as often"
            ),
            evidence=against,
            threshold=THRESHOLD,
            support=support,
            alpha=0.01,
            estimate=13.2 if bad else 1.81,
            interval=(6.1, 27.0) if bad else (0.31, 4.2),
        ),
        Verdict(
            guardrail="latency",
            test="fixed quantiles p50, p90, p99 with slack",
            outcome="pass",
            reason="p99 of the candidate is 11.8 ms, 12.4 ms of the baseline; not slower by more than 10 %",
            evidence=THRESHOLD * 0.05,
            threshold=THRESHOLD,
            support=THRESHOLD * 1.1 * progress,
            alpha=0.01,
            estimate=0.952,
        ),
        Verdict(
            guardrail="outputs",
            test="distance between the distributions of predictions",
            outcome="undecided" if progress < 1 or state == "undecided" else "pass",
            reason="the predictions differ by 0.021, at most 0.2 is allowed",
            evidence=0.0,
            threshold=THRESHOLD,
            support=THRESHOLD * 0.8 * progress,
            alpha=0.01,
            estimate=0.021,
            interval=(0.0, 0.064),
        ),
    )


def sides(endpoint: str, share: float, bad: bool = False) -> dict[str, Side]:
    labels = LABELS[endpoint]
    candidate = round(26_000 * share)
    failed = round(candidate * (0.038 if bad else 0.0023))
    return {
        "baseline": Side(
            requests=24_530,
            failures=31,
            outcomes={"ok": 24_499, "failed": 31},
            p50=0.0031,
            p90=0.0066,
            p99=0.0124,
            outputs={label: round(24_499 * part) for label, part in labels.items()},
        ),
        "candidate": Side(
            requests=candidate,
            failures=failed,
            outcomes={"ok": candidate - failed, "failed": failed},
            p50=0.0029,
            p90=0.0061,
            p99=0.0118 if not bad else 0.184,
            outputs={
                label: round(candidate * part * (1.04 if i else 0.95)) for i, (label, part) in enumerate(labels.items())
            },
        ),
        "shadow": Side(
            requests=612,
            failures=1,
            outcomes={"agree": 596, "differ": 15, "failed": 1},
            p50=0.003,
            p90=0.0064,
            p99=0.0121,
            outputs={label: round(612 * part) for label, part in labels.items()},
        ),
    }


Story = list[tuple[float, str, str, str, State, int, int]]
"""Seconds before now, kind, text, who, state, step, share."""


def releases() -> list[tuple[Release, Story]]:
    """One in every state that a visitor may meet."""
    started = "started by Ada: nightly training gained 1 % accuracy"

    def one(id_: str, endpoint: str, state: State, age: float, **more: Any) -> Release:
        plan = more.pop("plan", PLAN)
        return Release(
            id=id_, endpoint=endpoint, baseline=ref(endpoint, 3), candidate=ref(endpoint, 4), plan=plan, author=PERSON,
            created=NOW - age, changed=NOW - more.pop("quiet", 2.0), state=state, snapshot=2, published=NOW - age / 2,
            effect_seconds=0.38, loaded=True, first=40, looked=NOW - 1, **more,
        )  # fmt: skip

    ramping = one(
        "r-iris-4", "iris", "ramping", 372, step=1, share=500, since=NOW - 64, busy=64.0,
        waiting="step 2 of 5 (5 %): 1312 of 2000 requests, 64 of 120 seconds; errors undecided, outputs undecided",
        verdicts=verdicts("undecided"), sides=sides("iris", 0.05),
    )  # fmt: skip
    shadow = one(
        "r-sentiment-4", "sentiment", "shadow", 95, share=0, since=NOW - 80, busy=80.0,
        waiting="shadow: 312 of 500 copies, 97.4% agree, 0 failed",
        sides={"shadow": Side(requests=312, outcomes={"agree": 304, "differ": 8}, p50=0.021, p90=0.03, p99=0.044,
                              outputs={"positive": 170, "neutral": 84, "negative": 58})},
    )  # fmt: skip
    paused = one(
        "r-fraud-2", "fraud", "paused", 2900, resumes="ramping", step=2, share=2500, since=NOW - 1400, busy=1380.0,
        reason="checking the errors with the payments team", quiet=640.0,
        waiting="paused by Ada: the share stays until it is resumed",
        verdicts=verdicts("undecided", 0.9), sides=sides("fraud", 0.25),
    )  # fmt: skip
    promoted = one(
        "r-churn-4", "churn", "promoted", 5400, step=4, share=10_000, since=NOW - 1800, warm_until=NOW + 1800,
        reason="every guardrail passed at step 4 of 5 (50 %)", quiet=1800.0, verdicts=verdicts("good"),
        sides=sides("churn", 0.5),
    )  # fmt: skip
    rolled_back = one(
        "r-iris-3", "iris", "rolled_back", 9000, step=1, share=0, quiet=8300.0,
        reason="46 of 1 204 requests of the candidate failed, 31 of 10 896 of the baseline: 13 times as often",
        verdicts=verdicts("bad"), sides=sides("iris", 0.05, bad=True),
    )  # fmt: skip
    failed = one(
        "r-fraud-1", "fraud", "failed", 20_000, quiet=19_990.0,
        reason="gpu-2:8000 cannot load the candidate: sha256 differs from the pinned one",
    )  # fmt: skip
    inconclusive = one(
        "r-pricing-4", "pricing", "inconclusive", 50_000, resumes="ramping", step=3, share=5000, quiet=4000.0,
        waiting="a person decides: promote, roll back or resume",
        reason="step 4 of 5 (50 %) did not end within 3600 seconds of traffic: outputs undecided",
        verdicts=verdicts("undecided"), sides=sides("pricing", 0.5),
    )  # fmt: skip
    way: Story = [
        (360, "started", started, PERSON, "pending", -1, 0),
        (350, "stepped", "shadow: every instance has loaded the candidate; it gets copies", "releases", "shadow", -1, 0),
        (210, "stepped", "step 1 of 5 (1 %): shadow ended: 612 of 500 copies, 97.4% agree, 1 failed", "releases", "ramping", 0, 100),
        (209, "in_force", "step 1 of 5 (1 %) in force everywhere after 0.41 s", "releases", "ramping", 0, 100),
        (65, "stepped", "step 2 of 5 (5 %): step 1 of 5 (1 %) ended: 2004 of 2000 requests, 143 of 120 seconds", "releases", "ramping", 1, 500),
        (64, "in_force", "step 2 of 5 (5 %) in force everywhere after 0.38 s", "releases", "ramping", 1, 500),
    ]  # fmt: skip
    return [
        (failed, [(19_995, "failed", failed.reason, "releases", "failed", -1, 0)]),
        (rolled_back, [*_earlier(way, 8640), (8300, "rolled_back", rolled_back.reason, "releases", "rolled_back", 1, 0)]),
        (promoted, [*_earlier(way, 5040), (1800, "promoted", promoted.reason, "releases", "promoted", 4, 10_000)]),
        (inconclusive, [(4000, "inconclusive", inconclusive.reason, "releases", "inconclusive", 3, 5000)]),
        (paused, [*_earlier(way, 2500), (640, "paused", paused.reason, PERSON, "paused", 2, 2500)]),
        (shadow, [(95, "started", started, PERSON, "pending", -1, 0), (81, "stepped", way[1][2], "releases", "shadow", -1, 0)]),
        (ramping, way),
    ]  # fmt: skip


def _earlier(story: Story, seconds: float) -> Story:
    return [(before + seconds, *rest) for before, *rest in story]  # type: ignore[misc]


def add_release(unit: Unit, release: Release, story: Story, rng: random.Random) -> None:
    """The release with its history and a row of evidence every two seconds."""
    final = msgspec.structs.replace(release, revision=len(story) - 1)
    for revision, (before, kind, text, who, state, step, share) in enumerate(story):
        entry = Entry(kind=kind, text=text, who=who, state=state, step=step, share=share)
        stage = msgspec.structs.replace(release, revision=revision, state=state, changed=NOW - before)
        if revision == 0:
            first = final if len(story) == 1 else stage
            unit.releases.add(row_of(first), event_row(stage, entry))
        else:
            last = final if revision == len(story) - 1 else stage
            row = msgspec.structs.replace(row_of(last), open=release.open)
            unit.releases.save(row, event_row(stage, entry), revision - 1)
    if not release.verdicts:
        return
    end, begin = story[-1][0], story[min(2, len(story) - 1)][0]
    end = 0 if release.state == "ramping" else end
    begin = max(begin, end + 600) if len(story) == 1 else begin
    looks = 150
    wander = [[0.0, 0.0] for _ in release.verdicts]
    for tick in range(looks):
        done = (tick + 1) / looks
        before = begin + (end - begin) * done
        step, share = next(((s, b) for at, _, _, _, _, s, b in reversed(story) if at >= before and b), (0, 100))
        seen = []
        for noise, verdict in zip(wander, release.verdicts, strict=True):
            noise[0] += rng.gauss(0, 0.12)
            noise[1] += rng.gauss(0, 0.12)
            quiet = 1 - done
            curve = done**1.7
            seen.append(
                msgspec.structs.replace(
                    verdict,
                    evidence=verdict.evidence * curve + noise[0] * quiet - 0.8 * quiet * done * 4,
                    support=verdict.support * curve + noise[1] * quiet,
                    outcome=verdict.outcome if done > 0.95 else "undecided",
                )
            )
        look = Look(
            revision=1, after=1, taken=Taken(), events=(), verdicts=tuple(seen), requests=round(1312 * done),
            state="ramping", step=step, share=share,
        )  # fmt: skip
        unit.releases.add_evidence(EvidenceRow(release.id, tick, NOW - before, msgspec.json.encode(look).decode()))


def _publish(unit: Unit) -> None:
    """A plan for each endpoint, as its release or experiment left it."""

    def plan(name: str, *others: Variant, baseline: int = 3, **more: Any) -> EndpointPlan:
        return EndpointPlan(name, (Variant("baseline", ref(name, baseline)), *others), salt=name, **more)

    endpoints = {
        "iris": plan("iris", Variant("candidate", ref("iris", 4), 500)),
        "churn": plan("churn", Variant("previous", ref("churn", 3)), baseline=4),
        "fraud": plan("fraud", Variant("candidate", ref("fraud", 4), 2500)),
        "pricing": plan("pricing", Variant("candidate", ref("pricing", 4), 5000)),
        "ranking": plan(
            "ranking", Variant("bold", ref("ranking", 4), 3000), Variant("bolder", ref("ranking", 2), 3000),
            experiment=Exposing("homepage-order"),
        ),
        "sentiment": plan("sentiment", Variant("candidate", ref("sentiment", 4), 0, shadow=True)),
    }  # fmt: skip
    unit.snapshots.publish(
        RoutingSnapshot(0, endpoints, "iris"),
        reason="step 2 of 5 (5 %)",
        author="releases",
        release="r-iris-4",
        at=NOW - 64.4,
    )


def _instances(unit: Unit) -> None:
    latest = unit.snapshots.latest()
    assert latest is not None
    models = {
        name: {variant.name: variant.model.version for variant in plan.variants}
        for name, plan in latest.snapshot.endpoints.items()
    }
    for number, (instance, age, snapshot) in enumerate(
        (("gpu-1:8000", 0.4, latest.number), ("gpu-2:8000", 0.7, latest.number), ("gpu-3:8000", 340.0, 1))
    ):
        unit.instances.beat(
            Beat(
                instance=instance,
                host="10.0.4.2",
                port=8000,
                pid=100 + number,
                workers=4,
                started=NOW - 90_000,
                time=NOW - age,
                snapshot=snapshot,
                models=models,
            )
        )


RATES: Mapping[tuple[str, str], tuple[float, float, float, str]] = {
    ("iris", "baseline"): (398.0, 0.0031, 0.0013, "3"),
    ("iris", "candidate"): (21.0, 0.0029, 0.0023, "4"),
    ("churn", "baseline"): (64.0, 0.0082, 0.0004, "4"),
    ("fraud", "baseline"): (151.0, 0.0046, 0.002, "3"),
    ("fraud", "candidate"): (49.0, 0.0058, 0.011, "4"),
    ("pricing", "baseline"): (14.0, 0.031, 0.0, "3"),
    ("pricing", "candidate"): (14.2, 0.033, 0.0, "4"),
    ("ranking", "baseline"): (33.0, 0.014, 0.0, "3"),
    ("ranking", "bold"): (25.0, 0.012, 0.0, "4"),
    ("ranking", "bolder"): (24.0, 0.017, 0.0, "2"),
    ("sentiment", "baseline"): (3.9, 0.021, 0.0, "3"),
    ("sentiment", "candidate"): (3.9, 0.024, 0.0, "4"),
}
"""Requests a second, median latency, share of failures, version."""


def traffic(rng: random.Random, seconds: int, processes: int = 2) -> list[VariantWindow]:
    """One window a second, variant and process, up to NOW."""
    found = []
    for (endpoint, variant), (rate, median, failing, version) in RATES.items():
        shadow = (endpoint, variant) == ("sentiment", "candidate")
        for process in range(processes):
            for second in range(seconds):
                wave = 1 + 0.25 * math.sin(second / 11) + rng.gauss(0, 0.06)
                count = max(0, round(rate * wave / processes + rng.random() - 0.5))
                latency: dict[int, int] = {}
                for _ in range(count):
                    tail = rng.expovariate(60) if rng.random() < 0.02 else 0.0
                    index = bin_of(median * rng.lognormvariate(0, 0.42) + tail)
                    latency[index] = latency.get(index, 0) + 1
                failed = sum(rng.random() < failing for _ in range(count))
                kinds = {"agree": count, "failed": failed} if shadow else {"ok": count - failed, "failed": failed}
                labels = LABELS[endpoint]
                drawn = rng.choices(list(labels), list(labels.values()), k=count)
                found.append(
                    VariantWindow(
                        process=f"p{process}",
                        sequence=second + 1,
                        endpoint=endpoint,
                        variant=variant,
                        version=version,
                        snapshot=2,
                        share=0,
                        shadow=shadow,
                        start=NOW - 2 - seconds + second,
                        seconds=1.0,
                        requests=count,
                        failures=failed,
                        outcomes={kind: n for kind, n in kinds.items() if n},
                        latency=latency,
                        outputs={label: drawn.count(label) for label in set(drawn)},
                    )
                )
    return found


def _experiments(unit: Unit, rng: random.Random) -> None:
    spec = Spec(
        name="homepage-order",
        endpoint="ranking",
        arms=(Arm("bold", "models:/ranking/4", 30), Arm("bolder", "models:/ranking/2", 30)),
        metrics=(Metric(name="conversion"), Metric(name="basket", kind="numeric")),
        stop=StopRules(max_units=100_000),
    )
    plan = EndpointPlan("ranking", (Variant("baseline", ref("ranking", 3)),))
    running = Experiment(
        spec=spec,
        models={"baseline": ref("ranking", 3), "bold": ref("ranking", 4), "bolder": ref("ranking", 2)},
        author=PERSON,
        created=NOW - 7000,
        state="running",
        started=NOW - 6990,
        before=plan,
        snapshot=2,
        warm=True,
    )
    old = msgspec.structs.replace(
        running,
        spec=msgspec.structs.replace(spec, name="button-colour"),
        state="stopped",
        created=NOW - 600_000,
        ended=NOW - 300_000,
        reason="max_units is reached",
    )
    for experiment in (old, running):
        body = msgspec.json.encode(experiment).decode()
        unit.experiments.add(ExperimentRow(experiment.name, "ranking", experiment.state, experiment.created, 0, body))
    drift = [rng.gauss(0, 1) for _ in range(140)]
    for index in range(1, 140):
        units = index * 180
        unit.experiments.add_report(
            running.name,
            NOW - 7000 + index * 50,
            msgspec.json.encode(_report(running.name, NOW - 7000 + index * 50, units, drift[index])).decode(),
        )


def _report(name: str, time: float, units: int, noise: float) -> Report:
    per_arm = {"baseline": round(units * 0.4), "bold": round(units * 0.3), "bolder": round(units * 0.3)}
    comparisons, estimates = [], []
    for metric, mean, scale, effects in (
        ("conversion", 0.112, 0.315, {"bold": 0.014, "bolder": -0.002}),
        ("basket", 41.2, 18.0, {"bold": 0.4, "bolder": 0.9}),
    ):
        for arm, effect in {"baseline": 0.0, **effects}.items():
            half = 3.3 * scale / math.sqrt(per_arm[arm])
            centre = effect + noise * half * 0.08
            estimates.append(
                Estimate(
                    metric=metric,
                    arm=arm,
                    units=per_arm[arm],
                    outcomes=per_arm[arm],
                    mean=mean + centre,
                    interval=(mean + centre - half, mean + centre + half),
                )
            )
            if arm == "baseline":
                continue
            wide = half * 1.3
            better = centre - wide > 0
            comparisons.append(
                Comparison(
                    metric=metric,
                    arm=arm,
                    outcome="better" if better else "undecided",
                    reason=f"{metric} of {arm} is {abs(centre / mean):.1%} {'higher' if centre > 0 else 'lower'} than the control arm's"
                    + ("" if better else "; the interval still covers no difference"),
                    difference=centre,
                    interval=(centre - wide, centre + wide),
                    lift=centre / mean,
                    lift_interval=((centre - wide) / mean, (centre + wide) / mean),
                    p=0.004 if better else 0.34,
                    alpha=0.0125,
                    variance_removed=0.21 if metric == "basket" else 0.0,
                )
            )
    split = Verdict(
        guardrail="split", test="sample ratio", outcome="pass", alpha=0.001, p=0.41,
        reason=f"{per_arm['baseline']} / {per_arm['bold']} / {per_arm['bolder']} units against 40 % / 30 % / 30 %: as configured",
    )  # fmt: skip
    return Report(
        experiment=name,
        time=time,
        units=per_arm,
        estimates=tuple(estimates),
        comparisons=tuple(comparisons),
        split=split,
    )
