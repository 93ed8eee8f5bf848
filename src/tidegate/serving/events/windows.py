"""Counts of what each variant of one endpoint did, while one snapshot is in force.

The event loop only appends to lists. A list that is full, and all of them once a second, are folded into counts by
numpy; a window is what was folded since the one before. Appending and taking a list's beginning are each one step of
the interpreter, so that nothing is lost or counted twice between the threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from tidegate.metrics import BINS, BINS_PER_DECADE, LOWEST
from tidegate.observations import VariantWindow
from tidegate.serving.events.outputs import count_outputs
from tidegate.types import Array, Variant

FULL = 512
"""Entries that are folded at once: few enough not to delay the requests beside them, about 0.1 ms."""
MOST_UNITS = 10_000
"""Failing units of one window that are told apart; after them each failure counts."""
FAILURES = frozenset({"failed", "timeout", "breaker_open"})
FORCED = "forced"


class Note(msgspec.Struct, frozen=True, gc=False):
    """What is not a plain answer of the variant that was chosen. Without ``seconds`` nobody got an answer."""

    kind: str
    seconds: float | None = None
    unit: str = ""
    predictions: Any = None
    """As ``outputs.predicted`` gives them."""


class Counts(msgspec.Struct, frozen=True):
    """What a variant did in one window, as the fields of ``VariantWindow``."""

    requests: int
    unitless: int
    forced: int
    failures: int
    outcomes: dict[str, int]
    latency: dict[int, int]
    outputs: dict[str, int]


class VariantCounts:
    """One variant's counts. ``answers`` are (seconds until the answer, what was predicted, unit); they and ``notes``
    are appended to by the event loop alone, and folded under a lock for which the event loop never waits."""

    def __init__(self, labels: Sequence[str] = ()) -> None:
        self.answers: list[tuple[float, Any, str]] = []
        self.notes: list[Note] = []
        self._labels = labels
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._requests = self._forced = self._failures = self._unitless = 0
        self._outcomes: dict[str, int] = {}
        self._latency: Array | None = None
        self._outputs: dict[str, int] = {}
        self._units: set[str] = set()

    def note(self, note: Note) -> None:
        self.notes.append(note)
        if len(self.notes) >= FULL:
            self.fold()

    def fold(self) -> None:
        """Folds what is waiting, unless the other thread does so just now."""
        if self._lock.acquire(blocking=False):
            try:
                self._fold()
            finally:
                self._lock.release()

    def take(self) -> Counts | None:
        """What came since the last call; None when nothing did."""
        if not (self.answers or self.notes or self._requests or self._forced):
            return None
        with self._lock:
            self._fold()
            latency = {} if self._latency is None else _sparse(self._latency)
            counts = Counts(
                self._requests,
                self._unitless,
                self._forced,
                self._failures,
                self._outcomes,
                latency,
                self._outputs,
            )
            self._clear()
        return counts

    def _fold(self) -> None:
        seconds: list[float] = []
        predictions: list[Any] = []
        if self.answers:
            answers = taken_of(self.answers)
            self._count("ok", len(answers))
            seconds += [waited for waited, _, _ in answers]
            predictions += [rows for _, rows, _ in answers]
            self._unitless += [unit for _, _, unit in answers].count("")
        if self.notes:
            for note in taken_of(self.notes):
                self._add(note)
                if note.kind == FORCED:
                    continue
                if note.seconds is not None:
                    seconds.append(note.seconds)
                predictions.append(note.predictions)
        if seconds:
            counts = np.bincount(bins_of(np.array(seconds)), minlength=BINS)
            self._latency = counts if self._latency is None else self._latency + counts
        if predictions:
            count_outputs(self._outputs, predictions, self._labels)

    def _count(self, kind: str, number: int) -> None:
        self._requests += number
        self._outcomes[kind] = self._outcomes.get(kind, 0) + number

    def _add(self, note: Note) -> None:
        if note.kind == FORCED:
            self._forced += 1
            return
        self._count(note.kind, 1)
        self._unitless += not note.unit
        if note.kind not in FAILURES:
            return
        if note.unit:
            if note.unit in self._units:
                return
            if len(self._units) < MOST_UNITS:
                self._units.add(note.unit)
        self._failures += 1


def taken_of(entries: list[Any]) -> list[Any]:
    """Takes what is in the list now out of it; what is appended meanwhile stays."""
    number = len(entries)
    taken = entries[:number]
    del entries[:number]
    return taken


def bins_of(seconds: Array) -> Array:
    """``tidegate.metrics.bin_of`` of each number of seconds."""
    places = (np.log10(np.maximum(seconds, LOWEST)) + 5.0) * BINS_PER_DECADE
    bins = np.minimum(places.astype(np.int64) + 1, BINS - 1)
    bins[seconds <= LOWEST] = 0
    return bins


def _sparse(counts: Array) -> dict[int, int]:
    bins = np.flatnonzero(counts)
    return dict(zip(bins.tolist(), counts[bins].tolist(), strict=True))


class Windows:
    """All variants of one endpoint under one snapshot. ``wall`` and ``monotonic`` are seconds now."""

    def __init__(
        self,
        endpoint: str,
        variants: Sequence[Variant],
        snapshot: int,
        labels: Sequence[str],
        wall: float,
        monotonic: float,
    ) -> None:
        self.variants = {variant.name: VariantCounts(labels) for variant in variants}
        self.endpoint = endpoint
        self._snapshot = snapshot
        self._variants = variants
        self._start = wall
        self._since = monotonic

    def take(self, process: str, sequence: Callable[[], int], wall: float, monotonic: float) -> list[VariantWindow]:
        """A window of each variant that did anything since the last call."""
        start, seconds = self._start, monotonic - self._since
        self._start, self._since = wall, monotonic
        rest = 10_000 - sum(variant.share for variant in self._variants[1:])
        windows = []
        for position, variant in enumerate(self._variants):
            counts = self.variants[variant.name].take()
            if counts is None:
                continue
            window = VariantWindow(
                process=process,
                sequence=sequence(),
                endpoint=self.endpoint,
                variant=variant.name,
                version=variant.model.version,
                snapshot=self._snapshot,
                share=rest if position == 0 else variant.share,
                shadow=variant.shadow,
                start=start,
                seconds=seconds,
                requests=counts.requests,
                unitless=counts.unitless,
                forced=counts.forced,
                failures=counts.failures,
                outcomes=counts.outcomes,
                latency=counts.latency,
                outputs=counts.outputs,
            )
            windows.append(window)
        return windows
