"""What was appended is still there after the process was killed at any moment, and nothing else is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.serving.events.spool import Spool, abandoned, open_spool

SMALL = 4096


def drain(spool: Spool, most: int = 1000) -> list[bytes]:
    records, position = spool.read(most)
    spool.forget(position)
    return records


def after_a_kill(spool: Spool, folder: Path) -> Spool:
    """The file as the system has it when the process ends now."""
    copy = folder / f"{spool.path.name}.copy.spool"
    shutil.copyfile(spool.path, copy)
    return Spool(copy, 0)


STEP = st.one_of(st.binary(min_size=1, max_size=300), st.integers(1, 30), st.just("kill"))


@settings(derandomize=True, max_examples=120, deadline=None, database=None)
@given(st.lists(STEP, max_size=80))
def test_records_come_out_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory, steps: list[bytes | int | str]
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool = open_spool(folder, "x", SMALL)
    waiting: list[bytes] = []
    for step in steps:
        if isinstance(step, bytes):
            if spool.append(step):
                waiting.append(step)
            else:
                assert spool.used > SMALL / 2
        elif isinstance(step, int):
            assert drain(spool, step) == waiting[:step]
            del waiting[:step]
        else:
            spool.close()
            spool = open_spool(folder, "x", SMALL)
    assert drain(spool) == waiting
    assert spool.used == 0 or not waiting
    spool.close(remove=True)


def test_a_record_that_was_torn_by_a_kill_is_none(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, "x", SMALL)
    for number in range(5):
        assert spool.append(b"record %d" % number)
    whole = spool.path.read_bytes()
    for cut in (b"record 4", b"record 3"):
        at = whole.index(cut)
        for offset in (-16, -12, -8, 0, 7):
            torn = bytearray(whole)
            torn[at + offset] ^= 0xFF
            copy = tmp_path / "torn.spool"
            copy.write_bytes(torn)
            again = Spool(copy, 0)
            assert drain(again) == [b"record %d" % number for number in range(int(cut[-1:]))]
            assert again.append(b"next")
            assert drain(again) == [b"next"]
            again.close(remove=True)
    spool.close()


def test_what_is_drained_frees_room_and_is_not_read_again(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, "x", SMALL)
    for _ in range(200):
        for number in range(10):
            assert spool.append(b"x" * (20 + number * 7))
        assert len(drain(spool)) == 10
        killed = after_a_kill(spool, tmp_path)
        assert drain(killed) == []
        killed.close(remove=True)
    spool.close()


def test_it_is_bounded(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, "x", SMALL)
    kept = 0
    while spool.append(b"y" * 100):
        kept += 1
    assert 30 <= kept <= SMALL // 100
    assert not spool.append(b"z" * 2 * SMALL)
    assert len(drain(spool)) == kept
    assert spool.append(b"y" * 100)
    assert spool.path.stat().st_size < 2 * SMALL
    spool.close()


def test_a_spool_has_one_holder(tmp_path: Path) -> None:
    mine = open_spool(tmp_path, "x", SMALL)
    mine.append(b"mine")
    theirs = open_spool(tmp_path, "x", SMALL)
    assert theirs.path != mine.path
    assert list(abandoned(tmp_path, "x")) == []
    with pytest.raises(BlockingIOError):
        Spool(mine.path, SMALL)
    mine.close()
    [found] = abandoned(tmp_path, "x")
    assert drain(found) == [b"mine"]
    assert list(abandoned(tmp_path, "other")) == []
    found.close(remove=True)
    assert not found.path.exists()
    theirs.close()


def test_whoever_comes_next_goes_on_in_what_was_left(tmp_path: Path) -> None:
    """Or crash after crash would leave file after file."""
    for number in range(5):
        spool = open_spool(tmp_path, "x", SMALL)
        assert spool.append(b"%d" % number)
        spool.close()
    assert len(list(tmp_path.iterdir())) == 1
    spool = open_spool(tmp_path, "x", SMALL)
    assert drain(spool) == [b"%d" % number for number in range(5)]
    spool.close()


def test_a_file_of_something_else_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "x-1.spool").write_bytes(os.urandom(9001))
    spool = open_spool(tmp_path, "x", SMALL)
    assert drain(spool) == []
    assert spool.append(b"a")
    assert drain(spool) == [b"a"]
    spool.close()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        open_spool(tmp_path / "file", "x", SMALL)


def test_what_cannot_be_opened_keeps_nobody_from_a_spool_of_its_own(tmp_path: Path) -> None:
    """Such as one that another user has left in the folder."""
    (tmp_path / "x-1.spool").mkdir()
    (tmp_path / "x-1.spool" / "full").touch()
    assert list(abandoned(tmp_path, "x")) == []
    spool = open_spool(tmp_path, "x", SMALL)
    assert spool.append(b"a")
    spool.close()
