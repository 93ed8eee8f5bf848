"""Values as drivers and files give them, made into what a column is trained on: numbers, text, or seconds since the epoch.

Databases and Parquet have more types than the schema. A Decimal is a number and a date is a time; bytes, lists and durations
are nothing that can be trained on, and are told apart here.
"""

from __future__ import annotations

import datetime
import ipaddress
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas

_STRANGE: tuple[tuple[tuple[type, ...], str], ...] = (
    ((bytes, bytearray, memoryview), "bytes"),
    ((list, tuple, set, frozenset, np.ndarray), "a list"),
    ((dict,), "an object"),
    ((datetime.timedelta, np.timedelta64), "a duration"),
)
_PLAIN = (
    str, int, float, Decimal, np.bool_, np.integer, np.floating, datetime.date, datetime.time, np.datetime64, uuid.UUID,
    ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network,
)  # fmt: skip
"""Text as what it is written as, where it is no number and no time."""
_UTC = datetime.UTC


def plain(values: pandas.Series[Any]) -> tuple[pandas.Series[Any], pandas.Series[Any]]:
    """The values without what no column can hold, which is None then; and for each row what it held of that, or None."""
    import pandas

    strange = pandas.Series(None, index=values.index, dtype=object)
    zoned = isinstance(values.dtype, pandas.DatetimeTZDtype)
    if values.dtype.kind in "mc" or (pandas.api.types.is_extension_array_dtype(values.dtype) and not zoned):
        values = values.astype(object).where(values.notna(), None)
    if values.dtype != object:
        return values, strange
    there = values[values.notna()]
    told = {kind: _strange(kind, (pandas.Period, pandas.Interval)) for kind in set(map(type, there))}
    if any(told.values()):
        strange[there.index] = there.map(lambda value: told[type(value)] or None)
        values = values.where(strange.isna(), None)
    return values, strange


def _strange(kind: type, more: tuple[type, ...]) -> str:
    for kinds, what in _STRANGE:
        if issubclass(kind, kinds):
            return what
    return "" if issubclass(kind, (*_PLAIN, *more)) else f"a {kind.__name__}"


def are_times(values: pandas.Series[Any]) -> bool:
    """Whether all that are there are dates or times of days, by their type; of text nobody knows."""
    import pandas

    if pandas.api.types.is_datetime64_any_dtype(values):
        return True
    there = values.dropna() if values.dtype == object else values[:0]
    return len(there) > 0 and all(isinstance(value, datetime.date) for value in there)


def numbers(values: pandas.Series[Any]) -> pandas.Series[Any]:
    """NaN for what is none."""
    import pandas

    if are_times(values):  # which pandas takes for a count of whatever unit they have
        return pandas.Series(np.nan, index=values.index)
    if pandas.api.types.is_bool_dtype(values):
        return values.astype(float)
    return pandas.to_numeric(values, errors="coerce").astype(float)


def seconds(values: pandas.Series[Any]) -> pandas.Series[Any]:
    """Since the epoch; numbers are seconds already, times without a zone are in UTC. NaN for what is no time."""
    import pandas

    if pandas.api.types.is_datetime64_any_dtype(values):
        return _since_epoch(values.dt.tz_convert(None) if values.dt.tz is not None else values)
    if are_times(values):
        return values.map(_moment, na_action="ignore").astype(float)
    found = numbers(values)
    if found.notna().any():
        return found
    times = pandas.to_datetime(values, utc=True, errors="coerce", format="mixed" if values.dtype == object else None)
    return _since_epoch(times.dt.tz_convert(None))


def _since_epoch(times: pandas.Series[Any]) -> pandas.Series[Any]:
    """Of any unit: years that nanoseconds do not reach, such as 9999, come from databases."""
    import pandas

    micros = times.to_numpy().astype("datetime64[us]").astype(np.int64)
    return pandas.Series(micros / 1e6, index=times.index).where(times.notna())


def _moment(value: datetime.date) -> float:
    if not isinstance(value, datetime.datetime):
        value = datetime.datetime(value.year, value.month, value.day)
    return (value if value.tzinfo is not None else value.replace(tzinfo=_UTC)).timestamp()


def as_text(value: Any) -> str:
    """The same for one number whatever type it comes in: 2, 2.0 and Decimal("2.00") are "2"."""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, Decimal) and value.is_finite():
        return format(value.normalize() if value % 1 else value.to_integral_value(), "f")
    return value if isinstance(value, str) else str(value)
