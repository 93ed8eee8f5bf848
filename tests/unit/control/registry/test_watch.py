"""A champion that somebody else moved."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.clock import ManualClock
from tidegate.control.registry.base import AliasMoved, ModelDenied, ModelVersion
from tidegate.control.registry.files import FilesRegistry
from tidegate.control.registry.watch import AliasWatch, compare
from tidegate.errors import ConfigError, TidegateError
from tidegate.testing.models import write_affine_onnx
from tidegate.testing.registry import MemoryRegistry

MOVED = AliasMoved(name="iris", alias="champion", version="2", previous="1")


def test_only_what_was_seen_elsewhere_moved() -> None:
    expected = {"iris": "1", "churn": "3", "unseen": "1"}
    assert compare(expected, {"iris": "2", "churn": "3", "other": "9"}) == [MOVED]


@pytest.fixture
def registry() -> MemoryRegistry:
    registry = MemoryRegistry()
    for _ in range(3):
        registry.register("iris", "model", metadata={})
    registry.set_alias("iris", "champion", "1")
    return registry


def test_a_move_is_reported_once(registry: MemoryRegistry) -> None:
    clock, expected = ManualClock(), {"iris": "1"}
    watch = AliasWatch(registry, lambda: expected, clock, poll_seconds=5)

    def later() -> list[AliasMoved]:
        clock.advance(5)
        return watch.look()

    assert later() == []
    registry.set_alias("iris", "champion", "2")
    assert watch.look() == []  # not due yet
    assert later() == [MOVED]
    assert later() == []
    registry.set_alias("iris", "champion", "3")
    assert [move.version for move in later()] == ["3"]
    registry.set_alias("iris", "champion", "1")
    assert later() == []
    registry.set_alias("iris", "champion", "3")
    assert [move.version for move in later()] == ["3"]
    expected["iris"] = "3"  # released, so it is what we want now
    assert later() == []
    registry.set_alias("iris", "champion", None)
    assert later() == [AliasMoved(name="iris", alias="champion", version=None, previous="3")]
    del expected["iris"]
    assert later() == []
    expected["nobody"] = "1"
    assert [move.version for move in later()] == [None]


def test_a_registry_that_is_away_is_said_once_and_misses_nothing(
    registry: MemoryRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    watch = AliasWatch(registry, lambda: {"iris": "1"}, clock, poll_seconds=5)
    registry.set_alias("iris", "champion", "2")
    registry.away = True
    for _ in range(3):
        assert watch.look() == []
        clock.advance(5)
    assert watch.away
    assert len(caplog.records) == 1
    registry.away = False
    assert watch.look() == [MOVED]
    assert watch.away == ""


def test_a_damaged_version_hides_no_other_models_move(tmp_path: Path) -> None:
    clock, folder = ManualClock(), tmp_path / "registry"
    registry = FilesRegistry(folder)
    for name in ("churn", "iris"):
        for alias in ("first", "champion"):
            registry.register(name, write_affine_onnx(tmp_path / "affine.onnx"), metadata={}, aliases=(alias,))
    watch = AliasWatch(registry, lambda: {"churn": "1", "iris": "2"}, clock, poll_seconds=5)
    assert [move.name for move in watch.look()] == ["churn"]
    record = folder / "churn" / "2" / "version.json"
    whole = record.read_bytes()
    record.write_text("{")
    registry.set_alias("iris", "champion", "1")
    clock.advance(5)
    assert [move.name for move in watch.look()] == ["iris"]
    assert "version.json cannot be read" in watch.away
    record.write_bytes(whole)
    clock.advance(5)
    assert watch.look() == [], "what was reported before is not reported again"
    assert watch.away == ""


class Refusing(MemoryRegistry):
    """Refuses to tell of churn."""

    def __init__(self) -> None:
        super().__init__()
        self.error: TidegateError | None = None
        self.asked: list[str] = []

    def get(self, name: str, version: str) -> ModelVersion:
        self.asked.append(name)
        if self.error is not None and name == "churn":
            raise self.error
        return super().get(name, version)


@pytest.mark.parametrize(
    ("error", "asked", "moved"),
    [
        (ConfigError("MLflow refuses: a wrong password"), ["churn"], []),
        (ModelDenied("MLflow refuses: permission denied"), ["churn", "iris"], ["iris"]),
    ],
)
def test_a_registry_that_refuses_us_is_asked_once_a_look(
    error: TidegateError, asked: list[str], moved: list[str]
) -> None:
    clock, registry = ManualClock(), Refusing()
    for name in ("churn", "iris"):
        registry.register(name, "model", metadata={}, aliases=("champion",))
    watch = AliasWatch(registry, lambda: {"churn": "1", "iris": "2"}, clock, poll_seconds=5)
    registry.error = error
    registry.asked.clear()
    assert [move.name for move in watch.look()] == moved
    assert registry.asked == asked
    assert str(error) in watch.away
    registry.error = None
    clock.advance(5)
    assert [move.name for move in watch.look()] == ([] if moved else ["iris"])
    assert watch.away == ""
