"""Windows add up to exactly what happened, however the threads take turns."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate import metrics
from tidegate.observations import VariantWindow
from tidegate.serving.events.windows import (
    FAILURES,
    FORCED,
    FULL,
    MOST_UNITS,
    Note,
    VariantCounts,
    Windows,
    bins_of,
    taken_of,
)
from tidegate.types import ModelRef, Variant

VARIANTS = (
    Variant("baseline", ModelRef("m", version="1")),
    Variant("candidate", ModelRef("m", version="2"), 500),
    Variant("shadow", ModelRef("m", version="3"), shadow=True),
)
KINDS = ["failed", "timeout", "breaker_open", "refused", "gone", "deadline", FORCED]


def added(windows: list[VariantWindow], name: str) -> Counter[object]:
    total: Counter[object] = Counter()
    for window in windows:
        total.update(getattr(window, name))
    return total


STEP = st.one_of(
    st.tuples(st.just("answer"), st.integers(1, 300), st.sampled_from(["", "a"])),
    st.tuples(st.sampled_from(KINDS), st.integers(1, 3), st.sampled_from(["", "a", "b"])),
    st.tuples(st.sampled_from(["fold", "take"]), st.just(0), st.just("")),
)


@settings(derandomize=True, max_examples=150, deadline=None, database=None)
@given(st.lists(STEP, max_size=30))
def test_windows_add_up_to_the_requests_made(steps: list[tuple[str, int, str]]) -> None:
    windows = Windows("e", VARIANTS, 7, (), 0.0, 0.0)
    counts = windows.variants["candidate"]
    taken: list[VariantWindow] = []
    made: Counter[str] = Counter()
    forced = unitless = failures = 0
    failing: set[str] = set()
    sequence = itertools.count(1).__next__

    def take() -> None:
        taken.extend(windows.take("p", sequence, 0.0, 0.0))
        failing.clear()

    for kind, number, unit in steps:
        if kind == "take":
            take()
        elif kind == "fold":
            counts.fold()
        else:
            for _ in range(number):
                if kind == FORCED:
                    forced += 1
                    counts.note(Note(FORCED, unit=unit))
                    continue
                made["ok" if kind == "answer" else kind] += 1
                unitless += not unit
                if kind == "answer":
                    counts.answers.append((0.002, 1, unit))
                    if len(counts.answers) >= FULL:
                        counts.fold()
                else:
                    counts.note(Note(kind, 0.5, unit))
                    if kind in FAILURES:
                        failures += unit not in failing
                        failing |= {unit} - {""}
    take()
    assert added(taken, "outcomes") == made
    assert sum(window.requests for window in taken) == made.total() == added(taken, "latency").total()
    assert sum(window.forced for window in taken) == forced
    assert sum(window.unitless or 0 for window in taken) == unitless
    assert sum(window.failures for window in taken) == failures
    assert added(taken, "outputs") == Counter({"1": made["ok"]} if made["ok"] else {})
    assert [window.sequence for window in taken] == list(range(1, len(taken) + 1))


def test_a_thread_that_takes_loses_nothing_of_one_that_appends() -> None:
    counts, number, taken = VariantCounts(), 60_000, []
    done = threading.Event()

    def take() -> None:
        while not done.is_set():
            taken.append(counts.take())

    taker = threading.Thread(target=take)
    taker.start()
    for index in range(number):
        counts.answers.append((0.001, None, "u" if index % 3 else ""))
        if len(counts.answers) >= FULL:
            counts.fold()
        if index % 5 == 0:
            counts.note(Note("failed"))
    done.set()
    taker.join()
    taken.append(counts.take())
    found = [one for one in taken if one is not None]
    assert sum(one.outcomes.get("ok", 0) for one in found) == number
    assert sum(one.requests for one in found) == number + number // 5
    assert sum(sum(one.latency.values()) for one in found) == number
    assert sum(one.failures for one in found) == number // 5


class Racing(list[int]):
    """Grows while it is read, as when the other thread gets its turn just then."""

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        self.append(99)
        return found


def test_what_is_appended_while_a_list_is_taken_stays_in_it() -> None:
    entries = Racing([1, 2, 3])
    assert taken_of(entries) == [1, 2, 3]
    assert list(entries) == [99]


def test_a_window_says_whose_it_is_and_of_which_time() -> None:
    windows = Windows("e", VARIANTS, 7, (), 100.0, 5.0)
    assert windows.take("p", lambda: 1, 101.0, 6.0) == []
    for name in ("baseline", "candidate", "shadow"):
        windows.variants[name].note(Note("ok", 0.01))
    found = windows.take("p", itertools.count(4).__next__, 90.0, 6.5)  # the wall clock was put back
    assert [(w.variant, w.version, w.share, w.shadow, w.sequence) for w in found] == [
        ("baseline", "1", 9500, False, 4),
        ("candidate", "2", 500, False, 5),
        ("shadow", "3", 0, True, 6),
    ]
    assert {(w.process, w.endpoint, w.snapshot, w.start, w.seconds) for w in found} == {("p", "e", 7, 101.0, 0.5)}


def test_one_clients_retries_are_one_failure_a_window() -> None:
    counts = VariantCounts()
    for unit in ["a"] * 50 + ["b"] + [""] * 3:
        counts.note(Note("failed", None, unit))
    first = counts.take()
    assert first is not None
    assert (first.failures, first.outcomes, first.latency) == (5, {"failed": 54}, {})
    counts.note(Note("timeout", 1.0, "a"))
    second = counts.take()
    assert second is not None
    assert second.failures == 1


def test_units_that_are_told_apart_are_bounded() -> None:
    counts = VariantCounts()
    for number in range(MOST_UNITS + 10):
        counts.note(Note("failed", None, f"{number}"))
        counts.note(Note("failed", None, f"{number}"))
    taken = counts.take()
    assert taken is not None
    assert taken.failures == MOST_UNITS + 20


def test_what_nobody_is_to_blame_for_is_no_failure() -> None:
    counts = VariantCounts()
    for kind in ("refused", "gone", "deadline", "ok", "agree", "differ"):
        counts.note(Note(kind))
    taken = counts.take()
    assert taken is not None
    assert (taken.requests, taken.failures) == (6, 0)


def test_bins_are_those_of_the_metrics() -> None:
    seconds = np.array([0.0, 1e-6, 1e-5, 1.01e-5, 0.00123, 0.5, 1.0, 99.0, 101.0, 1e6, *np.geomspace(2e-5, 90, 997)])
    assert bins_of(seconds).tolist() == pytest.approx([metrics.bin_of(value) for value in seconds.tolist()], abs=0)


def test_nothing_is_kept_of_an_endpoint_that_is_silent() -> None:
    windows = Windows("e", VARIANTS, 1, (), 0.0, 0.0)
    assert windows.take("p", pytest.fail, 1.0, 1.0) == []
