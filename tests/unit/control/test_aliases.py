"""Looking at aliases, and what becomes of a move."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec
import pytest

from tests.unit.control.releases.plane import Plane
from tidegate import settings
from tidegate.control.aliases import AliasSteps, ChallengerSteps
from tidegate.control.registry.base import RegistryAway
from tidegate.storage.records import ExperimentRow
from tidegate.types import ModelRef


class Watched:
    """A plane whose releases are looked at, and whose aliases are, too."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self.steps = AliasSteps(plane.store, plane.registry, plane.service, plane.settings, plane.clock)
        plane.service.tick()

    def look(self) -> list[tuple[str, str]]:
        """After the time between two looks: the releases that are there now."""
        self.plane.clock.advance(60.0)
        self.plane.service.tick()
        self.steps.look()
        return [(release.endpoint, release.candidate.version) for release in self.plane.service.list()]

    @property
    def champion(self) -> str:
        return self.plane.registry.aliases["iris", "champion"]

    @champion.setter
    def champion(self, version: str) -> None:
        self.plane.registry.aliases["iris", "champion"] = version


@pytest.fixture
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    plane = Plane(tmp_path_factory.mktemp("plane"))
    yield Watched(plane)
    plane.close()


def test_a_move_is_released_once(watched: Watched) -> None:
    assert watched.look() == []
    watched.champion = "4"
    assert watched.look() == [("iris", "4")]
    assert watched.look() == [("iris", "4")]


def test_a_move_while_nothing_can_be_done_is_released_later(watched: Watched) -> None:
    watched.champion = "4"
    start = watched.plane.registry.ref
    watched.plane.registry.ref = unreachable  # type: ignore[method-assign]
    assert watched.look() == []
    watched.plane.registry.ref = start  # type: ignore[method-assign]
    assert watched.look() == [("iris", "4")]


def test_a_move_during_an_experiment_is_released_after_it(watched: Watched) -> None:
    row = ExperimentRow("button", "iris", "running", 1.0, 0, "{}")
    with watched.plane.store.begin() as unit:
        unit.experiments.add(row)
    watched.champion = "4"
    assert watched.look() == []
    with watched.plane.store.begin() as unit:
        unit.experiments.save(ExperimentRow("button", "iris", "stopped", 1.0, 1, "{}"), 0)
    assert watched.look() == [("iris", "4")]


def test_an_alias_that_is_gone_is_released_by_nobody_and_put_back_where_moves_are_reverted(
    tmp_path_factory: pytest.TempPathFactory, watched: Watched
) -> None:
    watched.champion = ""
    assert watched.look() == []
    reverting = settings.Registry(on_alias_moved="revert")
    plane = Plane(tmp_path_factory.mktemp("reverting"), registry=reverting)
    other = Watched(plane)
    other.champion = ""
    assert other.look() == []
    assert other.champion == "1"
    with plane.store.read() as unit:
        assert "iris@champion was removed by registry; iris serves 1" in str(
            [row.body for row in unit.audit.list(target="model:iris")]
        )
    plane.close()


@pytest.fixture
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """``iris`` and ``shop`` follow one alias; both serve version 1."""
    plane = Plane(tmp_path_factory.mktemp("two"))
    iris = plane.settings.endpoints["iris"]
    plane.settings = msgspec.structs.replace(plane.settings, endpoints={"iris": iris, "shop": iris})
    plane.service = plane.another("two")
    plane.service.bootstrap()
    yield Watched(plane)
    plane.close()


@pytest.mark.slow
@pytest.mark.parametrize(("first", "other"), [("iris", "shop"), ("shop", "iris")])
def test_our_own_move_for_one_endpoint_is_no_news_for_another(two: Watched, first: str, other: str) -> None:
    release = two.plane.service.start(first, "models:/iris/2", who="ann")
    two.plane.until(release.id, "promoted")
    two.plane.seconds(2)
    assert two.champion == "2"
    assert two.look() == [(first, "2")]
    two.champion = "1"
    assert two.look() == [(first, "1"), (first, "2")], "what the other endpoint serves is news for this one"
    two.champion = "5"
    assert two.look()[0] == (other, "5")


def test_an_endpoint_of_one_version_does_not_speak_for_those_that_follow_the_alias(two: Watched) -> None:
    pinned = settings.EndpointSettings(model="models:/iris/3")
    endpoints = {**two.plane.settings.endpoints, "shop": pinned}
    two.plane.settings = msgspec.structs.replace(two.plane.settings, endpoints=endpoints)
    two.plane.service = two.plane.another("three")
    assert two.plane.service.bootstrap() is not None
    assert Watched(two.plane).look() == []


def unreachable(uri: str) -> ModelRef:
    raise RegistryAway("the registry does not answer")


@pytest.mark.parametrize("policy", ["ignore", "release"])
def test_a_challenger_is_released_once_where_that_is_wanted(
    tmp_path_factory: pytest.TempPathFactory, policy: Literal["ignore", "release"]
) -> None:
    plane = Plane(tmp_path_factory.mktemp("challenger"), registry=settings.Registry(on_challenger=policy))
    steps = ChallengerSteps(plane.store, plane.registry, plane.service, plane.settings)
    plane.service.tick()
    steps.look()
    assert plane.service.list() == [], "nobody has a challenger yet"
    plane.registry.aliases["iris", "challenger"] = "1"
    steps.look()
    assert plane.service.list() == [], "it serves already"
    plane.registry.aliases["iris", "challenger"] = "2"
    steps.look()
    steps.look()
    begun = [release.candidate.version for release in plane.service.list()]
    assert begun == (["2"] if policy == "release" else [])
    for release in plane.service.list():
        plane.service.rollback(release.id, who="ann", reason="enough seen")
        plane.until(release.id, "rolled_back")
    again = ChallengerSteps(
        plane.store, plane.registry, plane.service, plane.settings
    )  # of the process after a restart
    again.look()
    assert len(plane.service.list()) == len(begun), "what a release judged is not tried again by itself"
    plane.close()
