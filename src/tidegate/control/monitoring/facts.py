"""What people are told of columns, then and now: means, ranges, frequent categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from tidegate.control.monitoring.columns import Column
from tidegate.control.monitoring.profiles import Profile
from tidegate.control.monitoring.records import ColumnResult, Kind

MOST = 5
"""Categories that are named."""


class ColumnFacts(msgspec.Struct, frozen=True, kw_only=True):
    """``mean`` to ``high`` are of numbers, ``most`` are the most frequent categories with their shares."""

    name: str
    kind: Kind
    rows: int
    missing: int
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    categories: int = 0
    most: Mapping[str, float] = {}


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One column of a window beside its baseline."""

    then: ColumnFacts
    now: ColumnFacts
    result: ColumnResult | None = None
    """None where the window was not checked, or has not the column."""


def facts_of(name: str, column: Column, reference: Column) -> ColumnFacts:
    """``column`` has the reference's bins and categories; it may be the reference itself."""
    number = column.kind == "number"
    frequent = sorted(zip(column.counts, reference.categories, strict=False), key=lambda one: (-one[0], one[1]))
    total = max(column.binned, 1)
    return ColumnFacts(
        name=name,
        kind=column.kind,
        rows=column.rows,
        missing=column.missing,
        mean=column.mean if number and column.finite else None,
        low=column.low if number else None,
        high=column.high if number else None,
        categories=len(reference.categories) + len(reference.rest),
        most={text: count / total for count, text in frequent[:MOST] if count},
    )


def compared(reference: Profile, window: Profile, results: Sequence[ColumnResult]) -> tuple[Compared, ...]:
    """All columns of the reference; those that drifted most first."""
    found = {one.column: one for one in results}
    pairs = [
        Compared(
            then=facts_of(name, then, then),
            now=facts_of(name, window.columns.get(name) or Column(kind=then.kind), then),
            result=found.get(name),
        )
        for name, then in reference.columns.items()
    ]
    return tuple(sorted(pairs, key=lambda one: (-_excess(one.result), one.then.name)))


def _excess(result: ColumnResult | None) -> float:
    if result is None or not result.threshold:
        return 0.0
    return result.statistic / result.threshold + (1000.0 if result.drifted else 0.0)
