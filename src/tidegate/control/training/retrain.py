"""Retrainings: asked for by people, alerts or the calendar, trained by a job, and followed to the end of their release.

Every change is one transaction on the one record.
"""

from __future__ import annotations

import builtins
import logging
import secrets
from collections.abc import Callable
from functools import partial

from tidegate.clock import Clock
from tidegate.control.jobs.queue import Queue
from tidegate.control.lease import Leadership
from tidegate.control.registry.base import Registry
from tidegate.control.releases.service import ReleaseService
from tidegate.control.training.demand import Demand, Outlook
from tidegate.control.training.following import Following
from tidegate.control.training.kept import audited, found_in, open_in
from tidegate.control.training.plans import plan_of, plans_of
from tidegate.control.training.policy import Decision
from tidegate.control.training.retraining import Mode, Retraining, moved, retraining_of, row_of
from tidegate.control.training.starting import Starting
from tidegate.errors import Conflict, InvalidInput, LeaseLost, NotFound, Refused, StoreAway
from tidegate.settings import Settings
from tidegate.storage.store import Store

logger = logging.getLogger("tidegate.training")

LEASE = "retrainings"


class RetrainService:
    """``holder`` is one life of one process; of several control planes one looks."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        settings: Settings,
        queue: Queue,
        releases: ReleaseService,
        clock: Clock,
        holder: str,
        *,
        new_id: Callable[[], str] = lambda: f"t-{secrets.token_hex(4)}",
    ) -> None:
        self._store = store
        self._settings = settings
        self._queue = queue
        self._clock = clock
        self._starting = Starting(queue, clock, new_id)
        self._demand = Demand(store, registry, settings, self._starting, clock)
        self._following = Following(store, settings, queue, releases, clock)
        self._leadership = Leadership(store, clock, LEASE, holder, settings.control.lease_seconds)

    def start(self, endpoint: str, *, mode: Mode | None = None, who: str, reason: str = "") -> Retraining:
        """Asked for by a person: cool-down, budget and labels do not stand in the way. Raises NotFound, InvalidInput for an
        endpoint that has no training configuration, Conflict while another one is open, QueueFull."""
        plan = plan_of(self._settings, endpoint).retrain
        if plan is None:
            raise InvalidInput(
                f"endpoint {endpoint[:80]!r} has no training configuration: set endpoints.{endpoint[:80]}.monitor.retrain",
                ("endpoint",),
            )
        with self._store.begin() as unit:
            if (found := open_in(unit, endpoint)) is not None:
                raise Conflict(f"retraining {found.id} of {endpoint} is {found.state}; wait for it, or cancel it")
            return self._starting.begin(
                unit, endpoint, plan, mode or plan.mode, "person", who, reason, Decision(start=True, reason=reason)
            )

    def list(
        self,
        endpoint: str | None = None,
        open: bool | None = None,  # noqa: A002
        limit: int = 50,
        cursor: str | None = None,
    ) -> builtins.list[Retraining]:
        """Newest first; ``cursor`` is the id of the last one of the page before."""
        with self._store.read() as unit:
            rows = unit.retrainings.list(endpoint=endpoint, open=open, limit=limit, cursor=cursor)
        return [retraining_of(row) for row in rows]

    def get(self, id: str) -> Retraining:  # noqa: A002
        """Raises NotFound."""
        with self._store.read() as unit:
            return found_in(unit, id)

    def cancel(self, id: str, *, who: str, reason: str = "") -> Retraining:  # noqa: A002
        """Ends its job, or keeps an accepted version from being released. Raises Conflict where it is too late."""
        before = self.get(id)
        if before.state == "releasing":
            raise Conflict(f"retraining {id} is being released; roll release {before.release} back instead")
        if not before.open:
            raise Conflict(f"retraining {id} is {before.state}; there is nothing to cancel")
        if before.state in ("queued", "training"):
            try:
                self._queue.cancel(before.job, who=who, reason=reason)
            except (Conflict, NotFound) as error:
                logger.info("retraining %s: %s", id, error)
        text = f"cancelled by {who}" + (f": {reason}" if reason else "")
        with self._store.begin() as unit:
            current = found_in(unit, id)
            if current.revision != before.revision:
                raise Conflict(f"retraining {id} was changed meanwhile; look again and repeat")
            after = moved(current, "ended", self._clock.wall(), text)
            unit.retrainings.save(row_of(after), current.revision)
            audited(unit, who, "retraining.cancel", after, reason, self._clock.wall(), before=current.state)
        return after

    def outlook(self) -> builtins.list[Outlook]:
        """Every endpoint that has a plan, with what was decided last."""
        return self._demand.outlook()

    def tick(self) -> None:
        """One look at every open retraining, and at every endpoint that may want one; nothing while another control plane
        holds the lease. Raises StoreAway."""
        plans = plans_of(self._settings)
        with self._store.read() as unit:
            rows = unit.retrainings.list(open=True, limit=1000)
        lease = self._leadership.take() if rows or plans else None
        if lease is None:
            return
        for row in rows:
            self._safely(row.id, partial(self._following.follow, retraining_of(row), lease))
        for endpoint, plan in plans.items():
            self._safely(endpoint, partial(self._demand.consider, endpoint, plan, lease))

    def leave(self) -> None:
        """Hands the lease back, so that another control plane goes on at once."""
        self._leadership.give_back()

    def _safely(self, what: str, act: Callable[[], object]) -> None:
        try:
            act()
        except StoreAway:
            raise
        except LeaseLost as error:
            self._leadership.lose(str(error))
        except (Conflict, Refused) as error:
            logger.info("retraining, %s: %s", what, error)
        except Exception:
            logger.exception("retraining, %s: the look failed", what)
