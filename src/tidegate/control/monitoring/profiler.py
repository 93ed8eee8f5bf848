"""A reference out of more rows than fit into memory, in one pass: all are counted, a fair sample of them gives the bins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from tidegate.control.monitoring import blocks
from tidegate.control.monitoring.columns import Column
from tidegate.control.monitoring.profiles import Profile, counted, make_profile, merge
from tidegate.control.monitoring.rows import Table, Values, flat, rows_in
from tidegate.errors import InvalidInput

KEPT = 50_000
"""Rows in memory. Up to so many the profile is that of ``make_profile``; with more, counts by bin are of a sample."""
_STREAM = "stream"


class Profiler:
    """``add`` parts of a table, in any number and size, then take the ``profile``. All parts have the same columns."""

    def __init__(
        self,
        *,
        kinds: Mapping[str, str] | None = None,
        names: Mapping[str, Sequence[str]] | None = None,
        sample: int = 1000,
        seed: int = 0,
        kept: int = KEPT,
    ) -> None:
        self._kinds = dict(kinds or {})
        self._names = {name: tuple(of) for name, of in (names or {}).items()}
        self._sample = sample
        self._seed = seed
        self._most = kept
        self._rng = np.random.default_rng(seed)
        self._kept: dict[str, NDArray[np.object_]] = {}
        self._frame = Profile()
        self._total: Profile | None = None
        self.rows = 0

    def add(self, table: Table) -> None:
        rows = rows_in(table)
        if not rows:
            return
        part = flat(table, self._names)
        if self._total is None:
            self._begin(part)
        elif set(part) != set(self._kept):
            odd = min(set(part) ^ set(self._kept))
            raise InvalidInput(f"column {odd!r} is in some parts of the table and not in others")
        found = msgspec.structs.replace(counted(self._frame, part, rows), reference=_STREAM)
        self._total = found if self._total is None else merge(self._total, found)
        self._keep(part, rows)

    def profile(self) -> Profile:
        kept = make_profile(
            {name: values[: self.rows].tolist() for name, values in self._kept.items()},
            kinds=self._kinds, names=self._names, sample=self._sample, seed=self._seed,
        )  # fmt: skip
        if self._total is None or self.rows <= self._most:
            return kept
        exact = self._total.columns
        return msgspec.structs.replace(
            kept,
            rows=self.rows,
            repeats=self._total.repeats,
            columns={
                name: _completed(column, exact[name]) if name in exact else column
                for name, column in kept.columns.items()
            },
        )

    def _begin(self, part: Mapping[str, Values]) -> None:
        self._kept = {name: np.empty(self._most, object) for name in part}
        self._kinds = {**{name: blocks.kind_of(part[name]) for name in self._numbers(part)}, **self._kinds}
        frame: dict[str, Column] = {}
        for name in part:
            if self._kinds.get(name) == "number":
                frame[name] = Column(kind="number", counts=(0,), centers=(0.0,))
            else:
                frame[name] = Column(kind="category", open=True)
        self._frame = Profile(columns=frame)

    def _numbers(self, part: Mapping[str, Values]) -> list[str]:
        """What is a number in the first part is one in all of them; texts are told from categories at the end."""
        return [name for name, values in part.items() if blocks.kind_of(values) == "number"]

    def _keep(self, part: Mapping[str, Values], rows: int) -> None:
        """Each row of all is kept with the same chance (algorithm R)."""
        numbers = np.arange(self.rows, self.rows + rows)
        places = np.where(numbers < self._most, numbers, self._rng.integers(0, numbers + 1))
        chosen = np.flatnonzero(places < self._most)
        # Of two rows for one place the later one stays, as if they had come one by one.
        last = dict(zip(places[chosen].tolist(), chosen.tolist(), strict=True))
        into, taken = np.array(list(last), np.intp), list(last.values())
        for name, values in part.items():
            picked = np.empty(len(taken), object)
            picked[:] = values[taken].tolist() if isinstance(values, np.ndarray) else [values[row] for row in taken]
            self._kept[name][into] = picked
        self.rows += rows


def _completed(kept: Column, exact: Column) -> Column:
    """Bins and their counts of the sample; the rest of all rows."""
    return msgspec.structs.replace(
        kept, rows=exact.rows, missing=exact.missing, wrong=exact.wrong, low=exact.low, high=exact.high,
        mean=exact.mean, m2=exact.m2, finite=exact.finite,
    )  # fmt: skip
