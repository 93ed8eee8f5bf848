"""Which windows have their turn: those that are over, those whose rows have doubled, and those in which nothing came. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import msgspec
from msgspec.structs import replace

from tidegate.control.monitoring.state import OpenWindow, start_of

MOST_CHECKS = 200
"""Windows that one look checks."""
MOST_SILENT = 24
"""Windows without a row that are reported after a time in which nobody looked."""
SETTLE_SECONDS = 3.0
"""After the end of a window, for what is still on its way to the store."""


class Horizon(msgspec.Struct, frozen=True):
    """How far windows of ``seconds`` are known at ``now``, with all predictions read that came before ``until``."""

    now: float
    seconds: float
    until: float = math.inf

    @property
    def first_unjudged(self) -> float:
        """Start of the first window that is not over."""
        current = start_of(min(self.now, self.until), self.seconds)
        return current if self.is_over(current - self.seconds) else current - self.seconds

    def is_over(self, start: float) -> bool:
        return min(self.now, self.until) >= start + self.seconds + settling(self.seconds)

    def due(self, windows: Iterable[OpenWindow], least: int) -> list[OpenWindow]:
        """Those that are checked now; ``least`` rows are needed while one runs."""
        return [one for one in windows if self._is_due(one, least)][:MOST_CHECKS]

    def _is_due(self, one: OpenWindow, least: int) -> bool:
        """Over, or with twice the rows of the last look: one at every row would find something by chance alone."""
        return self.is_over(one.start) or one.rows >= max(least, 2 * one.checked)

    def left(self, windows: Iterable[OpenWindow], checked: Iterable[OpenWindow]) -> Iterator[OpenWindow]:
        """Windows that go on: those that are not over, or wait for their turn."""
        done = set(checked)
        for one in windows:
            if one not in done:
                yield one
            elif not self.is_over(one.start):
                yield replace(one, checked=one.rows, looks=one.looks + 1)

    def unjudged(self, since: float) -> Iterator[float]:
        """Starts of the newest windows that are over, from the one that starts at ``since``."""
        end = self.first_unjudged
        count = min(round((end - since) / self.seconds), MOST_SILENT)
        for number in range(count, 0, -1):
            yield end - number * self.seconds


def settling(seconds: float) -> float:
    """How long after the end of a window of ``seconds`` it is over."""
    return min(SETTLE_SECONDS, seconds / 2)


def share_of(looks: int, over: bool) -> float:
    """Of alpha, for the look after ``looks`` of the same window: a quarter, an eighth … while it runs, and what is left when
    it is over. Together they are 1, so that all looks at a window find something by chance as seldom as one look would."""
    spent = 2.0 ** -(looks + 1)
    return 0.5 + spent if over else spent / 2
