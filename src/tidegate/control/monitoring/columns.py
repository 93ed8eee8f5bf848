"""One column of a profile: what a reference froze, and counts that add up over any grouping of the rows.

Numbers fall into about a hundred bins that the reference's quantiles give; a value that makes up more than a hundredth of
the rows has a bin of its own. Edges are half-way between two values of the reference, or a hair beside one, so that a
value that went through 32 bits stays in its bin.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from zlib import crc32

import msgspec
import numpy as np
from numpy.typing import NDArray

from tidegate.control.monitoring.records import Kind
from tidegate.observations import label_of

Floats = NDArray[np.float64]

BINS = 100
MOST_EXACT = 50
"""Numbers with at most so many values have a bin for each."""
MOST_CATEGORIES = 200
"""Categories with a count of their own, the most frequent ones."""
MOST_REST = 4096
"""Further categories that are known, by a hash of their text; with more, none is called new."""
MOST_EXAMPLES = 5
LONGEST = 64
"""Characters of a category that are kept."""
_HAIR = 5e-7
"""Relative; more than a number loses in 32 bits."""
LARGEST = 1e300
_MISSING_TYPES = frozenset({"NoneType", "NAType", "NaTType"})


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


class Numbers(msgspec.Struct, frozen=True):
    """A block of a number column: all its values as 64 bits, NaN where one is missing or wrong."""

    values: Floats
    missing: int
    wrong: int


class Categories(msgspec.Struct, frozen=True):
    """A block of a category column: rows by text, and each row's place among them; -1 missing, -2 wrong."""

    found: dict[str, int]
    places: NDArray[np.intp]
    missing: int
    wrong: int


def kind_of(values: Sequence[Any] | NDArray[Any]) -> Kind:
    """Numbers where most of what is there are numbers. True and false are categories."""
    if isinstance(values, np.ndarray) and values.dtype.kind != "O":
        return "number" if values.dtype.kind in "iufMm" else "category"
    types = Counter(map(type, _listed(values)))
    numbers = sum(count for one, count in types.items() if _is_number(one))
    present = sum(count for one, count in types.items() if one.__name__ not in _MISSING_TYPES)
    # A float may be NaN for a missing text; one that is not is seen by its count.
    if numbers < present and float in types:
        numbers -= sum(1 for value in _listed(values) if type(value) is float and value != value)
    return "number" if 2 * numbers > present or present == 0 else "category"


def _is_number(one: type) -> bool:
    return issubclass(one, int | float | np.integer | np.floating) and not issubclass(one, bool)


def numbers_of(values: Sequence[Any] | NDArray[Any]) -> Numbers:
    if isinstance(values, np.ndarray) and values.dtype.kind in "iufb":
        exact = values.astype(np.float64, copy=False)
        missing = int(np.isnan(exact).sum()) if values.dtype.kind == "f" else 0
        return Numbers(exact, missing, 0)
    if isinstance(values, np.ndarray) and values.dtype.kind in "Mm":
        unit = "datetime64[us]" if values.dtype.kind == "M" else "timedelta64[us]"
        gone = np.isnat(values)
        seconds = values.astype(unit).astype(np.int64) / 1e6
        return Numbers(np.where(gone, np.nan, seconds), int(gone.sum()), 0)
    listed = _listed(values)
    if set(map(type, listed)) <= {int, float, bool, type(None)}:
        try:
            exact = np.array(listed, np.float64)
        except OverflowError:
            pass
        else:
            return Numbers(exact, int(np.isnan(exact).sum()), 0)
    exact = np.fromiter(map(_number, listed), np.float64, len(listed))
    missing = sum(map(_is_missing, listed))
    return Numbers(exact, missing, int(np.isnan(exact).sum()) - missing)


def _number(value: Any) -> float:
    if not isinstance(value, int | float | np.integer | np.floating | np.bool_):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _is_missing(value: Any) -> bool:
    return type(value).__name__ in _MISSING_TYPES or (isinstance(value, float | np.floating) and bool(value != value))


def categories_of(values: Sequence[Any] | NDArray[Any]) -> Categories:
    listed = _listed(values)
    if set(map(type, listed)) <= {str}:
        raw: dict[Any, int] = Counter(listed)
        keys: Iterable[Any] = listed
    else:  # 1, 1.0 and True are equal to Python, and their texts are not
        texts = [_category(value) for value in listed]
        raw, keys = Counter(texts), texts
    found: dict[str, int] = {}
    place: dict[Any, int] = {}
    codes: dict[str, int] = {}
    missing, wrong = raw.get(None, 0), raw.get(_WRONG, 0)
    for key, count in raw.items():
        if key is None or key is _WRONG:
            place[key] = -1 if key is None else -2
            continue
        text = shortened(key)
        place[key] = codes.setdefault(text, len(codes))
        found[text] = found.get(text, 0) + count
    return Categories(found, np.fromiter(map(place.__getitem__, keys), np.intp, len(listed)), missing, wrong)


class _Wrong:
    """Of a value that is no category."""


_WRONG = _Wrong()


def _category(value: Any) -> Any:
    """Its text; None where it is missing."""
    if isinstance(value, str):
        return value
    if isinstance(value, np.generic):
        value = value.item()
    if _is_missing(value):
        return None
    if not isinstance(value, bool | int | float):
        return _WRONG
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 256:
        return "huge number"
    return label_of(value)


def shortened(text: str) -> str:
    """At most ``LONGEST`` characters, which JSON can carry."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST - 9]}~{crc32(text.encode('utf-8', 'replace')):08x}"
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _listed(values: Sequence[Any] | NDArray[Any]) -> Sequence[Any]:
    if isinstance(values, np.ndarray):
        listed: list[Any] = values.tolist()
        return listed
    return values


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
    hair = np.maximum(np.abs(distinct) * _HAIR, 1e-300)
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
            bottom = reference.low - abs(reference.low) * _HAIR
            top = reference.high + abs(reference.high) * _HAIR
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
