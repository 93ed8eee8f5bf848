"""What pages keep from one look to the next: read anew only where it can have changed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from tests.e2e import seed
from tests.e2e.plane import services_of
from tests.stores import sqlite_store
from tidegate.clock import ManualClock
from tidegate.console.pages.experiments import Reports
from tidegate.console.pages.models import FRESH_SECONDS, Models
from tidegate.console.shelf import Shelf
from tidegate.console.traces import Traces
from tidegate.control.experiments.experiment import Report
from tidegate.control.experiments.service import ExperimentService
from tidegate.control.registry.base import ModelVersion, RegistryAway
from tidegate.errors import NotFound
from tidegate.storage.records import EvidenceRow
from tidegate.storage.store import Store
from tidegate.testing.registry import MemoryRegistry


def test_a_shelf_keeps_what_was_used_last() -> None:
    shelf: Shelf[list[int]] = Shelf(list, 2)
    for key in ("a", "b", "a", "c"):
        with shelf.hold(key) as kept:
            kept.append(1)
    assert len(shelf) == 2
    with shelf.hold("a") as kept:
        assert kept == [1, 1]
    with shelf.hold("b") as kept:
        assert kept == []


class Slow:
    """A store whose evidence of the release "long" does not come before that of another was read."""

    def __init__(self) -> None:
        self.reading, self.other = threading.Event(), threading.Event()
        self.waited: list[bool] = []
        self.releases = self

    @contextmanager
    def read(self) -> Iterator[Slow]:
        yield self

    def evidence(self, release: str, after: int, limit: int) -> list[EvidenceRow]:
        if release == "long":
            self.reading.set()
            self.waited.append(self.other.wait(5))
        return []


def test_a_long_release_holds_up_no_other() -> None:
    store = Slow()
    traces = Traces(cast(Store, store))
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(traces.of, "long")
        assert store.reading.wait(20)
        assert traces.of("other").looks == 0
        store.other.set()
        assert long.result(20).looks == 0
    assert store.waited == [True]


class Counting(MemoryRegistry):
    """Counts what it is asked."""

    asked = 0

    def versions(self, name: str) -> list[ModelVersion]:
        self.asked += 1
        return super().versions(name)


def test_the_registry_is_asked_once_for_all_viewers() -> None:
    clock, registry = ManualClock(), Counting()
    for name in ("iris", "churn", "iris"):
        registry.register(name, "model", metadata={})
    models, asked = Models(registry, clock), 0
    for _ in range(3):
        assert [[version.version for version in own] for own in models.all()] == [["1"], ["2", "1"]]
        assert len(models.versions("iris")) == 2
    assert registry.asked == 4  # the list, each of it, and the page of one
    registry.register("iris", "model", metadata={})
    clock.advance(FRESH_SECONDS)
    assert [len(own) for own in models.all()] == [1, 3]
    assert len(models.versions("iris")) == 3
    with pytest.raises(NotFound):
        models.versions("none")
    registry.away = True
    clock.advance(FRESH_SECONDS)
    asked = registry.asked
    for _ in range(3):
        with pytest.raises(RegistryAway):
            models.all()
    assert registry.asked == asked + 1, "it is not asked for every viewer while it is away either"
    registry.away = False
    clock.advance(FRESH_SECONDS)
    assert len(models.all()) == 2
    registry.register("none", "model", metadata={})
    assert len(models.versions("none")) == 1, "that there is none is not kept"


class Listening:
    """The service's reports; ``got`` is how many each call gave."""

    def __init__(self, service: ExperimentService) -> None:
        self.service = service
        self.got: list[int] = []

    def reports(self, name: str, after: float = 0.0) -> list[Report]:
        found = self.service.reports(name, after)
        self.got.append(len(found))
        return found


def test_reports_are_read_once_and_follow_what_is_thinned_out(tmp_path: Path) -> None:
    clock = ManualClock(seed.NOW)
    store = sqlite_store(tmp_path, clock)
    seed.seed(store, windows=1)
    service = services_of(store, seed.settings(), clock, tmp_path).experiments
    listening = Listening(service)
    reports, name = Reports(cast(ExperimentService, listening)), "homepage-order"
    first = reports.of(name)
    assert first == service.reports(name)
    assert len(first) > 2

    def add(seconds: float) -> None:
        report = msgspec.structs.replace(first[-1], time=first[-1].time + seconds)
        with store.begin() as unit:
            unit.experiments.add_report(name, report.time, msgspec.json.encode(report).decode())

    def drop(seconds: float) -> None:
        with store.begin() as unit:
            unit.experiments.drop_report(name, first[-1].time + seconds)

    assert reports.of(name) == first
    add(5)
    assert reports.of(name) == service.reports(name)
    drop(5)
    add(10)
    drop(10)
    add(15)
    assert reports.of(name) == service.reports(name)
    assert [round(report.time - first[-1].time) for report in reports.of(name)][-2:] == [0, 15]
    assert listening.got == [len(first), 1, 2, 1, 1]
    for unknown in ("none", "none"):
        with pytest.raises(NotFound):
            reports.of(unknown)
    store.close()


def test_an_experiment_without_a_report_has_none_yet() -> None:
    service = SimpleNamespace(reports=lambda name, after: [])
    assert Reports(cast(ExperimentService, service)).of("new") == []
