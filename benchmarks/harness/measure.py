"""Alternating rounds and the figures taken from them: a median with its lowest and highest round."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Spread:
    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values), len(values))


@dataclass(frozen=True)
class Effort:
    """How long to measure: ``short`` is what ``make bench`` uses."""

    rounds: int = 5
    seconds: float = 2.0
    warm_up: float = 1.0


def alternate(rounds: int, cases: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
    """Every case once a round, each second round backwards, so that drift of the machine hits all alike."""
    found: dict[str, list[T]] = {name: [] for name in cases}
    names = list(cases)
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            found[name].append(cases[name]())
    return found


def ratio(top: Sequence[float], bottom: Sequence[float]) -> Spread:
    """Ratios are taken round by round, then summed up: both sides saw the same state of the machine."""
    return Spread.of([one / other for one, other in zip(top, bottom, strict=True)])


def difference(one: Sequence[float], other: Sequence[float]) -> Spread:
    return Spread.of([a - b for a, b in zip(one, other, strict=True)])
