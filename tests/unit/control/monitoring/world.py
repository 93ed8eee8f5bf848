"""A monitored endpoint on a real store: predictions and labels are rows, and a clock that is pushed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tidegate.clock import ManualClock
from tidegate.control.jobs.job import Job
from tidegate.control.jobs.queue import job_of
from tidegate.control.monitoring import profiles
from tidegate.control.monitoring.records import Alert, DriftReport
from tidegate.control.monitoring.service import MonitorService
from tidegate.control.monitoring.state import MonitorState, read_state
from tidegate.monitor_plan import MonitorPlan
from tidegate.observations import Feedback, PredictionEvent
from tidegate.settings import Alerts, EndpointSettings, Settings
from tidegate.storage.store import Store
from tidegate.testing.registry import MemoryRegistry
from tidegate.types import EndpointPlan, ModelRef, RoutingSnapshot, Variant

START = 1_795_266_000.0
"""The beginning of an hour."""
HOUR = 3600.0
PLAN = MonitorPlan()
TABLE = {
    "age": np.random.default_rng(1).normal(40, 10, 2000),
    "plan": np.random.default_rng(2).choice(["a", "b", "c"], 2000).tolist(),
}


class Hurried(ManualClock):
    """Seconds pass whenever one looks at it."""

    def __init__(self, wall: float, seconds: float = 3.0) -> None:
        super().__init__(wall)
        self._seconds = seconds

    def monotonic(self) -> float:
        self.advance(self._seconds)
        return super().monotonic()


class World:
    def __init__(self, store: Store, clock: ManualClock, folder: Path, plan: MonitorPlan = PLAN, **endpoint: Any):
        self.store = store
        self.clock = clock
        self.folder = folder
        self.registry = MemoryRegistry(clock)
        self.settings = Settings(
            endpoints={"churn": EndpointSettings(model="models:/churn@champion", monitor=plan, **endpoint)},
            alerts=Alerts(webhook="http://127.0.0.1:9/hook"),
        )
        self.service = self.another("one")
        self._ids = itertools.count()
        self.number = 0

    def another(self, holder: str, store: Store | None = None) -> MonitorService:
        return MonitorService(store or self.store, self.registry, self.settings, self.clock, holder, base=self.folder)

    def register(self, table: Any = TABLE, **metadata: str) -> str:
        """The number of a version with a training profile; without a table, without one."""
        profile = self.folder / f"profile-{next(self._ids)}.json"
        if table is not None:
            profile.write_bytes(profiles.encode(profiles.make_profile(table)))
        made = self.registry.register(
            "churn", f"model-{profile.stem}", metadata=metadata, profile=profile if table is not None else None
        )
        return made.version

    def publish(self, version: str, *others: Variant) -> None:
        ref = ModelRef("models:/churn", "churn", version) if version else ModelRef("churn.onnx", "", "1f0c")
        plan = EndpointPlan("churn", (Variant("baseline", ref), *others))
        with self.store.begin() as unit:
            published = unit.snapshots.publish(
                RoutingSnapshot(0, {"churn": plan}), reason="test", author="test", at=self.clock.wall()
            )
        self.number = published.number

    def send(
        self,
        rows: int,
        *,
        shift: float = 0.0,
        at: float | None = None,
        variant: str = "baseline",
        version: str = "1",
        forced: bool = False,
        missing: float = 0.0,
        each: int = 1,
        seed: int = 3,
        right: float = 1.0,
    ) -> list[str]:
        """``rows`` predictions, ``each`` rows a request; the ids of the requests. A share ``right`` of the predictions says
        what ``truth`` does."""
        random = np.random.default_rng(seed)
        sent = []
        for _ in range(rows // each):
            ages = [
                None if random.random() < missing else round(float(one), 3)
                for one in random.normal(40 + shift, 10, each)
            ]
            plans = random.choice(["a", "b", "c"], each).tolist()
            said = [int(random.random() < right) for _ in range(each)]
            sent.append(
                self.event(
                    {"age": ages, "plan": plans},
                    {"predictions": said, "scores": [[0.1, 0.9] if one else [0.9, 0.1] for one in said]},
                    at=at, variant=variant, version=version, forced=forced, rows=each,
                )
            )  # fmt: skip
        with self.store.begin() as unit:
            unit.events.add(sent)
        return [event.request_id for event in sent]

    def event(self, inputs: Any, outputs: Any, *, at: float | None = None, **fields: Any) -> PredictionEvent:
        return PredictionEvent(
            request_id=f"r{next(self._ids)}",
            process="p",
            snapshot=self.number,
            time=self.clock.wall() if at is None else at,
            inputs=inputs if isinstance(inputs, bytes) else msgspec.json.encode(inputs),
            outputs=outputs if isinstance(outputs, bytes) else msgspec.json.encode(outputs),
            **{"endpoint": "churn", "variant": "baseline", "version": "1", **fields},
        )

    def add(self, *events: PredictionEvent) -> None:
        with self.store.begin() as unit:
            unit.events.add(events)

    def label(self, ids: Sequence[str], value: str = "1") -> None:
        now = self.clock.wall()
        with self.store.begin() as unit:
            unit.feedback.add(
                [
                    Feedback(metric=PLAN.performance.metric, request_id=one, label=value, time=now, received=now)
                    for one in ids
                ]
            )

    def look(self, seconds: float = 30.0) -> None:
        self.clock.advance(seconds)
        self.service.tick()

    def next_window(self) -> None:
        """To a little after the end of the running one, and a look."""
        now = self.clock.wall()
        self.look(START + ((now - START) // HOUR + 1) * HOUR - now + 10)

    @property
    def state(self) -> MonitorState:
        with self.store.read() as unit:
            row = unit.monitors.get("churn")
        assert row is not None
        return read_state(row.body)

    def reports(self) -> list[DriftReport]:
        """The oldest window first."""
        return sorted(self.service.reports("churn", 500), key=lambda one: (one.start, one.variant, one.version))

    def rows(self) -> dict[tuple[str, str, float], int]:
        with self.store.read() as unit:
            found = unit.monitors.profiles("churn", 0.0, 1e12)
        return {(row.variant, row.version, row.start): row.rows for row in found}

    def alerts(self, *states: str) -> dict[str, Alert]:
        return {one.rule: one for one in self.service.alerts("churn", states)}

    def jobs(self) -> list[Job]:
        with self.store.read() as unit:
            return [job_of(row) for row in reversed(unit.jobs.list(kind="notify"))]
