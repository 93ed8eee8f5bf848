"""One column of a profile: what a reference froze, and counts that add up over any grouping of the rows."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from tidegate.control.monitoring.records import Kind

MOST_EXAMPLES = 5
LARGEST = 1e300
"""Larger sums of squares are kept as this; larger numbers make no edge of a bin."""


class Column(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``edges`` to ``once`` are the reference's alone; a window's counts are by the reference's bins or categories."""

    kind: Kind
    rows: int = 0
    """Values that were looked at, missing and wrong ones included."""
    missing: int = 0
    wrong: int = 0
    """Values of another type: texts among numbers, lists or objects among categories."""
    counts: tuple[int, ...] = ()
    """By bin, one more than edges; or by known category. A reference of many rows may have counted a part of them."""
    low: float | None = None
    high: float | None = None
    """Smallest and largest finite number."""
    mean: float = 0.0
    m2: float = 0.0
    """Sum of squares about the mean, of ``finite`` numbers."""
    finite: int = 0
    outside: int = 0
    """Numbers beyond the reference's ``low`` and ``high``."""
    other: int = 0
    """Known categories without a count of their own."""
    unseen: int = 0
    """Categories that the reference never had."""
    examples: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    centers: tuple[float, ...] = ()
    """Mean of the reference's numbers in each bin."""
    categories: tuple[str, ...] = ()
    rest: tuple[int, ...] = ()
    open: bool = False
    """More categories than can be known: none is called new, and none counts as one that came once."""
    once: int = 0
    """Categories that came once: their share is the chance that the next row's category is new (Good and Turing)."""

    @property
    def valid(self) -> int:
        return self.rows - self.missing - self.wrong

    @property
    def binned(self) -> int:
        """Rows that were counted by bin or category."""
        return sum(self.counts) + self.other + self.unseen

    @property
    def sigma(self) -> float:
        return math.sqrt(self.m2 / (self.finite - 1)) if self.finite > 1 else 0.0


def merged(one: Column, two: Column) -> Column:
    """Both together, with what the first one's reference froze, or else the second one's."""
    counts = tuple(map(int.__add__, one.counts, two.counts)) if one.counts and two.counts else one.counts or two.counts
    finite = one.finite + two.finite
    mean, m2 = one.mean, one.m2
    if not one.finite:
        mean, m2 = two.mean, two.m2
    elif two.finite:
        apart = two.mean - one.mean
        mean = one.mean * (one.finite / finite) + two.mean * (two.finite / finite)
        m2 = min(one.m2 + two.m2 + apart * apart * (one.finite * two.finite / finite), LARGEST)
    frozen = one if one.edges or one.categories or one.centers else two
    return Column(
        kind=one.kind,
        rows=one.rows + two.rows,
        missing=one.missing + two.missing,
        wrong=one.wrong + two.wrong,
        counts=counts,
        low=_least(one.low, two.low, min),
        high=_least(one.high, two.high, max),
        mean=mean,
        m2=m2,
        finite=finite,
        outside=one.outside + two.outside,
        other=one.other + two.other,
        unseen=one.unseen + two.unseen,
        examples=tuple(sorted({*one.examples, *two.examples})[:MOST_EXAMPLES]),
        edges=frozen.edges,
        centers=frozen.centers,
        categories=frozen.categories,
        rest=frozen.rest,
        open=frozen.open,
        once=frozen.once,
    )


def _least(one: float | None, two: float | None, choose: Any) -> float | None:
    if one is None or two is None:
        return two if one is None else one
    return float(choose(one, two))
