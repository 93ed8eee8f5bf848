"""What a control plane does again and again, one thing after the other on one thread. A step that fails is tried again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from tidegate.clock import Clock
from tidegate.errors import Conflict, Refused, TidegateError

logger = logging.getLogger("tidegate.control")

LONGEST_PAUSE = 30.0
"""After failures a step is tried later and later, at most so many seconds."""


class Step:
    """``act`` runs every ``seconds``; with ``once`` only until it has succeeded."""

    def __init__(self, name: str, seconds: float, act: Callable[[], object], *, once: bool = False) -> None:
        self.name = name
        self.done = False
        self.trouble = ""
        """Why the last attempt failed; empty when it did not."""
        self._seconds = seconds
        self._act = act
        self._once = once
        self._due = 0.0
        self._pause = 0.0

    def look(self, now: float) -> None:
        """Acts if it is time to; ``now`` by a clock that never goes back."""
        if self.done or now < self._due:
            return
        self._due = now + self._seconds
        try:
            self._act()
        except Conflict as error:  # another control plane was first; the next look sees what it did
            logger.info("%s: %s", self.name, error)
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the other steps go on
            self._pause = min(max(2 * self._pause, self._seconds), max(LONGEST_PAUSE, self._seconds))
            self._due = now + self._pause
            self._say(error)
            return
        if self.trouble:
            logger.info("%s: goes on", self.name)
        self.trouble, self._pause, self.done = "", 0.0, self._once

    def _say(self, error: Exception) -> None:
        """One line for each new trouble; the trace only of what nobody foresaw."""
        text = str(error) or type(error).__name__
        if text == self.trouble:
            return
        self.trouble = text
        expected = isinstance(error, TidegateError)
        level = logging.WARNING if isinstance(error, Refused) else logging.ERROR
        logger.log(level, "%s: %s; it is tried again", self.name, text, exc_info=None if expected else error)


class Ticker:
    """Runs the steps until ``stopping`` is set; the step that runs then is finished."""

    def __init__(self, steps: Sequence[Step], clock: Clock, stopping: threading.Event, seconds: float) -> None:
        self._steps = steps
        self._clock = clock
        self._stopping = stopping
        self._seconds = seconds

    def run(self) -> None:
        while not self._stopping.is_set():
            self.tick()
            self._stopping.wait(self._seconds)

    def tick(self) -> None:
        for step in self._steps:
            if self._stopping.is_set():
                return
            step.look(self._clock.monotonic())
