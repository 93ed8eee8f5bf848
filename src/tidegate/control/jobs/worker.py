"""Takes jobs and sees to it that each ends: keeps them by signs of life, bounds their time, cancels, and settles what its
child could not say itself. What a try is run in comes from outside: ``start``."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from tidegate.clock import Clock
from tidegate.control.jobs.claims import Claim, Claims
from tidegate.control.jobs.handlers import LIGHT
from tidegate.errors import LeaseLost, StoreAway, TidegateError, UserError
from tidegate.settings import Jobs

logger = logging.getLogger("tidegate.jobs")

BUSY_SECONDS = 0.1
"""Between looks while something runs."""
AWAY_SECONDS = 2.0
"""Between attempts to reach a store that is away."""
RENEW_SECONDS = 2.0
"""Between signs of life at most: with each the worker hears of a cancellation."""
CANCEL_SECONDS = 10.0
"""For a cancelled job to notice by itself, before it is killed."""
END_SECONDS = 5.0
"""For the process of a job that has ended in the store to end too."""
GRACE_SECONDS = 10.0
"""For jobs that run when the worker is told to end."""
LIGHT_SLOTS = 4


class Running(Protocol):
    """One try, in whatever it runs."""

    def ended(self) -> str | None:
        """None while it runs; then what happened to it, for the case that it could not say so itself."""

    def cancel(self) -> None:
        """It should end soon; may be ignored."""

    def kill(self) -> bool:
        """Ends it; false when that cannot be done, as with a thread."""


class _Try:
    def __init__(self, claim: Claim, running: Running, now: float) -> None:
        self.claim = claim
        self.running = running
        self.began = now
        self.renewed = now
        self.cancel_at: float | None = None
        self.end_by: float | None = None
        self.settle: Callable[[], object] | None = None
        """What the store has yet to take."""
        self.dead = False

    @property
    def light(self) -> bool:
        return self.claim.job.kind in LIGHT


class Worker:
    """``slots`` heavy jobs at a time, of ``kinds``. One thread calls ``run``, or ``tick`` again and again."""

    def __init__(
        self,
        claims: Claims,
        start: Callable[[Claim], Running],
        settings: Jobs,
        clock: Clock,
        kinds: Sequence[str],
        *,
        slots: int = 1,
        cancel_seconds: float = CANCEL_SECONDS,
    ) -> None:
        self._claims = claims
        self._start = start
        self._settings = settings
        self._clock = clock
        self._kinds = tuple(kinds)
        self._slots = slots
        self._cancel_seconds = cancel_seconds
        self._renew_seconds = min(settings.lease_seconds / 3, RENEW_SECONDS)
        self._tries: list[_Try] = []
        self._trouble = ""
        self._away_until = 0.0

    @property
    def busy(self) -> bool:
        return bool(self._tries)

    def run(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            self.tick()
            stopping.wait(min(BUSY_SECONDS if self.busy else self._settings.poll_seconds, self._settings.poll_seconds))

    def tick(self) -> None:
        """One look at everything that runs, then takes what there is room for."""
        self._look_at_all()
        now = self._clock.monotonic()
        while now >= self._away_until and (kinds := self._room()):
            try:
                claim = self._claims.take(kinds)
            except StoreAway as error:
                self._say(f"waiting for the store: {error}", now)
                return
            except UserError as error:  # it is there, but not migrated yet
                self._say(str(error), now)
                return
            self._trouble = ""
            if claim is None:
                return
            self._begin(claim, now)

    def end(self, stopping: threading.Event, grace: float = GRACE_SECONDS) -> None:
        """Takes nothing more; what runs may end within ``grace`` seconds, or until ``stopping`` is set, and is handed back
        then: to another worker, without counting as a try."""
        deadline = self._clock.monotonic() + grace
        while self._tries and self._clock.monotonic() < deadline and not stopping.is_set():
            self._look_at_all()
            stopping.wait(BUSY_SECONDS)
        for one in self._tries:
            one.running.kill()
            try:
                if one.settle is not None:
                    one.settle()
                elif not one.dead:
                    self._claims.hand_back(one.claim)
                    logger.info("job %s: handed back", one.claim.job.id)
            except TidegateError as error:
                logger.warning("job %s is taken by another worker later: %s", one.claim.job.id, error)
        self._tries.clear()

    def _room(self) -> tuple[str, ...]:
        heavy = sum(not one.light for one in self._tries)
        light = sum(one.light for one in self._tries)
        return tuple(kind for kind in self._kinds if (light < LIGHT_SLOTS if kind in LIGHT else heavy < self._slots))

    def _begin(self, claim: Claim, now: float) -> None:
        logger.info("job %s (%s): try %d", claim.job.id, claim.job.kind, claim.job.tries)
        try:
            running = self._start(claim)
        except OSError as error:  # no process, no descriptor left: may pass
            reason = f"its process could not be started: {error.strerror}"
            logger.error("job %s: %s", claim.job.id, reason)  # noqa: TRY400
            one = _Try(claim, _Nothing(), now)
            one.settle = lambda: self._claims.fail(claim, reason, again=True)
            self._tries.append(one)
            return
        self._tries.append(_Try(claim, running, now))

    def _look_at_all(self) -> None:
        for one in self._tries:
            self._look(one, self._clock.monotonic())
        self._tries = [one for one in self._tries if one.settle is not None or not self._over(one)]

    def _over(self, one: _Try) -> bool:
        return one.running.ended() is not None and one.dead

    def _look(self, one: _Try, now: float) -> None:
        if one.settle is None and not one.dead:
            self._watch(one, now)
        if one.settle is not None and now >= self._away_until:
            try:
                one.settle()
            except LeaseLost:
                logger.debug("job %s had ended, or is another worker's", one.claim.job.id)
            except StoreAway as error:
                self._say(f"waiting for the store: {error}", now)
                return
            one.settle, one.dead = None, True

    def _watch(self, one: _Try, now: float) -> None:
        claim, job = one.claim, one.claim.job
        why = one.running.ended()
        if why is not None:
            # A child that has said how it ended has ended the claim too: then this is refused, as it should be.
            one.settle = lambda: self._claims.fail(claim, why, again=True)
            return
        if one.end_by is not None:
            if now >= one.end_by:
                one.running.kill()
                one.dead = True
            return
        if now - one.began > job.timeout_seconds:
            self._kill(one, f"took longer than its time-out of {job.timeout_seconds:g} s")
            return
        if one.cancel_at is not None and now >= one.cancel_at:
            one.running.kill()
            one.settle = lambda: self._claims.cancelled(claim)
            return
        if now - one.renewed >= self._renew_seconds and now >= self._away_until:
            one.renewed = now
            self._renew(one, now)

    def _renew(self, one: _Try, now: float) -> None:
        try:
            job = self._claims.renew(one.claim)
        except StoreAway as error:
            self._say(f"jobs run on while the store is away: {error}", now)
            return
        except LeaseLost as error:
            logger.warning("job %s: %s; its process is ended", one.claim.job.id, error)
            one.running.kill()
            one.dead = True
            return
        self._trouble = ""
        if not job.open:
            one.end_by = now + END_SECONDS
        elif job.cancelling and one.cancel_at is None:
            one.running.cancel()
            one.cancel_at = now + self._cancel_seconds

    def _kill(self, one: _Try, why: str) -> None:
        one.running.kill()
        logger.warning("job %s: %s", one.claim.job.id, why)
        one.settle = lambda: self._claims.fail(one.claim, why, again=True)

    def _say(self, text: str, now: float) -> None:
        """Once, and asks again a little later."""
        self._away_until = now + AWAY_SECONDS
        if text != self._trouble:
            logger.warning("%s", text)
        self._trouble = text


class _Nothing:
    """What could not be started."""

    def ended(self) -> str:
        return ""

    def cancel(self) -> None:
        return

    def kill(self) -> bool:
        return True
