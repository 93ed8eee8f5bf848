"""A control plane for tests: a real store and real access, releases that only remember what they are told."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from fastapi import FastAPI

from tests.stores import sqlite_store
from tests.unit.control.api.client import Client
from tidegate.clock import ManualClock
from tidegate.control.access import audit
from tidegate.control.access.gate import Access
from tidegate.control.api.app import make_app
from tidegate.control.api.services import Services
from tidegate.control.experiments.service import ExperimentService
from tidegate.control.figures import Figures
from tidegate.control.jobs.batches import Batches
from tidegate.control.jobs.queue import Queue
from tidegate.control.jobs.schedule import Schedules
from tidegate.control.monitoring.service import MonitorService
from tidegate.control.registry.files import FilesRegistry
from tidegate.control.releases.history import Line
from tidegate.control.releases.look import Point
from tidegate.control.releases.release import Release
from tidegate.control.training.retrain import RetrainService
from tidegate.errors import Conflict
from tidegate.keys import KeyFacts, KeyRole
from tidegate.settings import Control, EndpointSettings, ReleaseSettings, Settings, Trust
from tidegate.storage.records import EvidenceRow, ReleaseEventRow, ReleaseRow
from tidegate.storage.store import Store
from tidegate.types import ModelRef

SETTINGS = Settings(
    endpoints={"iris": EndpointSettings(model="iris.onnx"), "churn": EndpointSettings(model="churn.onnx")},
    control=Control(requests_per_minute=100_000),
)


class FakeReleases:
    """Keeps releases in the store as the real service does, and moves them to whatever state is asked for."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self._store = store
        self._clock = clock
        self._made = 0
        self.asked_after: list[int] = []

    def start(
        self,
        endpoint: str,
        candidate_uri: str,
        *,
        who: str,
        reason: str = "",
        plan: ReleaseSettings | None = None,
        requested_by: str = "person",
    ) -> Release:
        self._made += 1
        now = self._clock.wall()
        release = Release(
            id=f"r{self._made}",
            endpoint=endpoint,
            baseline=ModelRef("models:/iris/3", version="3"),
            candidate=ModelRef(candidate_uri, version="4"),
            plan=plan or ReleaseSettings(),
            author=who,
            created=now,
            changed=now,
            reason=reason,
        )
        with self._store.begin() as unit:
            unit.releases.add(_row(release), _event(release, "started"))
            audit.record(unit, who, "release.start", f"release {release.id}", at=now, after=release, reason=reason)
        return release

    def change(self, release_id: str, state: str, *, who: str, reason: str = "") -> Release:
        now = self._clock.wall()
        with self._store.begin() as unit:
            row = unit.releases.get(release_id)
            assert row is not None
            before = msgspec.json.decode(row.body, type=Release)
            if before.state == state:
                raise Conflict(f"the release is {state} already")
            after = msgspec.structs.replace(
                before, state=state, reason=reason, changed=now, revision=before.revision + 1
            )
            unit.releases.save(_row(after), _event(after, state), before.revision)
            unit.releases.add_evidence(EvidenceRow(release_id, after.revision, now, '{"verdicts":[]}'))
            audit.record(unit, who, f"release.{state}", f"release {release_id}", at=now, before=before, after=after)
        return after

    def pause(self, release_id: str, *, who: str, reason: str) -> Release:
        return self.change(release_id, "paused", who=who, reason=reason)

    def resume(self, release_id: str, *, who: str, reason: str) -> Release:
        return self.change(release_id, "ramping", who=who, reason=reason)

    def promote(self, release_id: str, *, who: str, reason: str) -> Release:
        return self.change(release_id, "promoted", who=who, reason=reason)

    def rollback(self, release_id: str, *, who: str, reason: str) -> Release:
        return self.change(release_id, "rolled_back", who=who, reason=reason)

    def events(self, release_id: str, after: int = -1) -> list[Line]:
        self.asked_after.append(after)
        with self._store.read() as unit:
            return [
                Line(revision=row.revision, time=row.time, kind=row.kind, text="", who="ada", state="ramping")
                for row in unit.releases.events(release_id, after)
            ]

    def evidence(self, release_id: str, after: int = -1, limit: int = 1000) -> list[Point]:
        with self._store.read() as unit:
            return [
                Point(tick=row.tick, time=row.time, state="ramping", step=0, share=100)
                for row in unit.releases.evidence(release_id, after, limit)
            ]

    def replay(self, release_id: str) -> dict[str, Any]:
        return {"release": release_id, "agrees": True}


def _row(release: Release) -> ReleaseRow:
    is_open = release.state not in ("promoted", "rolled_back", "failed")
    body = msgspec.json.encode(release).decode()
    return ReleaseRow(
        release.id, release.endpoint, release.state, is_open, release.created, release.changed, release.revision, body
    )


def _event(release: Release, kind: str) -> ReleaseEventRow:
    return ReleaseEventRow(release.id, release.revision, release.changed, kind, '{"share":0}')


class Plane:
    """``client`` has no key; ``key`` makes one and gives its headers."""

    def __init__(self, folder: Path, settings: Settings = SETTINGS, *, with_console: bool = False) -> None:
        self.clock = ManualClock(1_795_267_200.0)
        self.store = sqlite_store(folder, self.clock)
        self.folder = folder
        registry = FilesRegistry(folder / "registry", Trust(), base=folder)
        self.access = Access(self.store, settings.control, self.clock, folder)
        releases: Any = FakeReleases(self.store, self.clock)
        jobs = Queue(self.store, settings.jobs, self.clock)
        self.services = Services(
            store=self.store,
            registry=registry,
            releases=releases,
            experiments=ExperimentService(self.store, registry, settings, self.clock, "test"),
            figures=Figures(self.store, settings, self.clock, fresh=0.0),
            jobs=jobs,
            batches=Batches(self.store, jobs, settings.jobs, self.clock, folder / "jobs"),
            schedules=Schedules(self.store, jobs, self.clock, "test", 10.0),
            retraining=RetrainService(self.store, registry, settings, jobs, releases, self.clock, "test"),
            monitoring=MonitorService(self.store, registry, settings, self.clock, "test", base=folder),
            access=self.access,
            settings=settings,
            clock=self.clock,
            stopping=threading.Event(),
        )
        self.app: FastAPI = make_app(self.services, with_console=with_console)
        self.client = Client(self.app)

    def key(self, role: KeyRole = "operate", *, name: str = "ada", endpoints: tuple[str, ...] = (), **more: Any) -> str:
        facts = KeyFacts(name=name, roles=(role,), endpoints=endpoints, **more)
        return self.access.keys.create(facts, who="test").key

    def headers(self, role: KeyRole = "operate", **more: Any) -> dict[str, str]:
        return {"X-API-Key": self.key(role, **more)}

    def actions(self) -> list[str]:
        with self.store.read() as unit:
            return [row.action for row in unit.audit.rows()]


@contextmanager
def control_plane(folder: Path, settings: Settings = SETTINGS, **more: Any) -> Iterator[Plane]:
    plane = Plane(folder, settings, **more)
    try:
        yield plane
    finally:
        plane.client.close()
        plane.store.close()


def started(plane: Plane, headers: Mapping[str, str], endpoint: str = "iris") -> str:
    """The id of a new release."""
    body = {"endpoint": endpoint, "model": "models:/iris/4"}
    answer = plane.client.post("/api/v1/releases", json=body, headers=dict(headers))
    assert answer.status_code == 201, answer.text
    found: str = answer.json()["id"]
    return found
