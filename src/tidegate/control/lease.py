"""Which of several control planes acts: a lease on the store, renewed in good time and handed back at the end."""

from __future__ import annotations

import logging

from tidegate.clock import Clock
from tidegate.errors import StoreAway
from tidegate.storage.records import Lease
from tidegate.storage.store import Store

logger = logging.getLogger("tidegate.lease")


class Leadership:
    """For one kind of work and one life of one process. Every write under it checks ``Lease`` in its transaction, so a
    leader that slept cannot write."""

    def __init__(self, store: Store, clock: Clock, name: str, holder: str, seconds: float) -> None:
        self._store = store
        self._clock = clock
        self._name = name
        self._holder = holder
        self._seconds = seconds
        self._lease: Lease | None = None

    @property
    def held(self) -> bool:
        return self._lease is not None

    def take(self) -> Lease | None:
        """The lease, taken or renewed; None while another holds it. Raises StoreAway."""
        now = self._clock.wall()
        if self._lease is not None and self._seconds / 2 < self._lease.expires - now <= self._seconds:
            return self._lease
        with self._store.begin() as unit:
            lease = unit.leases.acquire(self._name, self._holder, now, self._seconds)
        if lease is None:
            self.lose("another one has taken the lease")
        elif self._lease is None or self._lease.token != lease.token:
            logger.info("this control plane looks at %s now", self._name)
        self._lease = lease
        return lease

    def lose(self, why: str) -> None:
        if self._lease is not None:
            logger.warning("this control plane does not look at %s any more: %s", self._name, why)
        self._lease = None

    def give_back(self) -> None:
        """So that another control plane goes on at once."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        try:
            with self._store.begin() as unit:
                unit.leases.give_back(lease)
        except StoreAway:
            logger.info("the lease on %s runs out by itself: the store is away", self._name)
