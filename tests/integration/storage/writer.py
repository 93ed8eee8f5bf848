"""A process that writes to a store until it is killed, and says what was taken: run by the tests beside it."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time

from tests.unit.storage.makers import START, a_window, an_exposure, an_outcome
from tidegate.errors import LeaseLost, StoreAway
from tidegate.storage.store import Store, open_store


def say(words: object) -> None:
    print(words, flush=True)


def write_for_ever(store: Store) -> None:
    """Numbers of the batches whose block ended."""
    number = 0
    while True:
        number += 1
        with store.begin() as unit:
            unit.exposures.add([an_exposure(f"{number}-{part}", time=START + number) for part in range(3)])
            unit.feedback.add([an_outcome(unit=str(number))])
            unit.audit.append("writer", "write", str(number), "{}", START)
        say(number)


def hold_a_lease(store: Store) -> None:
    """Acts as leader for as long as it may, then says why it stopped."""
    with store.begin() as unit:
        lease = unit.leases.acquire("releases", "writer", time.time(), 1.0)
    assert lease is not None
    say("leads")
    sys.stdin.readline()  # paused here, as by the operating system, while the lease runs out
    try:
        with store.begin() as unit:
            unit.audit.append("writer", "write", "too late", "{}", START)
            unit.leases.check(lease, time.time())
    except LeaseLost as error:
        say(f"lost: {error}")


def write_to_a_full_disk(store: Store) -> None:
    """Files may not grow over a megabyte."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    kept = 0
    try:
        while True:
            with store.begin() as unit:
                added = unit.windows.add([a_window(kept + part) for part in range(500)])
            kept += added
    except StoreAway as error:
        say(f"{kept} kept; {error}")
    with store.read() as unit:
        say(len(unit.windows.after("iris", 0, limit=100_000)))


def write_as_a_stranger(store: Store) -> None:
    """As a user who may read the store but not write it."""
    os.seteuid(65534)
    try:
        with store.begin() as unit:
            unit.audit.append("stranger", "write", "x", "{}", START)
    except StoreAway as error:
        say(error)


if __name__ == "__main__":
    globals()[sys.argv[2]](open_store(sys.argv[1]))
