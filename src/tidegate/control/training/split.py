"""Which rows are trained on and which are held out; no row, and no unit, is on both sides.

A random split goes by a digest of the row's features (or its unit), the seed and nothing else: a row that was held out
when the champion was trained is held out again for its challenger, however much the table has grown. So neither was
trained on what they are compared on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tidegate.control.training.config import TrainingConfig
from tidegate.control.training.sources import lines_of
from tidegate.errors import UserError
from tidegate.observations import label_of

if TYPE_CHECKING:
    import pandas

_WHOLE = float(1 << 64)


class Halves(msgspec.Struct, frozen=True, kw_only=True):
    """Two tables with the columns of the data. ``excluded``: rows of neither, since their unit is held out."""

    train: Any
    test: Any
    excluded: int = 0
    since: float = 0.0
    """Time of the oldest row that is held out, for a split by time."""


def split(frame: pandas.DataFrame, features: Sequence[str], config: TrainingConfig) -> Halves:
    """Rows come in an order that their content gives, not the source's. Raises UserError for a half without rows."""
    frame = ordered(frame)
    if config.split.by == "time":
        halves = by_time(frame, features, config.split.time, config.split.unit, config.split.test)
    else:
        keys = keys_of(frame, features, config.split.unit)
        held = np.array([place(key, config.seed) < config.split.test for key in keys])
        halves = Halves(train=frame[~held], test=frame[held])
    refuse_small(halves, config)
    return halves


def by_time(frame: pandas.DataFrame, features: Sequence[str], time: str, unit: str, share: float) -> Halves:
    """The newest rows are held out: all from the time on at which the newest ``share`` begins. What is the same row, or of
    the same unit, is not trained on."""
    times = frame[time].to_numpy(float)
    since = float(np.sort(times)[len(times) - max(round(share * len(times)), 1)])
    held = times >= since
    keys = np.array(keys_of(frame, features, unit), object)
    known = set(keys[held])
    excluded = ~held & np.array([key in known for key in keys])
    return Halves(train=frame[~held & ~excluded], test=frame[held], excluded=int(excluded.sum()), since=since)


def ordered(frame: pandas.DataFrame) -> pandas.DataFrame:
    """The same order for the same rows, however the source gave them."""
    return frame.iloc[np.argsort(np.array(lines_of(frame), object), kind="stable")]


def keys_of(frame: pandas.DataFrame, features: Sequence[str], unit: str) -> list[str]:
    """Rows with one key belong together: by unit, or else by the features."""
    return [str(value) for value in frame[unit]] if unit else lines_of(frame[list(features)])


def place(key: str, seed: int) -> float:
    """Of a key, in [0, 1); the same for ever."""
    raw = hashlib.sha256(f"{seed}\x1f{key}".encode()).digest()[:8]
    return int.from_bytes(raw, "big") / _WHOLE


def refuse_small(halves: Halves, config: TrainingConfig) -> None:
    train, test = halves.train, halves.test
    for name, half in (("train on", train), ("hold out", test)):
        if half.empty:
            raise UserError(f"split: no rows to {name}, of {len(train) + len(test):,}; change split.test")
    if len(test) < config.gate.min_rows:
        raise UserError(
            f"split: {len(test):,} rows are held out, gate.min_rows asks for {config.gate.min_rows:,}: "
            "raise split.test, or bring more rows"
        )
    if config.task == "classification":
        counts = train[config.target].value_counts()
        folds = config.cross_validation.folds
        if len(counts) < 2:
            raise UserError(f"split: the rows to train on have one class only, {label_of(counts.index[0])}")
        rare = counts[counts < folds]
        if len(rare):
            raise UserError(
                f"split: class {label_of(rare.index[0])} has {int(rare.iloc[0])} rows to train on, cross_validation.folds is "
                f"{folds}: bring more rows of it, or ask for fewer folds"
            )
    elif len(train) < config.cross_validation.folds:
        raise UserError(f"split: {len(train)} rows to train on are fewer than cross_validation.folds")
