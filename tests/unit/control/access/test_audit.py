"""Every way to tamper with the log is tried on a real store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import delete, insert, update

from tests.stores import sqlite_store
from tidegate.control.access.audit import (
    MASK,
    Change,
    Head,
    Origin,
    acting_from,
    parse_head,
    record,
    verify,
    without_secrets,
)
from tidegate.control.access.heads import Heads
from tidegate.storage.audit import hash_of
from tidegate.storage.base import fields_of
from tidegate.storage.records import AuditRow
from tidegate.storage.store import Store, Unit
from tidegate.storage.tables import audit_events

ROWS = 6


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = sqlite_store(tmp_path)
    with made.begin() as unit:
        for number in range(ROWS):
            record(
                unit, "ada", "release.pause", f"release:{number}", at=float(number), before="ramping", after="paused"
            )
    yield made
    made.close()


def rows(store: Store) -> list[AuditRow]:
    with store.read() as unit:
        return unit.audit.rows()


def put(unit: Unit, row: AuditRow) -> None:
    unit.connection.execute(insert(audit_events).values(**fields_of(row)))


def drop(unit: Unit, *numbers: int) -> None:
    unit.connection.execute(delete(audit_events).where(audit_events.c.sequence.in_(numbers)))


def change_a_row(unit: Unit) -> None:
    unit.connection.execute(update(audit_events).where(audit_events.c.sequence == 3).values(who="somebody else"))


def change_a_row_and_its_hash(unit: Unit) -> None:
    row = unit.audit.rows()[2]
    forged = msgspec.structs.replace(row, who="somebody else")
    drop(unit, 3)
    put(unit, msgspec.structs.replace(forged, hash=hash_of(forged)))


def remove_a_row(unit: Unit) -> None:
    drop(unit, 4)


def remove_a_row_and_close_the_gap(unit: Unit) -> None:
    drop(unit, 4)
    for number in (5, 6):
        query = update(audit_events).where(audit_events.c.sequence == number)
        unit.connection.execute(query.values(sequence=number - 1))


def insert_a_row(unit: Unit) -> None:
    for number in range(ROWS, 3, -1):
        query = update(audit_events).where(audit_events.c.sequence == number)
        unit.connection.execute(query.values(sequence=number + 1))
    before = unit.audit.rows()[2]
    forged = msgspec.structs.replace(before, sequence=4, who="nobody", previous=before.hash)
    put(unit, msgspec.structs.replace(forged, hash=hash_of(forged)))


def swap_two_rows(unit: Unit) -> None:
    three, four = unit.audit.rows()[2:4]
    drop(unit, 3, 4)
    put(unit, msgspec.structs.replace(four, sequence=3))
    put(unit, msgspec.structs.replace(three, sequence=4))


def cut_the_beginning(unit: Unit) -> None:
    drop(unit, 1)


TAMPERINGS = [
    change_a_row,
    change_a_row_and_its_hash,
    remove_a_row,
    remove_a_row_and_close_the_gap,
    insert_a_row,
    swap_two_rows,
    cut_the_beginning,
]


def test_an_untouched_log_is_whole(store: Store) -> None:
    found = verify(rows(store))
    assert found.whole
    assert found.rows == ROWS
    assert found.newest == Head(ROWS, rows(store)[-1].hash)


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda tamper: tamper.__name__)
def test_tampering_is_found(store: Store, tamper: Callable[[Unit], None]) -> None:
    with store.begin() as unit:
        tamper(unit)
    found = verify(rows(store))
    assert not found.whole
    assert found.faults


def test_what_is_missing_is_named(store: Store) -> None:
    with store.begin() as unit:
        drop(unit, 3, 4)
    assert "rows 3 to 4 are missing" in verify(rows(store)).faults[0].what


def test_a_cut_tail_is_found_only_against_a_kept_head(store: Store, tmp_path: Path) -> None:
    heads = Heads(store, tmp_path)
    heads.note()
    with store.begin() as unit:
        drop(unit, ROWS)
    assert verify(rows(store)).whole
    found = heads.verify()
    assert not found.whole
    assert "the tail was cut" in found.faults[0].what


def test_a_log_written_anew_is_found_only_against_a_kept_head(store: Store, tmp_path: Path) -> None:
    heads = Heads(store, tmp_path)
    heads.note()
    kept = heads.kept()
    with store.begin() as unit:
        drop(unit, *range(1, ROWS + 1))
        for number in range(ROWS):
            record(unit, "mallory", "release.promote", f"release:{number}", at=float(number))
    assert verify(rows(store)).whole
    assert "written anew" in heads.verify().faults[0].what
    assert "written anew" in verify(rows(store), kept).faults[0].what


def test_heads_never_go_back(store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    heads = Heads(store, tmp_path)
    heads.note()
    before = heads.kept()
    with store.begin() as unit:
        drop(unit, ROWS)
    for _ in range(3):
        heads.note()
    assert caplog.text.count("cut or rewritten") == 1  # it is looked at every second
    Heads(store, tmp_path).note()
    assert heads.kept() == before
    with store.begin() as unit:
        record(unit, "ada", "key.create", "key 1", at=9.0)
        record(unit, "ada", "key.create", "key 2", at=9.0)
    Heads(store, tmp_path).note()
    assert [head.sequence for head in heads.kept()] == [ROWS, ROWS + 1]
    assert not heads.verify().whole


def test_half_a_line_in_the_file_of_heads_is_left_out(store: Store, tmp_path: Path) -> None:
    heads = Heads(store, tmp_path)
    heads.note()
    path = tmp_path / "audit.heads"
    path.write_bytes(path.read_bytes() + b"\xff\n7:ab")
    assert [head.sequence for head in heads.kept()] == [ROWS]
    with pytest.raises(ValueError, match="not a head"):
        parse_head("7:ab")


def test_secrets_stay_out_of_the_log(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path)
    key = "tg_31ea140670df_IcPtUWHkcq7eKhpbbTA7UFL_IUnljVvNA6IO3FpOLag"
    with store.begin() as unit:
        before = {"password": "hunter2", "options": [{"api_key": "abc", "tokenizer": "bert"}], "note": f"was {key}"}
        record(unit, "ada", "x.y", "z", at=1.0, before=before, reason=f"leaked {key}")
    row = rows(store)[0]
    store.close()
    assert "hunter2" not in row.body
    assert "IcPtUWHkcq7eKhpbbTA7UFL" not in row.body
    change = msgspec.json.decode(row.body, type=Change)
    assert change.before["options"] == [{"api_key": MASK, "tokenizer": "bert"}]


def test_a_change_says_from_where_it_came(store: Store) -> None:
    with acting_from(Origin("192.0.2.7", "31ea", "id-1")), store.begin() as unit:
        record(unit, "ada", "x.y", "z", at=1.0)
    change = msgspec.json.decode(rows(store)[-1].body, type=Change)
    assert change.origin == Origin("192.0.2.7", "31ea", "id-1")


def test_everything_below_a_secret_is_one() -> None:
    given = {"credentials": {"user": "ada", "more": [{"pin": "1234"}]}, "note": "x"}
    assert without_secrets(given) == {"credentials": {"user": MASK, "more": [{"pin": MASK}]}, "note": "x"}


def test_masking_leaves_other_values_alone() -> None:
    plain = {"salt": "iris-2", "steps": [1, 5.5], "none": None, "secret": ""}
    assert without_secrets(plain) == plain
