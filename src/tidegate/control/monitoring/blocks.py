"""A block of a column's values as they came, made into numbers or categories: what is missing and what is wrong apart."""

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

LONGEST = 64
"""Characters of a category that are kept."""
_MISSING_TYPES = frozenset({"NoneType", "NAType", "NaTType"})


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
