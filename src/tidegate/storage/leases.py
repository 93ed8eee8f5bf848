"""Leases: one of several control planes acts, and one that lost its lease cannot write any more."""

from __future__ import annotations

from sqlalchemy import select, update

from tidegate.errors import LeaseLost
from tidegate.storage.base import Repository
from tidegate.storage.records import Lease
from tidegate.storage.tables import leases


class Leases(Repository):
    def acquire(self, name: str, holder: str, now: float, seconds: float) -> Lease | None:
        """A new lease, or the own one renewed; None while another holds it.

        ``holder`` is one life of one process. A lease that had expired gets a new token even for its last holder:
        what was decided under the old one is refused.
        """
        first = self._insert(leases).values(name=name, holder="", token=0, expires=0.0)
        self._connection.execute(first.on_conflict_do_nothing(index_elements=["name"]))
        held = self._connection.execute(select(leases).where(leases.c.name == name).with_for_update()).one()
        if held.expires > now and held.holder != holder:
            return None
        token = held.token if held.expires > now else held.token + 1
        lease = Lease(name, holder, token, now + seconds)
        query = update(leases).where(leases.c.name == name)
        self._connection.execute(query.values(holder=holder, token=token, expires=lease.expires))
        return lease

    def check(self, lease: Lease, now: float) -> None:
        """Raises LeaseLost unless the lease is still the current one. Inside a write, nobody can take it over before the
        unit ends."""
        query = select(leases).where(leases.c.name == lease.name)
        if self._writes:
            query = query.with_for_update(read=True)
        held = self._connection.execute(query).one_or_none()
        if held is None or held.token != lease.token or held.holder != lease.holder:
            raise LeaseLost(f"another control plane has the lease {lease.name}")
        if held.expires <= now:
            raise LeaseLost(f"the lease {lease.name} was not renewed in time")

    def give_back(self, lease: Lease) -> None:
        """Ends an own lease at once; one that was lost already stays with its holder."""
        query = update(leases).where(leases.c.name == lease.name, leases.c.token == lease.token)
        self._connection.execute(query.values(expires=0.0))
