from __future__ import annotations

import threading

import msgspec
import pytest

from tests.unit.storage.makers import START, a_change, a_release
from tidegate.errors import LostRace
from tidegate.storage.records import EvidenceRow, ReleaseRow
from tidegate.storage.store import Store


def add(store: Store, row: ReleaseRow) -> ReleaseRow:
    with store.begin() as unit:
        unit.releases.add(row, a_change(row.id))
    return row


def test_a_release_and_what_happened_to_it(store: Store) -> None:
    row = add(store, a_release("r1", body='{"x": 0.1}'))
    changed = msgspec.structs.replace(row, state="promoted", open=False, changed=START + 9, revision=2)
    with store.begin() as unit:
        unit.releases.save(changed, a_change("r1", 2, "promoted"), expected=1)
    with store.read() as unit:
        assert unit.releases.get("r1") == changed
        assert unit.releases.get("r2") is None
        assert unit.releases.events("r1") == [a_change("r1"), a_change("r1", 2, "promoted")]
        assert unit.releases.events("r1", after=1) == [a_change("r1", 2, "promoted")]


def test_a_change_without_an_event(store: Store) -> None:
    row = add(store, a_release("r1"))
    with store.begin() as unit:
        unit.releases.save(msgspec.structs.replace(row, body='{"tick": 2}'), None, expected=1)
    with store.read() as unit:
        assert len(unit.releases.events("r1")) == 1


def test_of_two_changes_at_once_one_is_refused(store: Store) -> None:
    """Both looked at revision 1; the one that comes second has to look again: fluxcd/flagger#1532 lost such a write."""
    row = add(store, a_release("r1"))
    start, results = threading.Barrier(2), list[str]()

    def change(state: str) -> None:
        start.wait()
        try:
            with store.begin() as unit:
                unit.releases.save(
                    msgspec.structs.replace(row, state=state, revision=2), a_change("r1", 2, state), expected=1
                )
            results.append(state)
        except LostRace as error:
            results.append(str(error))

    threads = [threading.Thread(target=change, args=(state,)) for state in ("promoted", "rolled_back")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [result for result in results if "changed meanwhile" not in result]
    with store.read() as unit:
        found = unit.releases.get("r1")
        assert found is not None
        assert [found.state] == won
        assert [event.kind for event in unit.releases.events("r1")] == ["started", *won]


def test_saving_what_is_not_there_is_a_conflict(store: Store) -> None:
    with pytest.raises(LostRace, match="release r1 was changed meanwhile"), store.begin() as unit:
        unit.releases.save(a_release("r1"), None, expected=1)


def test_an_endpoint_has_one_open_release(store: Store) -> None:
    add(store, a_release("r1"))
    with pytest.raises(LostRace, match="endpoint iris has an open release already"):
        add(store, a_release("r2"))
    add(store, a_release("r3", endpoint="other"))
    old = add(store, a_release("r4", open=False, state="failed"))
    with pytest.raises(LostRace, match="open release"), store.begin() as unit:
        unit.releases.save(msgspec.structs.replace(old, open=True, revision=2), None, expected=1)


def test_lists_go_back_page_by_page(store: Store) -> None:
    for number in range(5):
        add(store, a_release(f"r{number}", created=START + number // 2, open=number == 4))
    add(store, a_release("other", endpoint="other", created=START - 1))
    with store.read() as unit:
        pages, cursor = [], None
        while page := unit.releases.list(endpoint="iris", limit=2, cursor=cursor):
            pages += [row.id for row in page]
            cursor = page[-1].id
        assert pages == ["r4", "r3", "r2", "r1", "r0"]
        assert [row.id for row in unit.releases.list(open=True)] == ["r4", "other"]
        assert len(unit.releases.list(open=False)) == 4


def test_evidence_is_kept_tick_by_tick(store: Store) -> None:
    rows = [EvidenceRow("r1", tick, START + tick, f'{{"tick": {tick}}}') for tick in range(4)]
    with store.begin() as unit:
        for row in rows:
            unit.releases.add_evidence(row)
    with store.read() as unit:
        assert unit.releases.evidence("r1") == rows
        assert unit.releases.evidence("r1", after=1, limit=1) == rows[2:3]
        assert unit.releases.evidence("r2") == []
    with pytest.raises(LostRace, match="tick 3 of release r1"), store.begin() as unit:
        unit.releases.add_evidence(rows[3])
