from __future__ import annotations

import itertools
import logging
import threading

import pytest

from tidegate.clock import ManualClock
from tidegate.control.ticks import LONGEST_PAUSE, Step, Ticker
from tidegate.errors import Conflict, StoreAway


class Act:
    """Counts its calls, and raises what it is told to."""

    def __init__(self) -> None:
        self.calls = 0
        self.error: Exception | None = None

    def __call__(self) -> None:
        self.calls += 1
        if self.error is not None:
            raise self.error


def test_a_step_acts_when_it_is_due() -> None:
    act = Act()
    step = Step("releases", 5.0, act)
    for now in (100.0, 101.0, 104.9, 105.0, 106.0):
        step.look(now)
    assert act.calls == 2


def test_a_step_that_fails_is_tried_later_and_later_and_says_it_once(caplog: pytest.LogCaptureFixture) -> None:
    act = Act()
    act.error = StoreAway("the store is away")
    step = Step("releases", 1.0, act)
    tried, now = [], 0.0
    while now < 200:
        before = act.calls
        step.look(now)
        if act.calls > before:
            tried.append(now)
        now += 1.0
    pauses = [after - before for before, after in itertools.pairwise(tried)]
    assert pauses[:4] == [1, 2, 4, 8]
    assert max(pauses) == LONGEST_PAUSE
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert caplog.records[0].exc_info is None
    act.error = None
    step.look(now + LONGEST_PAUSE)
    assert step.trouble == ""


def test_what_nobody_foresaw_is_logged_with_its_trace_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    broken, good = Act(), Act()
    broken.error = ZeroDivisionError("x")
    steps = [Step("broken", 1.0, broken), Step("good", 1.0, good)]
    Ticker(steps, ManualClock(), threading.Event(), 1.0).tick()
    assert good.calls == 1
    assert caplog.records[0].exc_info is not None


def test_a_step_for_once_is_done_when_it_succeeded() -> None:
    act = Act()
    act.error = Conflict("another one was first")
    step = Step("configuration", 1.0, act, once=True)
    step.look(0.0)
    act.error = None
    for now in (1.0, 2.0, 3.0):
        step.look(now)
    assert act.calls == 2


def test_told_to_end_the_step_under_way_is_finished_and_no_other_begins() -> None:
    stopping = threading.Event()
    after = Act()
    steps = [Step("ends", 1.0, stopping.set), Step("after", 1.0, after)]
    Ticker(steps, ManualClock(), stopping, 1.0).run()
    assert after.calls == 0
