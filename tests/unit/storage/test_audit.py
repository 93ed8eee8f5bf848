from __future__ import annotations

import hashlib
import threading

import msgspec

from tests.unit.storage.makers import START
from tidegate.storage.audit import hash_of
from tidegate.storage.records import AuditRow
from tidegate.storage.store import Store


def append(store: Store, target: str = "t", at: float = START) -> AuditRow:
    with store.begin() as unit:
        return unit.audit.append("ann", "release.promote", target, '{"reason":"grün"}', at)


def test_each_row_carries_the_hash_of_the_one_before(store: Store) -> None:
    first, second = append(store), append(store, at=START + 0.1)
    assert (first.sequence, first.previous) == (1, "")
    assert (second.sequence, second.previous) == (2, first.hash)
    with store.read() as unit:
        assert unit.audit.rows() == [first, second]
        assert unit.audit.last() == second
        assert all(hash_of(row) == row.hash for row in unit.audit.rows())


def test_the_hash_is_of_the_sorted_json(store: Store) -> None:
    row = append(store)
    told = b'{"action":"release.promote","body":"{\\"reason\\":\\"gr\xc3\xbcn\\"}","sequence":1,"target":"t",'
    told += b'"time":1700000000.0,"who":"ann"}'
    assert row.hash == hashlib.sha256(told).hexdigest()


def test_any_change_of_a_row_changes_its_hash(store: Store) -> None:
    row = append(store)
    for name in row.__struct_fields__:
        if name != "hash":
            other = msgspec.structs.replace(row, **{name: 7 if name in ("sequence", "time") else "other"})
            assert hash_of(other) != row.hash


def test_lists(store: Store) -> None:
    for number in range(5):
        append(store, f"t{number % 2}")
    with store.read() as unit:
        assert [row.sequence for row in unit.audit.list(limit=2, before=4)] == [3, 2]
        assert [row.sequence for row in unit.audit.list(target="t1")] == [4, 2]
        assert [row.sequence for row in unit.audit.rows(after=1, limit=2)] == [2, 3]


def test_many_writers_make_one_chain(store: Store) -> None:
    threads = [threading.Thread(target=lambda: [append(store) for _ in range(4)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as unit:
        rows = unit.audit.rows()
    assert [row.sequence for row in rows] == list(range(1, 17))
    assert [row.previous for row in rows] == ["", *(row.hash for row in rows[:-1])]
