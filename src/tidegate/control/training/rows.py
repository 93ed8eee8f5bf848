"""Rows as the schema wants them: typed, in range, complete. What is not is set aside, row by row, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tidegate.control.training.config import Column, ColumnType, TrainingConfig
from tidegate.control.training.values import are_times, as_text, numbers, plain, seconds
from tidegate.errors import UserError
from tidegate.observations import label_of

if TYPE_CHECKING:
    import pandas

BOOLEANS: Mapping[str, float] = {
    "true": 1.0, "yes": 1.0, "1": 1.0, "1.0": 1.0, "false": 0.0, "no": 0.0, "0": 0.0, "0.0": 0.0,
}  # fmt: skip
MOST_TOLD = 3
_LONGEST = 80


class Rejected(msgspec.Struct, frozen=True):
    """``row`` counts from 1, without a CSV's header."""

    row: int
    column: str
    reason: str
    value: str


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """``frame``: the features as float64 or text (None where missing), the target, and the columns for the split."""

    frame: Any
    types: Mapping[str, ColumnType]
    features: tuple[str, ...]
    rejected: tuple[Rejected, ...]
    read: int
    duplicates: int
    may_miss: frozenset[str]
    """Features that may have no value."""


def check(frame: pandas.DataFrame, config: TrainingConfig) -> Checked:
    """Raises UserError when columns are missing, or when more rows are bad than the configuration allows."""
    columns = _columns(frame, config)
    bad: dict[str, Any] = {}
    typed: dict[str, Any] = {}
    rejected: list[Rejected] = []
    for name, column in columns.items():
        values, reasons = _typed(frame[name], name, column, is_target=name == config.target)
        typed[name] = values
        bad[name] = reasons.notna()
        rejected += [
            Rejected(int(row), name, str(reasons[row]), _shown(frame[name][row])) for row in frame.index[bad[name]]
        ]
    import pandas

    table = pandas.DataFrame(typed, index=frame.index)
    wrong = np.logical_or.reduce([flags.to_numpy() for flags in bad.values()])
    _refuse_many(rejected, int(wrong.sum()), len(frame), config)
    kept = table[~wrong]
    if kept.empty:
        raise UserError("data: no row is left after checking")
    features = tuple(name for name in columns if name not in config.aside)
    if not features:
        raise UserError("data: no column is left as a feature")
    kept = _with_target(kept, config, columns[config.target].type)
    duplicates = int(kept.duplicated().sum())
    if duplicates > config.checks.max_duplicates * len(kept):
        raise UserError(
            f"data: {duplicates:,} of {len(kept):,} rows are there twice, more than checks.max_duplicates allows"
        )
    return Checked(
        frame=kept,
        types={name: column.type for name, column in columns.items()},
        features=features,
        rejected=tuple(sorted(rejected, key=lambda one: (one.row, one.column))),
        read=len(frame),
        duplicates=duplicates,
        may_miss=frozenset(name for name in features if columns[name].missing > 0 and bool(kept[name].isna().any())),
    )


def _columns(frame: pandas.DataFrame, config: TrainingConfig) -> dict[str, Column]:
    """The columns that are looked at, in the order of the schema, or of the data."""
    there = set(frame.columns)
    extra = [name for name in (config.split.time, config.split.unit) if name]
    if not config.schema:
        wanted = [str(name) for name in frame.columns if name not in config.features.drop]
        found = {name: _inferred(frame[name], is_target=name == config.target) for name in wanted}
    else:
        absent = [name for name, column in config.schema.items() if column.required and name not in there]
        if absent:
            raise UserError(f"data: column {absent[0]!r} is missing; there are: {', '.join(sorted(there)[:30])}")
        found = {
            name: column for name, column in config.schema.items() if name in there and name not in config.features.drop
        }
    for name in (config.target, *extra):
        if name not in there:
            raise UserError(f"data: column {name!r} is missing; there are: {', '.join(sorted(there)[:30])}")
        found.setdefault(name, _inferred(frame[name], is_target=name == config.target))
    if config.split.time:
        found[config.split.time] = Column(type="time")
    if config.split.unit:
        found[config.split.unit] = Column(type="category")
    return found


