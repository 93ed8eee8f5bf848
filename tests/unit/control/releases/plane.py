"""A control plane in memory and a data plane of fakes: a real store on SQLite, a clock that is moved by hand."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from tidegate.clock import Clock, ManualClock
from tidegate.control.registry.base import ModelVersion, RegistryAway
from tidegate.control.releases.prometheus import Prometheus
from tidegate.control.releases.release import Release
from tidegate.control.releases.service import ReleaseService
from tidegate.errors import ModelError, NotFound
from tidegate.metrics import bin_of
from tidegate.observations import Beat, VariantWindow
from tidegate.settings import (
    EndpointSettings,
    ErrorsGuardrail,
    Guardrail,
    ReleaseSettings,
    Settings,
    StepPlan,
)
from tidegate.storage.records import Published
from tidegate.storage.store import Store, Unit, open_store
from tidegate.types import EndpointPlan, ModelRef, Signature

PLAN = ReleaseSettings(
    steps=(10, 50, 100),
    step=StepPlan(min_requests=20, min_seconds=2, max_seconds=60),
    guardrails=(Guardrail(errors=ErrorsGuardrail(acceptable_rate=0.2)),),
    keep_warm_seconds=100,
    max_silence_seconds=10,
)
"""Small, so that a release takes a few dozen windows."""


class FakeRegistry:
    """Versions 1..9 of every model but those in ``deleted``, and aliases; ``away`` makes every call fail."""

    def __init__(self) -> None:
        self.aliases: dict[tuple[str, str], str] = {}
        self.away = False
        self.deleted: set[str] = set()
        self.moves: list[tuple[str, str, str | None]] = []

    def versions(self, name: str) -> list[ModelVersion]:
        return [self.get(name, str(number)) for number in range(9, 0, -1)]

    def get(self, name: str, version: str) -> ModelVersion:
        self._reach()
        number = self.aliases.get((name, version), version)
        if not number.isdigit() or not 0 < int(number) < 10 or number in self.deleted:
            raise NotFound(f"{name} has no version {version}")
        return ModelVersion(
            name=name, version=number, uri=f"/models/{name}/{number}", digest=_digest(name, number), created=1.0
        )

    def register(
        self,
        name: str,
        source: Path | str,
        *,
        metadata: Mapping[str, str],
        aliases: Sequence[str] = (),
        profile: Path | str | None = None,
        signature: Signature | None = None,
    ) -> ModelVersion:
        raise AssertionError("nothing registers here")

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        self._reach()
        if version in self.deleted:
            raise NotFound(f"{name} has no version {version}")
        self.moves.append((name, alias, version))
        self.aliases[name, alias] = version or ""

    def profile(self, version: ModelVersion, most_bytes: int) -> bytes:
        raise NotFound(version.name)

    def ref(self, uri: str) -> ModelRef:
        if not uri.startswith("models:/"):
            if "missing" in uri:
                raise ModelError(f"{uri}: no such file or folder")
            return ModelRef(uri, "", "1", _digest(uri, "1"))
        name, _, version = uri.removeprefix("models:/").replace("@", "/").partition("/")
        found = self.get(name, version)
        return ModelRef(found.uri, name, found.version, found.digest)

    def _reach(self) -> None:
        if self.away:
            raise RegistryAway("the registry does not answer")


def _digest(name: str, version: str) -> str:
    return f"sha256:{name}-{version}"


class Bridge(Protocol):
    """Where both planes meet."""

    @property
    def store(self) -> Store: ...

    @property
    def clock(self) -> Clock: ...


class Instance:
    """A serving instance: follows the store, acknowledges, and counts what it is told to."""

    def __init__(self, plane: Bridge, name: str) -> None:
        self.plane = plane
        self.name = name
        self.snapshot = 0
        self.refuses = ""
        self.alive = True
        self.slow = False
        self.refused = 0
        """Snapshot that its signs of life say it could not load."""
        self.sequence = 0

    def follow(self, unit: Unit, newest: Published | None, now: float) -> None:
        if self.alive:
            if newest is not None and newest.number != self.snapshot and not self.slow:
                unit.instances.acknowledge(newest.number, self.name, now, self.refuses)
                self.snapshot = self.snapshot if self.refuses else newest.number
            unit.instances.beat(
                Beat(
                    instance=self.name,
                    host="test",
                    port=8000,
                    pid=1,
                    workers=1,
                    started=0.0,
                    time=now,
                    snapshot=self.snapshot,
                    refused=self.refused,
                    error=self.refuses,
                )
            )

    def count(self, rates: Mapping[str, float], requests: int, seconds: float = 1.0) -> None:
        """One window per variant that the snapshot in force gives traffic to; ``rates``: failures per variant."""
        with self.plane.store.begin(durable=False) as unit:
            unit.windows.add(self.windows(unit, rates, requests, seconds))

    def windows(
        self, unit: Unit, rates: Mapping[str, float], requests: int, seconds: float = 1.0
    ) -> list[VariantWindow]:
        if not self.alive or not self.snapshot:
            return []
        found = unit.snapshots.get(self.snapshot)
        assert found is not None
        self.sequence += 1
        start = self.plane.clock.wall() - seconds
        return [
            window
            for plan in found.snapshot.endpoints.values()
            for window in self._windows(plan, rates, requests, start, seconds)
        ]

    def _windows(
        self, plan: EndpointPlan, rates: Mapping[str, float], requests: int, start: float, seconds: float
    ) -> list[VariantWindow]:
        taken = sum(variant.share for variant in plan.variants[1:])
        found = []
        for place, variant in enumerate(plan.variants):
            share = 10_000 - taken if place == 0 else variant.share
            count = requests if variant.shadow else round(requests * share / 10_000)
            failures = round(count * rates.get(variant.name, 0.0))
            if not count:
                continue
            good = count - failures
            outcomes = {"agree": good, "failed": failures} if variant.shadow else {"ok": good, "failed": failures}
            found.append(
                VariantWindow(
                    process=self.name,
                    sequence=self.sequence,
                    endpoint=plan.name,
                    variant=variant.name,
                    version=variant.model.version,
                    snapshot=self.snapshot,
                    share=share,
                    shadow=variant.shadow,
                    start=start,
                    seconds=seconds,
                    requests=count,
                    failures=failures,
                    outcomes={kind: n for kind, n in outcomes.items() if n},
                    latency={bin_of(0.01): count},
                    outputs={"yes": good},
                )
            )
        return found


class Plane:
    """``settings.endpoints['iris']`` follows ``models:/iris@champion``, which is version 1."""

    def __init__(
        self, folder: Path, plan: ReleaseSettings = PLAN, instances: int = 2, url: str = "", **sections: Any
    ) -> None:
        """``url``: of an empty, migrated store; a SQLite file in ``folder`` when left out."""
        self.clock = ManualClock()
        self.store = open_store(url or _empty(folder), clock=self.clock)
        self.registry = FakeRegistry()
        self.registry.aliases["iris", "champion"] = "1"
        self.settings = Settings(
            endpoints={"iris": EndpointSettings(model="models:/iris@champion", release=plan)}, **sections
        )
        self.service = self.another("one")
        self.service.bootstrap()
        self.instances = [Instance(self, f"instance-{number}") for number in range(instances)]
        self.follow()

    def another(self, holder: str, prometheus: Prometheus | None = None) -> ReleaseService:
        """A control plane on the same store."""
        return ReleaseService(self.store, self.registry, self.settings, self.clock, holder, prometheus=prometheus)

    def follow(self, rates: Mapping[str, float] | None = None, requests: int = 0) -> None:
        """The instances count what came since the last second, then put the newest snapshot in force."""
        with self.store.begin(durable=False) as unit:
            newest = unit.snapshots.latest()
            found = [w for instance in self.instances for w in instance.windows(unit, rates or {}, requests)]
            for instance in self.instances:
                instance.follow(unit, newest, self.clock.wall())
            unit.windows.add(found if requests else [])

    def seconds(
        self, number: int = 1, requests: int = 100, service: ReleaseService | None = None, **rates: float
    ) -> None:
        """Time passes: each second has traffic, the instances follow, and the control plane looks."""
        for _ in range(number):
            self.clock.advance(1.0)
            self.follow(rates, requests)
            (service or self.service).tick()

    def start(self, version: int = 2, **given: Any) -> Release:
        return self.service.start("iris", f"models:/iris/{version}", who="ann", **given)

    def until(self, id: str, *states: str, seconds: int = 120, **given: Any) -> Release:  # noqa: A002
        """Lets time pass until the release is in one of the states."""
        for _ in range(seconds):
            release = self.service.get(id)
            if release.state in states:
                return release
            self.seconds(1, **given)
        raise AssertionError(f"not {states} within {seconds} s: {msgspec.json.encode(self.service.get(id)).decode()}")

    def plan(self) -> EndpointPlan:
        with self.store.read() as unit:
            newest = unit.snapshots.latest()
        assert newest is not None
        return newest.snapshot.endpoints["iris"]

    def check(self) -> None:
        """What holds whenever nothing is under way: one baseline, and alias = snapshot = release state."""
        plan = self.plan()
        assert [variant.name for variant in plan.variants].count("baseline") == 1
        assert plan.variants[0].name == "baseline"
        newest = self.service.list(endpoint="iris", limit=1)
        served = plan.baseline.model
        if newest and not newest[0].open:
            release = newest[0]
            expected = release.candidate if release.state == "promoted" else release.baseline
            assert served.version == expected.version
            assert not release.alias_pending
        assert self.registry.aliases["iris", "champion"] == served.version

    def close(self) -> None:
        self.store.close()


def _empty(folder: Path) -> str:
    """A copy of a store that was migrated once."""
    migrated = folder.parent / "migrated.db"
    if not migrated.exists():
        open_store(f"sqlite:///{migrated}", migrate=True).close()
    shutil.copy(migrated, folder / "store.db")
    return f"sqlite:///{folder}/store.db"
