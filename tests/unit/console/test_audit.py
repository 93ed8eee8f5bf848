"""What the page of the audit log checks, and what it says of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from tests.e2e import seed
from tests.e2e.plane import services_of
from tests.stores import sqlite_store
from tests.unit.control.api.client import Client
from tidegate.clock import ManualClock
from tidegate.console.pages.audit import MOST, Verified
from tidegate.control.access.audit import record
from tidegate.control.access.heads import Heads
from tidegate.control.api.app import make_app
from tidegate.keys import KeyFacts
from tidegate.storage.store import Store
from tidegate.storage.tables import audit_events


class Log:
    """An audit log; ``look`` is what the page does."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(seed.NOW)
        self.store: Store = sqlite_store(folder, self.clock)
        self.heads = Heads(self.store, folder)
        self.verified = Verified(self.store, self.heads, self.clock)

    def add(self, number: int) -> None:
        with self.store.begin() as unit:
            for _ in range(number):
                record(unit, "ada", "release.pause", "release:r", at=self.clock.wall())

    def change(self, number: int) -> None:
        with self.store.begin() as unit:
            unit.connection.execute(update(audit_events).where(audit_events.c.sequence == number).values(who="mallory"))

    def cut(self, first: int) -> None:
        with self.store.begin() as unit:
            unit.connection.execute(delete(audit_events).where(audit_events.c.sequence >= first))

    def faults(self) -> list[tuple[int, str]]:
        return [(fault.sequence, fault.what) for fault in self.verified.look().faults]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path)
    yield made
    made.store.close()


def test_each_entry_is_checked_once_as_it_comes(log: Log) -> None:
    assert log.verified.look().last == 0
    log.add(3)
    log.heads.note()
    first = log.verified.look()
    assert (first.first, first.last, first.heads, first.faults) == (1, 3, 1, ())
    log.change(2)
    log.clock.advance(60)
    log.add(2)
    second = log.verified.look()
    assert (second.first, second.last, second.heads, second.faults) == (1, 5, 1, ()), "entry 2 is not read again"
    assert second.made - second.began == 60
    assert not log.heads.verify().whole, "the whole log is read by the command"


def test_a_new_entry_that_does_not_fit_is_found_and_not_forgotten(log: Log) -> None:
    log.add(3)
    log.verified.look()
    log.add(2)
    log.change(5)
    assert log.faults() == [(5, "was changed: its hash does not fit")]
    log.cut(5)
    log.add(1)
    assert log.faults() == [(5, "was changed: its hash does not fit")]


def test_a_log_that_was_cut_between_two_looks_is_found(log: Log) -> None:
    log.add(3)
    log.verified.look()
    log.cut(3)
    ((number, what),) = log.faults()
    assert number == 3
    assert "at the last look" in what
    log.add(5)
    assert log.faults() == [(number, what)]


def test_a_log_that_was_cut_is_found_against_a_kept_head(log: Log) -> None:
    log.add(3)
    log.heads.note()
    log.cut(3)
    assert log.faults() == [(3, "was the newest row once and is gone: the tail was cut")]


@pytest.mark.slow
def test_one_look_reads_no_more_than_the_newest_entries(log: Log) -> None:
    log.add(MOST + 10)
    log.change(4)
    log.heads.note()
    found = log.verified.look()
    assert (found.first, found.last, found.heads, found.faults) == (11, MOST + 10, 1, ())
    log.add(1)
    found = log.verified.look()
    assert (found.first, found.last, found.faults) == (11, MOST + 11, ())
    log.change(MOST)
    again = Verified(log.store, log.heads, log.clock).look()
    assert [fault.sequence for fault in again.faults] == [MOST]


def test_the_page_says_what_was_checked_when(tmp_path: Path) -> None:
    clock = ManualClock(seed.NOW)
    store = sqlite_store(tmp_path, clock)
    services = services_of(store, seed.settings(), clock, tmp_path)
    client = Client(make_app(services))
    key = services.access.keys.create(KeyFacts(name="Ada", roles=("admin",)), who="test").key
    assert client.post("/sign-in", data={"key": key}).status_code == 303

    def said() -> str:
        notice = re.search(r'<(p|div) class="notice.*?</\1>', client.get("/audit").text, re.DOTALL)
        assert notice is not None
        return " ".join(re.sub(r"<[^>]+>", "", notice.group()).split())

    assert said().startswith("The log is whole. Entries 1 to 2 were checked just now; each carries")
    clock.advance(60)
    services.access.keys.create(KeyFacts(name="Eve"), who="test")
    services.access.heads.note()
    assert said() == (
        "The log is whole. Entries 1 to 3 were checked as they came, the first 1 min ago, the last just now, against 1 "
        "kept head; each carries the hash of the one before. tidegate audit verify reads the whole log again."
    )
    with store.begin() as unit:
        unit.connection.execute(delete(audit_events).where(audit_events.c.sequence == 3))
    assert said().startswith("The log is not whole.")
    client.close()
    store.close()
