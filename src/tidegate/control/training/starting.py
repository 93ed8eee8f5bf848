"""How a retraining begins, whoever asks for it: its record, its job and the audit entry, in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable

from tidegate.clock import Clock
from tidegate.control.jobs.queue import Queue
from tidegate.control.training.kept import audited
from tidegate.control.training.policy import Decision
from tidegate.control.training.retraining import Mode, Retraining, Trigger, moved, row_of
from tidegate.errors import Conflict, LostRace
from tidegate.monitor_plan import RetrainPlan
from tidegate.storage.store import Unit

logger = logging.getLogger("tidegate.training")

KIND = "retrain"
SYSTEM = "tidegate"
"""Who asks for those that nobody asks for."""


class Starting:
    def __init__(self, queue: Queue, clock: Clock, new_id: Callable[[], str]) -> None:
        self._queue = queue
        self._clock = clock
        self._new_id = new_id

    def begin(
        self,
        unit: Unit,
        endpoint: str,
        plan: RetrainPlan,
        mode: Mode,
        trigger: Trigger,
        who: str,
        reason: str,
        decision: Decision,
    ) -> Retraining:
        """In the caller's transaction. Raises Conflict, QueueFull."""
        now, id = self._clock.wall(), self._new_id()  # noqa: A001
        payload = {"retraining": id, "endpoint": endpoint, "mode": mode, "config": plan.config}
        job = self._queue.submit_in(
            unit,
            KIND,
            payload,
            who=SYSTEM,
            key=f"{KIND}:{endpoint}",
            endpoint=endpoint,
            parent=id,
            reason=reason[:1000],
        )
        if job.parent != id:
            raise Conflict(f"job {job.id} still trains {endpoint}; wait until it has ended")
        begun = Retraining(
            id=id,
            endpoint=endpoint,
            mode=mode,
            trigger=trigger,
            alerts=decision.alerts,
            reports=decision.reports,
            reason=reason,
            author=who,
            job=job.id,
            waiting="its job waits for a worker",
            created=now,
            changed=now,
        )
        begun = moved(
            begun, "queued", now, f"asked for by {who}" + (f": {reason}" if reason else ""), waiting=begun.waiting
        )
        try:
            unit.retrainings.add(row_of(begun))
        except LostRace as error:
            raise Conflict(str(error)) from error
        audited(unit, who, "retraining.start", begun, reason, now)
        logger.info("retraining %s of %s (%s, %s): %s", id, endpoint, mode, trigger, reason or "no reason given")
        return begun
