"""Two days of the endpoint churn, made up, and what the real monitor makes of them: at first all is as in training, then
charges rise, contracts come that nobody knew, and the model is wrong more often. The newest labels are not there yet.
"""

from __future__ import annotations

import math
import random
from typing import Any

import msgspec

from tests.e2e import seed
from tests.e2e.seed import NOW, PERSON
from tidegate.clock import ManualClock
from tidegate.control.monitoring import rows
from tidegate.control.monitoring.profiles import make_profile
from tidegate.control.monitoring.service import MonitorService
from tidegate.control.registry.base import Registry
from tidegate.control.releases.release import Release
from tidegate.monitor_plan import MonitorPlan, PerformancePlan, QualityBound, RetrainPlan
from tidegate.observations import Feedback, PredictionEvent
from tidegate.settings import Settings
from tidegate.storage.store import Store

WINDOW = 3600.0
WINDOWS = 47
ROWS = 160
"""Of a window, in one request; and as many requests of one row with a label as ``LABELS``."""
LABELS = 50
SETTLED = 10.0
"""Seconds after a window at which the monitor looks."""
PROMOTED, RETURNED = 30 * 3600.0, 9 * 3600.0
"""Seconds before now."""
PLAN = MonitorPlan(
    window="1h",
    reference="churn-train",
    performance=PerformancePlan(min_labels=40, bounds={"accuracy": QualityBound(min=0.86)}),
)
CONTRACTS = ("monthly", "yearly", "two years")
HOSTILE = '<img src=x onerror="alert(1)">'
"""What is no name of anything, and must stay text."""


def settings() -> Settings:
    """With two watched endpoints, the second without anything to be compared with."""
    found = seed.settings()
    fraud = msgspec.structs.replace(PLAN, reference="training")
    churn = msgspec.structs.replace(PLAN, retrain=RetrainPlan(config="train.yaml", every="7d"))
    plans = {"churn": churn, "fraud": fraud}
    endpoints = {
        name: msgspec.structs.replace(one, monitor=plans.get(name), event_sample=1.0)
        for name, one in found.endpoints.items()
    }
    return msgspec.structs.replace(found, endpoints=endpoints)


def run(store: Store, registry: Registry, odd: str = HOSTILE) -> None:
    """Fills a seeded store: the monitor looks after every window, as it would have. ``odd`` names a column, and is what some
    customers send."""
    rng = random.Random(11)
    first = math.floor(NOW / WINDOW) * WINDOW - (WINDOWS + 1) * WINDOW
    clock = ManualClock(first + SETTLED)
    service = MonitorService(store, registry, settings(), clock, "made up")
    trained = rows.table_of(_events(rng, odd, first, 0.0, "3", 1, 3000, 1))
    service.baselines.of_profile("churn-train", make_profile(trained), endpoint="churn", who=PERSON, reason="made up")
    with store.begin() as unit:
        for release, story in releases():
            seed.add_release(unit, release, story, rng)
        latest = unit.snapshots.latest()
        assert latest is not None
    service.tick()
    waiting: list[Feedback] = []
    for index in range(WINDOWS):
        start = first + index * WINDOW
        grown = max(0.0, (index - WINDOWS * 0.55) / (WINDOWS * 0.45))
        version = "3" if start < NOW - PROMOTED else "4"
        night = index in range(16, 20)
        events = _events(rng, odd, start, grown, version, latest.snapshot.number, 20 if night else ROWS, 1)
        labelled = [] if night else _events(rng, odd, start, grown, version, latest.snapshot.number, 1, LABELS)
        waiting += [_label(rng, event, grown) for event in labelled]
        came = [one for one in waiting if one.received <= clock.wall() + WINDOW]
        waiting = [one for one in waiting if one.received > clock.wall() + WINDOW]
        with store.begin() as unit:
            unit.events.add([*events, *labelled])
            unit.feedback.add(came)
        clock.advance(WINDOW)
        service.tick()


