"""Shares of a column then and now, for people: bars of one width instead of the bins of one weight that measures need."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from tidegate.control.monitoring.bins import MOST_EXACT
from tidegate.control.monitoring.columns import Column
from tidegate.control.monitoring.profiles import Profile
from tidegate.errors import NotFound

Floats = NDArray[np.float64]

BARS = 20
MOST_CATEGORIES = 20


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """``then`` and ``now`` are shares of all rows. ``low`` and ``high`` are a number's bounds, None for no bound, and equal
    for a single value; categories and what is missing have none."""

    label: str
    then: float
    now: float
    low: float | None = None
    high: float | None = None


def histogram(reference: Profile, window: Profile | None, column: str) -> tuple[Bar, ...]:
    """Raises NotFound for a column that the reference has not. ``now`` is 0 without a window."""
    then = reference.columns.get(column)
    if then is None:
        raise NotFound(f"the reference has no column {column!r}")
    now = window.columns.get(column) if window is not None else None
    now = now or Column(kind=then.kind, counts=(0,) * len(then.counts))
    bars = _of_numbers(then, now) if then.kind == "number" else _of_categories(then, now)
    for label, before, after in (("missing", then.missing, now.missing), ("wrong type", then.wrong, now.wrong)):
        if before or after:
            bars.append(Bar(label=label, then=_share(before, then.rows), now=_share(after, now.rows)))
    return tuple(bars)


def _share(count: float, rows: int) -> float:
    return count / rows if rows else 0.0


def _scaled(counts: Floats, one: Column) -> Floats:
    """Counts as shares of all rows, also where a part of them was counted."""
    return counts * (_share(one.valid, one.rows) / max(one.binned, 1))


def _of_numbers(then: Column, now: Column) -> list[Bar]:
    edges = np.array(then.edges)
    before, after = _scaled(np.array(then.counts, float), then), _scaled(np.array(now.counts, float), now)
    if not len(edges):  # a reference without a number that is finite
        return [Bar(label="any", then=float(before.sum()), now=float(after.sum()))]
    if len(edges) <= 2 * MOST_EXACT and len(edges) % 2 == 0 and not before[::2].any():
        return _of_values(then, before, after)
    low, high = edges[0], edges[-1]
    cuts = np.linspace(low / 2, high / 2, BARS + 1) * 2  # halves: the way from the least to the largest number is none
    part = _overlap(edges / 2, cuts / 2)
    bars = [Bar(label=f"< {low:.4g}", then=float(before[0]), now=float(after[0]), high=float(low))]
    inner = zip(cuts[:-1], cuts[1:], part @ before[1:-1], part @ after[1:-1], strict=True)
    bars += [
        Bar(label=f"{left:.4g} – {right:.4g}", then=float(b), now=float(a), low=float(left), high=float(right))
        for left, right, b, a in inner
    ]
    return [*bars, Bar(label=f"≥ {high:.4g}", then=float(before[-1]), now=float(after[-1]), low=float(high))]


def _of_values(then: Column, before: Floats, after: Floats) -> list[Bar]:
    """A bar for each value of the reference, and where there is something between them, one for that."""
    bars = []
    for place, center in enumerate(then.centers):
        if place % 2:
            bars.append(
                Bar(label=f"{center:.6g}", then=float(before[place]), now=float(after[place]), low=center, high=center)
            )
        elif after[place] > 0:
            left = then.edges[place - 1] if place else None
            right = then.edges[place] if place < len(then.edges) else None
            bars.append(Bar(label=_between(left, right), then=0.0, now=float(after[place]), low=left, high=right))
    return bars


def _between(left: float | None, right: float | None) -> str:
    if left is None:
        return "lower" if right is None else f"< {right:.6g}"
    return f"> {left:.6g}" if right is None else f"{left:.6g} – {right:.6g}"


def _overlap(edges: Floats, cuts: Floats) -> Floats:
    """Part of each bin between two edges that lies in each bar, (bars, bins)."""
    left = np.maximum(cuts[:-1, None], edges[None, :-1])
    right = np.minimum(cuts[1:, None], edges[None, 1:])
    return np.asarray(np.maximum(right - left, 0) / np.diff(edges))


def _of_categories(then: Column, now: Column) -> list[Bar]:
    """The most frequent then or now; all others together."""
    before, after = _scaled(np.array(then.counts, float), then), _scaled(np.array(now.counts, float), now)
    order = sorted(range(len(before)), key=lambda place: -max(before[place], after[place]))
    shown = sorted(order[:MOST_CATEGORIES])
    bars = [Bar(label=then.categories[p], then=float(before[p]), now=float(after[p])) for p in shown]
    rest = order[MOST_CATEGORIES:]
    others = (
        float(before[rest].sum()) + _share(then.other, then.rows),
        float(after[rest].sum()) + _share(now.other, now.rows),
    )
    if any(others):
        bars.append(Bar(label="other", then=others[0], now=others[1]))
    if now.unseen:
        bars.append(Bar(label="new", then=0.0, now=_share(now.unseen, now.rows)))
    return bars
