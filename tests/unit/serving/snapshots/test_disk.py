"""The copy on disk: believed when it is whole and of this store, ignored with a warning otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tidegate.keys import KeyFacts, KnownKey
from tidegate.serving.snapshots.disk import KeptCopy
from tidegate.serving.snapshots.publication import Publication
from tidegate.types import EndpointPlan, ModelRef, Variant

PUBLISHED = Publication(
    7,
    {
        "iris": EndpointPlan(
            "iris",
            (Variant("baseline", ModelRef("m", "iris", "3", "sha256:3", "auto", {"bias": 0.1, "é": [1, None]})),),
        )
    },
    published=12.5,
)
KEYS = (KnownKey(id="abcdef012345", salt="s", digest="d", facts=KeyFacts(name="ci", rows=5), expires=9.0),)
URL = "sqlite:///store.db"


def file_of(folder: Path) -> Path:
    return folder / "snapshot-8000.json"


@pytest.fixture
def copy(tmp_path: Path) -> KeptCopy:
    copy = KeptCopy(tmp_path / "run", URL, "8000")
    copy.keep_snapshot(PUBLISHED)
    copy.keep_keys(KEYS)
    return copy


def test_what_was_kept_is_found_again(tmp_path: Path, copy: KeptCopy) -> None:
    again = KeptCopy(tmp_path / "run", URL, "8000")
    found = again.snapshot()
    assert found is not None
    assert (found.number, found.origin, found.published) == (7, "disk", 12.5)
    assert found.endpoints == PUBLISHED.endpoints
    assert again.keys() == KEYS
    assert KeptCopy(tmp_path / "run", URL, "8001").snapshot() is None  # another instance's


def test_where_nothing_was_kept_there_is_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    copy = KeptCopy(tmp_path / "run", URL, "8000")
    assert copy.snapshot() is None
    assert copy.keys() is None
    assert not caplog.records


def test_only_its_user_may_read_it_and_no_key_is_in_it(tmp_path: Path, copy: KeptCopy) -> None:
    files = sorted((tmp_path / "run").iterdir())
    assert [file.name for file in files] == ["keys-8000.json", "snapshot-8000.json"]
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)


def half(text: bytes) -> bytes:
    return text[: len(text) // 2]


def other_share(text: bytes) -> bytes:
    return text.replace(b'"number":7', b'"number":8')


def other_version(text: bytes) -> bytes:
    return text.replace(b'"version":1', b'"version":2', 1)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (half, ""),
        (other_share, "its checksum is wrong"),
        (other_version, "it has version 2, not 1"),
        (lambda text: b"", ""),
        (lambda text: b"\xff\xfe", ""),
        (lambda text: b"[]", ""),
    ],
)
def test_a_broken_copy_is_ignored_with_a_warning(
    tmp_path: Path, copy: KeptCopy, caplog: pytest.LogCaptureFixture, broken: object, reason: str
) -> None:
    path = file_of(tmp_path / "run")
    path.write_bytes(broken(path.read_bytes()))  # type: ignore[operator]
    assert copy.snapshot() is None
    assert f"snapshot-8000.json: not used: {reason}" in caplog.text
    copy.keep_snapshot(PUBLISHED)
    assert copy.snapshot() is not None


def test_a_copy_of_another_store_is_not_believed(
    tmp_path: Path, copy: KeptCopy, caplog: pytest.LogCaptureFixture
) -> None:
    assert KeptCopy(tmp_path / "run", "postgresql://elsewhere/db", "8000").snapshot() is None
    assert "it belongs to another store" in caplog.text
    assert "elsewhere" not in json.dumps(file_of(tmp_path / "run").read_text())


def test_a_disk_that_takes_nothing_costs_the_copy_only_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").write_text("in the way")
    copy = KeptCopy(tmp_path / "run", URL, "8000")
    copy.keep_snapshot(PUBLISHED)
    copy.keep_snapshot(PUBLISHED)
    assert caplog.text.count("cannot be kept") == 1
    assert copy.snapshot() is None


def test_a_new_password_leaves_the_copy_believed(tmp_path: Path) -> None:
    KeptCopy(tmp_path, "postgresql://ann:old@db/tidegate", "8000").keep_snapshot(PUBLISHED)
    assert KeptCopy(tmp_path, "postgresql://ann:new@db/tidegate", "8000").snapshot() is not None
