"""The bins of one column: frozen for a reference, and counted in for a block of values.

Numbers fall into about a hundred bins that the reference's quantiles give; a value that makes up more than a hundredth of
the rows has a bin of its own. Edges are half-way between two values of the reference, or a hair beside one, so that a
value that went through 32 bits stays in its bin.
"""

from __future__ import annotations

import math
from zlib import crc32

import numpy as np

from tidegate.control.monitoring.blocks import Categories, Floats, Numbers
from tidegate.control.monitoring.columns import LARGEST, MOST_EXAMPLES, Column

BINS = 100
MOST_EXACT = 50
"""Numbers with at most so many values have a bin for each."""
MOST_CATEGORIES = 200
"""Categories with a count of their own, the most frequent ones."""
MOST_REST = 4096
"""Further categories that are known, by a hash of their text; with more, none is called new."""
_LOST = 5e-7
"""Relative; more than a number loses in 32 bits."""
_ADDED = 1e-5
"""More than a sum of a thousand of them loses (a large forest's scores: 4.4e-6); of the value, or of the range where that is
less: times and other numbers far from zero have differences that are small beside them."""


def frozen_numbers(values: Floats) -> Column:
    """An empty reference with its bins. ``values`` may be a sample; what is no number or nearly
    infinite makes no edge."""
    finite = np.sort(values[np.abs(values) <= LARGEST])
    if not len(finite):
        return Column(kind="number", counts=(0,), centers=(0.0,))
    edges = edges_of(finite)
    places = np.searchsorted(edges, finite, side="right")
    sizes = np.bincount(places, minlength=len(edges) + 1)
    with np.errstate(over="ignore"):
        sums = np.bincount(places, weights=finite, minlength=len(edges) + 1)
    ends = np.concatenate(([min(finite[0], *edges[:1])], edges, [max(finite[-1], *edges[-1:])]))
    middles = ends[:-1] / 2 + ends[1:] / 2
    centers = np.where(sizes > 0, sums / np.maximum(sizes, 1), middles)
    centers = np.clip(np.nan_to_num(centers, posinf=LARGEST, neginf=-LARGEST), ends[:-1], ends[1:])
    return Column(
        kind="number", counts=(0,) * (len(edges) + 1), edges=tuple(edges.tolist()), centers=tuple(centers.tolist())
    )


def edges_of(values: Floats) -> Floats:
    """Inner edges for sorted finite ``values``; a bin holds what is at or above its lower edge."""
    distinct = np.unique(values)
    gaps = np.diff(distinct)
    hair = np.maximum(tolerance(distinct, float(distinct[0]), float(distinct[-1])), 1e-300)
    if len(gaps):
        hair = np.minimum(hair, np.concatenate(([np.inf], gaps)) / 3)
        hair = np.minimum(hair, np.concatenate((gaps, [np.inf])) / 3)
    if len(distinct) <= MOST_EXACT:
        return np.unique(np.concatenate((distinct - hair, distinct + hair)))
    ranks = (np.arange(1, BINS) * len(values)) // BINS
    places, times = np.unique(np.searchsorted(distinct, values[ranks]), return_counts=True)
    heavy = places[times > 1]
    light = places[(times == 1) & (places > 0)]
    between = distinct[light - 1] / 2 + distinct[light] / 2
    return np.unique(np.concatenate((between, distinct[heavy] - hair[heavy], distinct[heavy] + hair[heavy])))


def tolerance(values: Floats, low: float, high: float) -> Floats:
    """How far from each value a number is still taken for it; the reference goes from ``low`` to ``high``."""
    sizes = np.abs(values)
    return np.maximum(sizes * _LOST, np.minimum(sizes, high - low) * _ADDED)


def frozen_categories(found: dict[str, int], rows: int) -> Column:
    """An empty reference with its categories. ``found`` holds at most ``MOST_CATEGORIES + MOST_REST`` of them unless it is
    open."""
    ordered = sorted(found, key=lambda text: (-found[text], text))
    known, rest = ordered[:MOST_CATEGORIES], ordered[MOST_CATEGORIES : MOST_CATEGORIES + MOST_REST]
    opened = len(ordered) > MOST_CATEGORIES + MOST_REST
    return Column(
        kind="category",
        counts=(0,) * len(known),
        categories=tuple(known),
        rest=tuple(sorted({hashed(text) for text in rest})),
        open=opened,
        once=0 if opened else sum(1 for count in found.values() if count == 1),
    )


def hashed(text: str) -> int:
    return crc32(text.encode("utf-8", "replace"))


def count_numbers(reference: Column, edges: Floats, block: Numbers) -> Column:
    """One block as a column of a window; ``edges`` are the reference's."""
    values = block.values
    gone = block.missing + block.wrong
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    counts[-1] -= gone  # NaN is beyond every edge
    present = values[~np.isnan(values)] if gone else values
    low = high = None
    mean = m2 = 0.0
    outside = finite = 0
    if len(present):
        lowest, highest = float(present.min()), float(present.max())
        if reference.low is not None and reference.high is not None:
            under, over = tolerance(np.array((reference.low, reference.high)), reference.low, reference.high)
            bottom, top = reference.low - under, reference.high + over
            if lowest < bottom or highest > top:
                outside = int((present < bottom).sum() + (present > top).sum())
        if not (math.isfinite(lowest) and math.isfinite(highest)):
            present = present[np.isfinite(present)]
        if len(present):
            low, high, finite = float(present.min()), float(present.max()), len(present)
            mean, m2 = _moments(present)
    return Column(
        kind="number",
        rows=len(values),
        missing=block.missing,
        wrong=block.wrong,
        counts=tuple(counts.tolist()),
        low=low,
        high=high,
        mean=mean,
        m2=m2,
        finite=finite,
        outside=outside,
    )


def _moments(values: Floats) -> tuple[float, float]:
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(values.mean())
        if not math.isfinite(mean):
            mean = float((values / len(values)).sum())
        apart = values - mean
        m2 = float(np.dot(apart, apart))
    return mean, LARGEST if math.isnan(m2) else min(m2, LARGEST)


def count_categories(reference: Column, known: dict[str, int], rest: frozenset[int], block: Categories) -> Column:
    """One block as a column of a window; ``known`` is the place of each of the reference's categories."""
    counts = [0] * len(reference.categories)
    other = unseen = 0
    new: list[str] = []
    for text, count in block.found.items():
        place = known.get(text)
        if place is not None:
            counts[place] += count
        elif reference.open or hashed(text) in rest:
            other += count
        else:
            unseen += count
            new.append(text)
    return Column(
        kind="category",
        rows=len(block.places),
        missing=block.missing,
        wrong=block.wrong,
        counts=tuple(counts),
        other=other,
        unseen=unseen,
        examples=tuple(sorted(new)[:MOST_EXAMPLES]),
    )
