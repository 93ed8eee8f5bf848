"""What a model answered, as few kinds: predicted labels, or bins of a number."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, MutableMapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from tidegate.observations import label_of
from tidegate.serving.events.base import storable
from tidegate.types import Array, Signature

OUTPUT_KINDS = 64
"""Most kinds in a window; what comes later is counted as ``OTHER``."""
OTHER = "other"

BINS_PER_DECADE = 16
"""Relative width 10^(1/16) − 1 = 15 %."""
SMALLEST = 1e-6
"""What is nearer to 0 is 0."""
_DECADES = 18
_LARGEST = 10**_DECADES
"""What is beyond is in the last bin anyway, and may be too large for a float."""
_LONGEST = 64


def bin_of(value: float) -> int:
    """Index of the bin of a number: 0 around zero, growing with its logarithm, negative for negative numbers."""
    return int(bins_of(np.array([value], np.float64))[0])


def bins_of(values: Array) -> Array:
    """``bin_of`` of each number."""
    size = np.abs(values.astype(np.float64, copy=False))
    with np.errstate(divide="ignore", invalid="ignore"):
        place = np.floor((np.log10(size) - math.log10(SMALLEST)) * BINS_PER_DECADE) + 1
    place = np.where(size < SMALLEST, 0.0, np.clip(place, 1, _DECADES * BINS_PER_DECADE))
    place = np.where(np.isnan(values), 0.0, place)
    bins: Array = (np.sign(np.nan_to_num(values)) * place).astype(np.int64)
    return bins


@lru_cache(maxsize=4096)
def name_of_bin(index: int) -> str:
    """The bin's range, for people: ``0``, ``178..205`` or ``-205..-178``."""
    if not index:
        return "0"
    low, high = (SMALLEST * 10.0 ** (edge / BINS_PER_DECADE) for edge in (abs(index) - 1, abs(index)))
    return f"{low:.4g}..{high:.4g}" if index > 0 else f"-{high:.4g}..-{low:.4g}"


def output_of(signature: Signature) -> str:
    """Name of the output that is counted: one prediction a row."""
    names = [spec.name for spec in signature.outputs]
    return names[0] if len(names) == 1 else "predictions"


def predicted(array: Array | None) -> Any:
    """Each row's prediction as a plain value, the only one bare; None where there is not one value a row. The array, and
    the batch it may be a part of, need not be kept for it."""
    if array is None:
        return None
    try:
        return array.item()
    except ValueError:
        return array.reshape(-1).tolist() if array.size == len(array) else None


def count_outputs(kinds: MutableMapping[str, int], values: list[Any], labels: Sequence[str]) -> None:
    """Adds what ``predicted`` gave to ``kinds``."""
    types = set(map(type, values))
    if not types.isdisjoint((list, type(None))):
        values = [value for one in values if one is not None for value in (one if type(one) is list else (one,))]
        types = set(map(type, values))
    found = _binned(values) if types == {float} and not labels else _counted(values, labels)
    for kind, count in found:
        if kind in kinds or len(kinds) < OUTPUT_KINDS - 1:
            kinds[kind] = kinds.get(kind, 0) + count
        else:
            kinds[OTHER] = kinds.get(OTHER, 0) + count


def _counted(values: list[Any], labels: Sequence[str]) -> Iterable[tuple[str, int]]:
    """A model may answer with objects of its own, which can do anything when they are compared or written."""
    try:
        return [(_kind_of(value, labels), count) for value, count in Counter(values).items()]
    except Exception:  # noqa: BLE001 - lists and the like cannot be told apart by themselves, but by their text
        return Counter(_shown(value, labels) for value in values).items()


def _shown(value: Any, labels: Sequence[str]) -> str:
    try:
        return _kind_of(value, labels)
    except Exception:  # noqa: BLE001 - as above
        return storable(type(value).__name__[:_LONGEST])


def _kind_of(value: Any, labels: Sequence[str]) -> str:
    """Whole numbers without names are classes while they are small."""
    if not labels and (isinstance(value, float) or (type(value) is int and not -1 <= value < OUTPUT_KINDS)):
        return name_of_bin(bin_of(max(min(value, _LARGEST), -_LARGEST)))
    if isinstance(value, bytes):
        return "bytes"
    return storable(label_of(value, labels)[:_LONGEST])


def _binned(values: list[float]) -> Iterable[tuple[str, int]]:
    found, counts = np.unique(bins_of(np.array(values, np.float64)), return_counts=True)
    return [(name_of_bin(index), count) for index, count in zip(found.tolist(), counts.tolist(), strict=True)]
