"""How many rows are there more than once: the rows with the smallest hashes, each with its number of times.

A row among the smallest of all is among the smallest of every part that it is in, so that the counts are exact, and
parts add up in any grouping. While no row repeats, the share is exactly 0; otherwise it is an estimate from 512 rows.
"""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

MOST = 512
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)


class Repeats(msgspec.Struct, frozen=True, omit_defaults=True):
    hashes: bytes = b""
    """Of at most ``MOST`` rows, 8 bytes each, ascending."""
    times: tuple[int, ...] = ()
    """How often each of them was there; empty when none was there twice."""

    @property
    def distinct(self) -> int:
        return len(self.hashes) // 8

    @property
    def seen(self) -> int:
        """Rows that these hashes stand for."""
        return sum(self.times) if self.times else self.distinct

    @property
    def share(self) -> float:
        """Of the rows that are copies of another: 0 when all differ."""
        return 1 - self.distinct / self.seen if self.hashes else 0.0


def begin(rows: int) -> Hashes:
    return np.zeros(rows, np.uint64)


def mix(hashes: Hashes, bits: Hashes) -> None:
    """Takes one more column into the rows' hashes, in place."""
    hashes ^= bits
    hashes *= _FACTOR
    hashes ^= hashes >> _HALF


def bits_of_numbers(values: NDArray[np.float64]) -> Hashes:
    same: Hashes = (values + 0.0).view(np.uint64)  # minus zero is zero
    same *= _FACTOR
    same ^= same >> _HALF
    return same


def bits_of_texts(found: list[str], places: NDArray[np.intp]) -> Hashes:
    """``places`` of each row in ``found``; negative ones are values that are none."""
    own = [
        int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "little")
        for text in found
    ]
    table: Hashes = np.array([*own, 2, 1], np.uint64)
    return table[places]


def nothing(numbers: bool, rows: int) -> Hashes:
    """Of a column in which every value is missing."""
    if numbers:
        return bits_of_numbers(np.full(rows, np.nan))
    return bits_of_texts([], np.full(rows, -1))


def of(hashes: Hashes) -> Repeats:
    # The last column has been mixed only once.
    last = hashes * _FACTOR
    last ^= last >> _HALF
    kept, times = np.unique(last, return_counts=True)
    return _made(kept[:MOST], times[:MOST])


def merged(one: Repeats, two: Repeats) -> Repeats:
    parts = [(one, _hashes(one)), (two, _hashes(two))]
    kept, places = np.unique(np.concatenate([hashes for _, hashes in parts]), return_inverse=True)
    each = [np.array(part.times or (1,) * part.distinct, np.int64) for part, _ in parts]
    times = np.bincount(places, weights=np.concatenate(each), minlength=len(kept)).astype(np.int64)
    return _made(kept[:MOST], times[:MOST])


def _hashes(one: Repeats) -> Hashes:
    return np.frombuffer(one.hashes, "<u8").astype(np.uint64)


def _made(hashes: Hashes, times: NDArray[np.int64]) -> Repeats:
    repeated = bool((times > 1).any())
    return Repeats(hashes.astype("<u8").tobytes(), tuple(times.tolist()) if repeated else ())
