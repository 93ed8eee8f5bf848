"""First part of a look: new predictions are folded into the profiles of their windows, a batch and a transaction at a time.

The profiles are written with the cursor, so that each prediction counts once.
"""

from __future__ import annotations

import math
import statistics
from typing import NamedTuple

from msgspec.structs import replace

from tidegate.clock import Clock
from tidegate.control.monitoring.book import Book, Page
from tidegate.control.monitoring.folding import Folded, fold
from tidegate.control.monitoring.served import Served
from tidegate.control.monitoring.state import MOST_PENDING, MonitorState, OpenWindow, newest_of

BATCH = 1000
"""Events that are read at once."""
FOLD_SECONDS = 5.0
"""Of one look; what remains is read by the next."""


class Read(NamedTuple):
    """``more``: whether it stopped for want of time. ``until``: up to when predictions were read, where some are left; what
    came later is not known to have been silence."""

    page: Page
    more: bool = False
    until: float = math.inf


class Predictions:
    def __init__(self, book: Book, served: Served, clock: Clock) -> None:
        self._book = book
        self._served = served
        self._clock = clock

    def fold(self, page: Page) -> Read:
        book, served = self._book, self._served
        end = self._clock.monotonic() + FOLD_SECONDS
        while True:
            row, state = page
            with book.reading() as unit:
                batch = unit.events.after(row.cursor, book.endpoint, BATCH)
                served.know(unit, {event.snapshot for _, event in batch})
            if not batch:
                return Read(page)
            events = [event for _, event in batch]
            folded = fold(events, book.seconds, served.reference, book.profile, served.is_shadow)
            state = replace(_with(state, folded), compared=served.compared(state.compared))
            with book.writing(durable=False) as unit:
                book.put_profiles(unit, folded.windows)
                page = book.write(unit, row, state, cursor=batch[-1][0])
            if len(batch) < BATCH:
                return Read(page)
            if self._clock.monotonic() >= end:
                return Read(page, more=True, until=statistics.median(event.time for event in events))


def _with(state: MonitorState, folded: Folded) -> MonitorState:
    """What the next look has to know of a batch."""
    counted = dict(state.counted)
    for start, rows in folded.counted.items():
        counted[start] = counted.get(start, 0) + rows
    open_ = {one.key: one for one in state.open}
    for key, profile in folded.windows.items():
        open_[key] = replace(open_.get(key) or OpenWindow(*key, rows=0), rows=profile.rows)
    ordered = sorted(open_.values(), key=lambda one: one.key[::-1])
    return replace(
        state,
        counted=newest_of(counted),
        open=tuple(ordered[-MOST_PENDING:]),
        newest=max(state.newest, folded.newest),
        read=state.read + folded.read,
        forced=state.forced + folded.forced,
        unreadable=state.unreadable + folded.unreadable,
        without=state.without + folded.without,
    )
