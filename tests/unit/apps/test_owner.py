"""Who owns the configuration: numbers, files that change, what is unloaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tidegate.apps.owner import Owner, Refused, StateFile
from tidegate.config import Loaded
from tidegate.errors import ConfigError, NotFound, UserError
from tidegate.serving.snapshots.publication import Origin, Publication
from tidegate.settings import EndpointSettings, Server, Settings
from tidegate.types import EndpointPlan, ModelRef, Variant


class Source:
    """A configuration that a test can write again."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "tidegate.yaml"
        self.model = folder / "model.onnx"
        self.error: UserError | None = None
        self.settings = Settings()
        self.file.write_text("1")
        self.model.write_bytes(b"1")
        self.write()
        self.owner = Owner(self.read_(), self.read_)

    def write(self, **changes: Any) -> None:
        endpoints = {"iris": EndpointSettings(model="model.onnx"), "churn": EndpointSettings(model="fake:")}
        self.settings = Settings(**({"endpoints": endpoints} | changes))

    def read_(self) -> Loaded:
        if self.error is not None:
            raise self.error
        return Loaded(self.settings, {}, self.file.parent, self.file)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path)


def touch(path: Path, text: str) -> None:
    """Writes other bytes at another time, whatever the clock's grain."""
    path.write_text(text)
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + len(text)))


def test_each_thing_to_apply_has_the_next_number(source: Source) -> None:
    assert source.owner.desired.number == 1
    desired = source.owner.reread()
    assert desired.number == 2
    assert source.owner.desired.number == 1  # nothing is in force before it was applied
    source.owner.accept(desired)
    assert source.owner.reread().number == 3


def test_a_configuration_that_cannot_be_read_changes_nothing(source: Source) -> None:
    source.error = ConfigError("line 3: no")
    with pytest.raises(ConfigError):
        source.owner.reread()
    assert source.owner.desired.number == 1
    with pytest.raises(ConfigError):
        source.owner.operated("load", "iris")
    assert source.owner.desired.unloaded == frozenset()


def test_what_was_unloaded_stays_so_until_it_is_loaded(source: Source) -> None:
    owner = source.owner
    owner.accept(owner.operated("unload", "iris"))
    assert (set(owner.desired.unloaded), owner.desired.number) == ({"iris"}, 2)
    owner.accept(owner.reread())
    assert owner.desired.unloaded == {"iris"}
    owner.accept(owner.operated("unload", "churn"))
    owner.accept(owner.operated("load", "iris"))
    assert (set(owner.desired.unloaded), owner.desired.number) == ({"churn"}, 5)


def test_loading_reads_the_configuration_again_and_unloading_does_not(source: Source) -> None:
    source.write(endpoints={"iris": EndpointSettings(model="model.onnx", max_rows=7)})
    assert source.owner.operated("unload", "iris").loaded.settings.endpoints["iris"].max_rows == 10_000
    assert source.owner.operated("load", "iris").loaded.settings.endpoints["iris"].max_rows == 7


@pytest.mark.parametrize("operation", ["load", "unload"])
def test_an_unknown_endpoint_is_named_with_the_known(source: Source, operation: str) -> None:
    with pytest.raises(NotFound, match="it has: churn, iris"):
        source.owner.operated(operation, "other")


