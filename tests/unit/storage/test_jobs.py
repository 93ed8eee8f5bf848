"""Jobs in the store: who gets one, and who may write."""

from __future__ import annotations

import threading

import msgspec
import pytest

from tidegate.control.jobs.job import Job
from tidegate.control.jobs.queue import row_of
from tidegate.errors import LeaseLost, LostRace
from tidegate.storage.records import JobRow, ScheduleRow
from tidegate.storage.store import Store

KINDS = ("batch",)


def row(id: str, *, key: str = "", created: float = 0.0, run_at: float = 0.0, kind: str = "batch") -> JobRow:  # noqa: A002
    return row_of(Job(id=id, kind=kind, key=key, created=created, run_at=run_at), created)


def add(store: Store, *rows: JobRow) -> None:
    with store.begin() as unit:
        for one in rows:
            unit.jobs.add(one)


def test_of_many_workers_each_job_goes_to_one(store: Store) -> None:
    add(store, *(row(f"j-{number:02d}", created=number) for number in range(24)))
    taken: list[str] = []
    together = threading.Barrier(4)

    def work(name: str) -> None:
        together.wait(10)
        while True:
            with store.begin() as unit:
                claimed = unit.jobs.claim(KINDS, name, 100.0, 30.0)
            if claimed is None:
                return
            taken.append(claimed.id)

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(taken) == [f"j-{number:02d}" for number in range(24)]


def test_a_claim_that_ran_out_is_taken_with_a_new_token(store: Store) -> None:
    add(store, row("j-1"))
    with store.begin() as unit:
        first = unit.jobs.claim(KINDS, "w1", 10.0, 30.0)
        assert first is not None
        assert unit.jobs.claim(KINDS, "w2", 39.0, 30.0) is None
        second = unit.jobs.claim(KINDS, "w2", 40.0, 30.0)
        assert second is not None
        assert (second.token, second.holder) == (first.token + 1, "w2")
        with pytest.raises(LeaseLost):
            unit.jobs.renew("j-1", first.token, 41.0, 30.0)
        with pytest.raises(LeaseLost):
            unit.jobs.held("j-1", first.token)
        assert unit.jobs.renew("j-1", second.token, 41.0, 30.0).expires == 71.0
        assert unit.jobs.held("j-1", second.token).holder == "w2"


def test_the_longest_waiting_of_a_kind_first_and_none_too_early(store: Store) -> None:
    add(store, row("j-2", created=2.0, run_at=2.0), row("j-1", created=1.0, run_at=1.0), row("j-3", run_at=50.0))
    add(store, row("j-0", kind="notify"))
    with store.begin() as unit:
        assert unit.jobs.waits(KINDS, 10.0)
        found = [unit.jobs.claim(KINDS, "w1", 10.0, 30.0) for _ in range(3)]
        assert [one and one.id for one in found] == ["j-1", "j-2", None]
        assert not unit.jobs.waits(KINDS, 10.0)


def test_an_open_key_is_there_once_and_its_transaction_goes_on(store: Store) -> None:
    add(store, row("j-1", key="monthly"))
    with store.begin() as unit:
        with pytest.raises(LostRace):
            unit.jobs.add(row("j-2", key="monthly"))
        found = unit.jobs.open_with("monthly")
        assert found is not None
        assert found.id == "j-1"
        unit.jobs.save(msgspec.structs.replace(found, open=False, state="done", revision=1), 0)
        unit.jobs.add(row("j-2", key="monthly"))
        assert unit.jobs.count_open() == 1
    with store.read() as unit:
        assert unit.jobs.counts() == {"done": 1, "queued": 1}
        assert [one.id for one in unit.jobs.list(state="done")] == ["j-1"]


def test_a_change_that_saw_an_older_row_is_refused(store: Store) -> None:
    add(store, row("j-1"))
    with store.begin() as unit, pytest.raises(LostRace):
        unit.jobs.save(row("j-1"), 7)


def test_a_job_keeps_its_kind_and_when_it_was_made(store: Store) -> None:
    made = row("j-1", created=1.0)
    add(store, made)
    other = msgspec.structs.replace(made, state="done", open=False, kind="notify", created=9.0, revision=1)
    with store.begin() as unit:
        unit.jobs.save(other, 0)
    with store.read() as unit:
        assert unit.jobs.get("j-1") == msgspec.structs.replace(other, kind="batch", created=1.0)


def test_schedules_are_kept_by_name(store: Store) -> None:
    with store.begin() as unit:
        unit.jobs.put_schedule(ScheduleRow("b", 1.0, 0.0, "{}"))
        unit.jobs.put_schedule(ScheduleRow("a", 1.0, 0.0, "{}"))
        unit.jobs.put_schedule(ScheduleRow("a", 9.0, 5.0, "{}"))
        assert [one.name for one in unit.jobs.all_schedules()] == ["a", "b"]
        found = unit.jobs.schedule("a")
        assert found is not None
        assert found.next == 9.0
        unit.jobs.drop_schedule("a")
        assert unit.jobs.schedule("a") is None
