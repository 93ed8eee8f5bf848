"""What the parts of a look share, and what one look leaves to the next."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.unit.control.monitoring.world import HOUR, START, Hurried, World
from tidegate.clock import Clock, ManualClock
from tidegate.control.monitoring import profiles
from tidegate.control.monitoring.book import Book, Page
from tidegate.control.monitoring.labels import Labels
from tidegate.control.monitoring.references import References, row_of
from tidegate.control.monitoring.served import Served
from tidegate.control.monitoring.state import MonitorState, WindowKey
from tidegate.monitor_plan import MonitorPlan
from tidegate.settings import EndpointSettings
from tidegate.storage.records import MonitorRow
from tidegate.storage.store import Store
from tidegate.testing.registry import MemoryRegistry
from tidegate.types import EndpointPlan, ModelRef, Variant

PROFILE = profiles.make_profile({"age": np.arange(100.0)})
DIGEST = profiles.digest(PROFILE)
PLAN = MonitorPlan(reference="usual")


def served_by(store: Store, clock: Clock, folder: Path) -> Served:
    references = References(store, MemoryRegistry(clock), clock, folder)
    references.keep(row_of("usual", PROFILE, clock.wall()), PROFILE)
    published = EndpointPlan("churn", (Variant("baseline", ModelRef("churn.onnx", "", "1")),))
    return Served(references, "churn", EndpointSettings(model="churn.onnx"), PLAN, published)


def test_a_window_of_another_length_is_not_gone_on_with(store: Store, clock: ManualClock) -> None:
    key = WindowKey("baseline", "1", DIGEST, START)
    window = profiles.fold(PROFILE, None, {"age": np.arange(40.0)})
    with store.begin() as unit:
        Book(store, clock, "churn", HOUR, None).put_profiles(unit, {key: window})
    assert Book(store, clock, "churn", HOUR, None).profile(key) == window
    assert Book(store, clock, "churn", 2 * HOUR, None).profile(key) is None
    assert Book(store, clock, "iris", HOUR, None).profile(key) is None


def test_a_window_is_compared_in_the_bins_that_it_has(store: Store, clock: ManualClock, tmp_path: Path) -> None:
    """Of a variant that is served no window has a baseline of before; of one that is not, the one that it was counted in."""
    served = served_by(store, clock, tmp_path)
    (compared,) = served.compared(())
    assert (compared.baseline, compared.digest, compared.note) == ("usual", DIGEST, "")
    same = served.reference_of(WindowKey("baseline", "1", DIGEST, START))
    assert same is not None
    assert same.digest == DIGEST
    assert served.reference_of(WindowKey("baseline", "1", "of before", START)) is None
    gone = served.reference_of(WindowKey("candidate", "2", DIGEST, START))
    assert gone is not None
    assert gone.name == "usual"


def test_windows_that_wait_are_measured_before_new_ones(store: Store, tmp_path: Path) -> None:
    """Labels that go on coming for one window must not keep another from its turn."""
    world = World(store, clock := Hurried(START + 60, 6.0), tmp_path)
    for hour in (2, 1):
        world.label(world.send(60, at=START - hour * HOUR))
    page = Page(MonitorRow("churn", 0, START, ""), MonitorState(window=HOUR, measure=(("prediction", START - HOUR),)))
    book, served = Book(store, clock, "churn", HOUR, None), served_by(store, clock, tmp_path)
    Labels(book, served, PLAN.performance, lambda _unit, _told: lambda: None, clock).measure(page)
    assert [one.start for one in world.service.performance("churn", 0.0, 1e12)] == [START - HOUR]
    assert world.state.measure == (("prediction", START - 2 * HOUR), ("arrival", START))