def _inferred(values: pandas.Series[Any], *, is_target: bool) -> Column:
    """The narrowest type that every value fits."""
    import pandas

    values, _ = plain(values)
    there = values.dropna()
    missing = 0.0 if is_target else 1.0
    if are_times(values):
        return Column(type="time", missing=missing)
    if not pandas.api.types.is_numeric_dtype(values) and not numbers(there).notna().all():
        words = there.astype(str).str.strip().str.lower()
        return Column(type="boolean" if words.isin(list(BOOLEANS)).all() else "category", missing=missing)
    if is_target and bool((numbers(there) % 1 == 0).all()):
        return Column(type="integer", missing=missing)
    return Column(type="number", missing=missing)


def _typed(
    values: pandas.Series[Any], name: str, column: Column, *, is_target: bool
) -> tuple[pandas.Series[Any], pandas.Series[Any]]:
    """The values as they are trained on, and for each row why it is bad, or nothing."""
    import pandas

    values, strange = plain(values)
    reasons = pandas.Series(None, index=values.index, dtype=object)
    absent = strange.isna() & (values.isna() | (values.astype(str).str.strip() == ""))
    if column.type == "category":
        typed = values.astype(object).map(as_text).where(~absent, None)
        if column.categories:
            reasons[~absent & ~typed.isin(column.categories)] = f"is none of: {', '.join(column.categories[:10])}"
    elif column.type == "boolean":
        typed = values.astype(str).str.strip().str.lower().map(dict(BOOLEANS)).where(~absent).astype(float)
        reasons[~absent & typed.isna()] = "is neither true nor false"
    elif column.type == "time":
        typed = seconds(values)
        reasons[~absent & typed.isna()] = "is no time"
        reasons[np.isinf(typed)] = "is infinite"
    else:
        typed = numbers(values)
        reasons[~absent & typed.isna()] = "is no number"
        reasons[np.isinf(typed)] = "is infinite"
        if column.type == "integer":
            reasons[typed.notna() & np.isfinite(typed) & (typed % 1 != 0)] = "is no whole number"
        if column.min is not None:
            reasons[typed < column.min] = f"is less than {column.min:g}"
        if column.max is not None:
            reasons[typed > column.max] = f"is greater than {column.max:g}"
    share = float(absent.mean())
    if is_target or column.missing == 0 or column.type == "time":
        reasons[absent] = "has no value"
    elif share > column.missing:
        raise UserError(
            f"data: column {name!r}: {share:.1%} of the rows have no value, schema.{name}.missing allows "
            f"{column.missing:.1%}"
        )
    return typed, reasons.mask(strange.notna(), strange.map(_nothing_known, na_action="ignore"))


def _nothing_known(what: str) -> str:
    return f"is {what}; a column holds numbers, text, true and false, or times"


def _with_target(table: pandas.DataFrame, config: TrainingConfig, kind: ColumnType) -> pandas.DataFrame:
    """Classes are whole numbers where they can be, else text; what is predicted otherwise is a number."""
    target = table[config.target]
    if kind == "time":
        raise UserError(f"target: {config.target} holds times; predict a number or a class")
    if config.task == "regression":
        if kind == "category":
            raise UserError(f"target: {config.target} holds text; regression predicts numbers")
        return table.assign(**{config.target: target.astype(float)})
    if kind in ("integer", "boolean"):
        target = target.astype(np.int64)
    elif kind == "number":
        if not bool((target % 1 == 0).all()):
            raise UserError(f"target: {config.target} holds fractions; classes are whole numbers or text")
        target = target.astype(np.int64)
    classes = target.nunique()
    if classes < 2:
        raise UserError(
            f"target: {config.target} has one class only, {label_of(target.iloc[0])}; nothing can be learnt"
        )
    if classes > 1000:
        raise UserError(f"target: {config.target} has {classes:,} classes; is it a number? then task: regression")
    return table.assign(**{config.target: target})


def _refuse_many(rejected: list[Rejected], count: int, total: int, config: TrainingConfig) -> None:
    if count <= config.checks.max_bad * total:
        return
    told = "; ".join(
        f"row {one.row}, column {one.column!r}: {one.value!r} {one.reason}" for one in rejected[:MOST_TOLD]
    )
    raise UserError(
        f"data: {count:,} of {total:,} rows break the schema, checks.max_bad allows {config.checks.max_bad:.1%}: {told}"
    )


def _shown(value: Any) -> str:
    import pandas

    text = "" if pandas.api.types.is_scalar(value) and pandas.isna(value) else str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