def releases() -> list[tuple[Release, seed.Story]]:
    """Version 4 was promoted, a fifth one came and went."""
    story: seed.Story = [(PROMOTED, "promoted", "every guardrail passed", "releases", "promoted", 4, 10_000)]
    back: seed.Story = [(RETURNED, "rolled_back", "too many failures", "releases", "rolled_back", 1, 0)]
    made: dict[str, Any] = {"endpoint": "churn", "plan": seed.PLAN, "author": PERSON, "snapshot": 2}
    promoted = Release(
        id="r-churn-3", baseline=seed.ref("churn", 3), candidate=seed.ref("churn", 4), state="promoted",
        created=NOW - PROMOTED - 900, changed=NOW - PROMOTED, published=NOW - PROMOTED, **made,
    )  # fmt: skip
    returned = Release(
        id="r-churn-5", baseline=seed.ref("churn", 4), candidate=seed.ref("churn", 5), state="rolled_back",
        created=NOW - RETURNED - 900, changed=NOW - RETURNED, published=NOW - RETURNED, **made,
    )  # fmt: skip
    return [(promoted, story), (returned, back)]


def _events(
    rng: random.Random, odd: str, start: float, grown: float, version: str, snapshot: int, wide: int, count: int
) -> list[PredictionEvent]:
    """``count`` requests of ``wide`` rows; ``grown`` from 0 to 1 says how far the world has moved."""
    found = []
    for number in range(count):
        customers = [_customer(rng, grown, odd) for _ in range(wide)]
        inputs = {name: [one[name] for one in customers] for name in customers[0]}
        outputs: dict[str, list[Any]] = {"predictions": [], "labels": [], "scores": []}
        for _ in range(wide):
            leaves = rng.betavariate(1, 12) if rng.random() < 0.75 - 0.25 * grown else rng.betavariate(10, 1.5)
            outputs["predictions"].append(int(leaves > 0.5))
            outputs["labels"].append("leaves" if leaves > 0.5 else "stays")
            outputs["scores"].append([1 - leaves, leaves])
        found.append(
            PredictionEvent(
                request_id=f"q-{start:.0f}-{wide}-{number}", process="p0", endpoint="churn", variant="baseline",
                version=version, snapshot=snapshot, time=start + (number + 0.5) * WINDOW / count, rows=wide,
                inputs=msgspec.json.encode(inputs), outputs=msgspec.json.encode(outputs),
            )
        )  # fmt: skip
    return found


def _customer(rng: random.Random, grown: float, odd: str) -> dict[str, Any]:
    contract = rng.choices(CONTRACTS, (0.55 + 0.2 * grown, 0.3, 0.15))[0]
    if grown > 0.5 and rng.random() < 0.06:
        contract = rng.choice(("five years", odd))
    return {
        "monthly_charges": round(rng.gauss(64 + 34 * grown, 21), 2),
        "tenure": None if rng.random() < 0.01 + 0.12 * (grown > 0.7) else rng.randint(0, 72) if grown < 0.4 else rng.randint(0, 50),
        "support_calls": min(9, int(rng.expovariate(0.9 - 0.45 * grown))),
        "contract": contract,
        "region": rng.choice(("north", "south", "west")),
        "age": round(rng.gauss(46, 13)),
        "streaming": rng.random() < 0.5,
        odd: rng.random(),
    }  # fmt: skip


def _label(rng: random.Random, event: PredictionEvent, grown: float) -> Feedback:
    """What became of the customer, some hours later."""
    told = "leaves" if b'"leaves"' in event.outputs else "stays"
    wrong = rng.random() < 0.08 + 0.17 * grown
    label = {"leaves": "stays", "stays": "leaves"}[told] if wrong else told
    came = event.time + 9000 + rng.uniform(0, 900)
    return Feedback(
        metric=PLAN.performance.metric,
        request_id=event.request_id,
        endpoint="churn",
        label=label,
        time=came,
        received=came,
    )
