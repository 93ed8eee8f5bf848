from __future__ import annotations

import threading

import pytest

from tests.unit.storage.makers import START
from tidegate.errors import LeaseLost
from tidegate.storage.records import Lease
from tidegate.storage.store import Store


def acquire(store: Store, holder: str, now: float, seconds: float = 10) -> Lease | None:
    with store.begin() as unit:
        return unit.leases.acquire("releases", holder, now, seconds)


def test_one_holder_at_a_time(store: Store) -> None:
    assert acquire(store, "a", START) == Lease("releases", "a", 1, START + 10)
    assert acquire(store, "b", START + 9) is None
    assert acquire(store, "a", START + 9) == Lease("releases", "a", 1, START + 19)
    assert acquire(store, "b", START + 18) is None
    assert acquire(store, "b", START + 19) == Lease("releases", "b", 2, START + 29)


def test_a_holder_that_woke_up_cannot_write(store: Store) -> None:
    """R13: a paused leader comes back after another took over, still believing in its lease."""
    old = acquire(store, "a", START)
    new = acquire(store, "b", START + 11)
    assert old is not None
    assert new is not None
    with store.begin() as unit:
        unit.leases.check(new, START + 12)
    for opened in (store.begin, store.read):
        with pytest.raises(LeaseLost, match="another control plane has the lease"), opened() as unit:
            unit.leases.check(old, START + 12)
    with store.begin() as unit:
        unit.leases.give_back(old)
        unit.leases.check(new, START + 12)


def test_an_expired_lease_is_lost_though_nobody_took_it(store: Store) -> None:
    old = acquire(store, "a", START)
    assert old is not None
    with pytest.raises(LeaseLost, match="not renewed in time"), store.read() as unit:
        unit.leases.check(old, START + 10)
    again = acquire(store, "a", START + 10)
    assert again is not None
    assert again.token == 2
    with pytest.raises(LeaseLost), store.read() as unit:
        unit.leases.check(old, START + 11)


def test_a_lease_that_was_never_given_is_lost(store: Store) -> None:
    with pytest.raises(LeaseLost), store.read() as unit:
        unit.leases.check(Lease("releases", "a", 1, START + 9), START)


def test_given_back_it_is_free_at_once(store: Store) -> None:
    lease = acquire(store, "a", START)
    assert lease is not None
    with store.begin() as unit:
        unit.leases.give_back(lease)
    assert acquire(store, "b", START + 1) == Lease("releases", "b", 2, START + 11)


def test_many_want_it_and_one_gets_it(store: Store) -> None:
    start, got = threading.Barrier(6), list[Lease | None]()

    def try_it(holder: str) -> None:
        start.wait()
        got.append(acquire(store, holder, START))

    threads = [threading.Thread(target=try_it, args=(f"h{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 6
    assert sum(lease is not None for lease in got) == 1