def test_a_change_of_the_server_needs_a_restart(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    source.write(server=Server(port=1))
    source.owner.reread()
    assert "need a restart" in caplog.text


@pytest.mark.parametrize("which", ["file", "model"])
def test_files_that_changed_are_seen_once_they_stand_still(source: Source, which: str) -> None:
    path: Path = getattr(source, which)
    owner = source.owner
    assert not owner.changed()
    touch(path, "half")
    assert not owner.changed()  # perhaps it is still being written
    touch(path, "the whole of it")
    assert not owner.changed()
    assert owner.changed()
    assert not owner.changed()


def test_a_change_that_is_taken_back_is_none(source: Source) -> None:
    stat = source.model.stat()
    touch(source.model, "x")
    assert not source.owner.changed()
    source.model.write_bytes(b"1")
    os.utime(source.model, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert not source.owner.changed()
    assert not source.owner.changed()


def test_a_file_that_went_away_is_a_change_too(source: Source) -> None:
    source.file.unlink()
    assert not source.owner.changed()
    assert source.owner.changed()
    assert not source.owner.changed()


def test_what_was_accepted_is_not_a_change(source: Source) -> None:
    touch(source.model, "x")
    source.owner.accept(source.owner.reread())
    assert not source.owner.changed()
    assert not source.owner.changed()


def test_the_state_tells_a_reload_whom_to_signal() -> None:
    state = StateFile(1)  # no server of ours listens on port 1
    try:
        state.write(7)
        assert state.read() == {"pid": os.getpid(), "number": 7, "error": ""}
        state.write(8, "no such model")
        assert state.read()["error"] == "no such model"
        assert state.path.parent.stat().st_mode & 0o077 == 0
        assert list(state.path.parent.glob("1.[!j]*")) == []
        state.path.write_text("{ half")
        with pytest.raises(UserError, match="is it running"):
            state.read()
    finally:
        state.remove()
    state.remove()
    with pytest.raises(UserError, match="no server of yours"):
        state.read()


def test_a_state_file_of_another_user_is_neither_read_nor_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It names the process that ``tidegate reload`` signals, and others may make folders where temporary files are."""
    mine = StateFile(1)
    mine.path = tmp_path / "mine" / "1.json"
    mine.write(3)
    assert mine.read()["number"] == 3
    assert mine.path.parent.stat().st_mode & 0o777 == 0o700
    other = StateFile(1, user=os.getuid() + 1)
    assert other.path.parent != StateFile(1).path.parent
    other.path = mine.path
    with pytest.raises(UserError, match="no server of yours"):
        other.read()
    other.write(4)
    assert "belongs to another user" in caplog.text
    assert mine.read()["number"] == 3


def test_what_changes_while_it_is_loaded_is_another_change(source: Source) -> None:
    touch(source.model, "x")
    desired = source.owner.reread()
    touch(source.model, "changed while the other one was loaded")
    source.owner.accept(desired)
    assert not source.owner.changed()  # perhaps it is still being written
    assert source.owner.changed()


def published(number: int, model: str = "fake:b", origin: Origin = "store") -> Publication:
    plan = EndpointPlan("iris", (Variant("baseline", ModelRef(model)),))
    return Publication(number, {"iris": plan}, float(number), origin)


def test_what_is_published_is_followed_once(source: Source) -> None:
    owner = source.owner
    assert owner.to_follow() is None
    owner.heard(published(7))
    wanted = owner.to_follow()
    assert wanted is not None
    assert (wanted.number, wanted.snapshot, wanted.published) == (2, 7, published(7))
    owner.accept(wanted)
    assert owner.to_follow() is None
    assert owner.reread().snapshot == 7  # a reload keeps it


def test_what_was_refused_is_tried_again_when_something_changes(source: Source) -> None:
    owner = source.owner
    owner.heard(published(7))
    wanted = owner.to_follow()
    assert wanted is not None
    owner.refuse(wanted, "no such file", 5.0)
    assert owner.refused == Refused(7, "no such file", 5.0)
    assert owner.to_follow() is None
    owner.accept(owner.reread())
    again = owner.to_follow()
    assert again is not None
    assert again.snapshot == 7
    owner.refuse(again, "no such file", 6.0)
    owner.heard(published(8))
    newer = owner.to_follow()
    assert newer is not None
    assert newer.snapshot == 8
    owner.accept(newer)
    assert owner.refused is None


def test_one_that_failed_while_a_newer_one_came_does_not_refuse_the_newer(source: Source) -> None:
    owner = source.owner
    owner.heard(published(7))
    wanted = owner.to_follow()
    assert wanted is not None
    owner.heard(published(8))
    owner.refuse(wanted, "no such file", 5.0)
    newer = owner.to_follow()
    assert newer is not None
    assert newer.snapshot == 8


def test_a_start_takes_the_best_that_can_be_loaded(source: Source) -> None:
    owner = source.owner
    owner.begin_with(published(9), published(8, origin="disk"))
    assert owner.desired.snapshot == 9
    assert owner.fall_back("no such file", 5.0)
    assert (owner.desired.snapshot, owner.desired.published) == (8, published(8, origin="disk"))
    assert owner.fall_back("nor this", 6.0)
    assert owner.desired.published is None
    assert not owner.fall_back("nor that", 7.0)
    assert owner.desired.snapshot == 1


def test_what_could_not_be_loaded_at_the_start_is_not_tried_again(source: Source) -> None:
    owner = source.owner
    owner.heard(published(9))
    owner.begin_with(owner.newest, None)
    assert owner.fall_back("no such file", 5.0)
    assert owner.refused == Refused(9, "no such file", 5.0)
    assert owner.to_follow() is None


def test_the_same_snapshot_in_store_and_on_disk_is_tried_once(source: Source) -> None:
    source.owner.begin_with(published(9), published(9, origin="disk"))
    assert source.owner.fall_back("no", 1.0)
    assert source.owner.desired.published is None


def test_what_needs_no_load_comes_first(source: Source) -> None:
    owner = source.owner
    churn = EndpointPlan("churn", (Variant("baseline", ModelRef("c1")),))
    more = EndpointPlan("churn", (Variant("baseline", ModelRef("c1")), Variant("candidate", ModelRef("c2"))))
    two = EndpointPlan("iris", (Variant("baseline", ModelRef("i1")), Variant("candidate", ModelRef("i2"), 500)))
    one = EndpointPlan("iris", two.variants[:1])
    owner.heard(Publication(7, {"iris": two, "churn": churn}))
    owner.begin_with(owner.newest)
    owner.heard(Publication(8, {"iris": one, "churn": more}))
    first = owner.to_follow()
    assert first is not None
    assert first.published == Publication(7, {"iris": one, "churn": churn})
    owner.accept(first)
    rest = owner.to_follow()
    assert rest is not None
    assert rest.published == owner.newest
    owner.refuse(first, "unlikely", 1.0)
    assert owner.refused is not None
    assert owner.refused.number == 8
