"""What every section of the settings is made of: the base class, bounded numbers, durations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

Percent = Annotated[float, Meta(ge=0, le=100)]
Positive = Annotated[int, Meta(ge=1)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(gt=0, le=100)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Alpha = Annotated[float, Meta(gt=0, lt=1)]
Excess = Annotated[float, Meta(gt=0)]
Duration = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$")]
"""A number and its unit, such as 30s or 24h; ``seconds_of`` reads it."""


def help_text(text: str) -> Meta:
    return Meta(description=text)


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every section: immutable, unknown keys are errors."""


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def not_finite(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where a section has an infinite number or none: JSON, as a release's plan is stored, cannot hold them."""
    if isinstance(value, Section):
        for name in value.__struct_fields__:
            yield from not_finite(getattr(value, name), (*place, name))
    elif isinstance(value, tuple):
        for index, one in enumerate(value):
            yield from not_finite(one, (*place, index))
    elif isinstance(value, Mapping):
        for name, one in value.items():
            yield from not_finite(one, (*place, name))
    elif isinstance(value, float) and not math.isfinite(value):
        yield place


def seconds_of(duration: Duration) -> float:
    """Seconds of a text such as 90s, 1.5h or 14d."""
    unit = duration.lstrip("0123456789.")
    return float(duration.removesuffix(unit)) * _UNITS[unit]
