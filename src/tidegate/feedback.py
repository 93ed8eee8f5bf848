"""Labels and outcomes as they are sent, on either port: one object or a list of them, made into records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from tidegate.errors import InvalidInput, MalformedBody, NotAllowed, TooLarge
from tidegate.observations import Feedback, label_of

MOST_ROWS = 10_000
"""In one call."""
LONGEST = 256
"""Characters of an id, a unit, a metric, an endpoint or a label."""
_MOST_ERRORS = 20
ROWS_OF_REQUEST = 1_000_000
_FIELDS = ("request_id", "row", "unit", "metric", "value", "label", "time", "endpoint")
LATEST = 1e11
"""Seconds since the epoch; a larger number is meant in milliseconds."""


class _Wrong(Exception):
    def __init__(self, field: str, words: str) -> None:
        super().__init__(words)
        self.field = field


def feedback_of(value: Any, now: float) -> list[Feedback]:
    """``value`` as it was decoded; ``now``: when it came, in seconds since the epoch. Raises MalformedBody, TooLarge, and
    InvalidInput with all places that are wrong, up to a bound."""
    many = isinstance(value, list)
    if not many and not isinstance(value, dict):
        raise MalformedBody("the body must be one object, or a list of objects")
    raw = value if many else [value]
    if not raw:
        raise InvalidInput("the list is empty: send at least one label or outcome")
    if len(raw) > MOST_ROWS:
        raise TooLarge(f"at most {MOST_ROWS} labels and outcomes in one call, got {len(raw)}")
    rows: list[Feedback] = []
    errors: list[dict[str, Any]] = []
    for number, item in enumerate(raw):
        try:
            rows.append(_row(item, now))
        except _Wrong as wrong:
            errors.append({"loc": [*([number] if many else []), *filter(None, [wrong.field])], "msg": str(wrong)})
            if len(errors) == _MOST_ERRORS:
                break
    if errors:
        first = errors[0]
        raise InvalidInput(_where(first["loc"]) + first["msg"], loc=first["loc"], errors=errors)
    return rows


def within(rows: Sequence[Feedback], endpoints: Sequence[str]) -> list[Feedback]:
    """The rows as a key of these endpoints may send them: about one of them; without any, about whatever they like.

    A key may not label what others predicted. Raises NotAllowed and InvalidInput.
    """
    if not endpoints:
        return list(rows)
    for number, row in enumerate(rows):
        if row.endpoint and row.endpoint not in endpoints:
            raise NotAllowed(f"this key may not call the endpoint {row.endpoint[:80]!r}")
        if not row.endpoint and len(endpoints) > 1:
            message = f'row {number}, field "endpoint": is needed, for this key is of {", ".join(sorted(endpoints))}'
            raise InvalidInput(message, loc=(number, "endpoint"))
    return [row if row.endpoint else msgspec.structs.replace(row, endpoint=endpoints[0]) for row in rows]


def _where(loc: list[str | int]) -> str:
    parts = [f"row {place}" if isinstance(place, int) else f'field "{place}"' for place in loc]
    return ", ".join(parts) + ": " if parts else ""


def _row(item: Any, now: float) -> Feedback:
    if not isinstance(item, dict):
        raise _Wrong("", "expected an object")
    unknown = item.keys() - set(_FIELDS)
    if unknown:
        raise _Wrong(min(unknown)[:80], f"is not known; known are {', '.join(_FIELDS)}")
    given: Mapping[str, Any] = {name: value for name, value in item.items() if value is not None}
    texts = {name: _text(name, given[name]) for name in ("request_id", "unit", "metric", "endpoint") if name in given}
    if not texts.get("metric"):
        raise _Wrong("metric", "is needed: the name of what was measured, such as accuracy or converted")
    if not (texts.get("request_id") or texts.get("unit")):
        raise _Wrong("request_id", "is needed, or else unit: whose outcome this is")
    if "row" in given and not texts.get("request_id"):
        raise _Wrong("row", "is one of a request: say its request_id too")
    if ("value" in given) == ("label" in given):
        raise _Wrong("value", "send either value, a number, or label, the true class")
    return Feedback(
        **texts,
        row=_place(given["row"]) if "row" in given else None,
        value=_number(given["value"]) if "value" in given else None,
        label=_label(given["label"]) if "label" in given else None,
        time=_time(given["time"]) if "time" in given else now,
        received=now,
    )


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong(name, f"expected text, got {_show(value)}")
    if len(value) > LONGEST:
        raise _Wrong(name, f"at most {LONGEST} characters, got {len(value)}")
    return value


def _place(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < ROWS_OF_REQUEST:
        raise _Wrong("row", f"expected a whole number from 0, got {_show(value)}")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or abs(value) > 1e300 or not math.isfinite(value):
        raise _Wrong("value", f"expected a number, true or false, got {_show(value)}")
    return float(value)


def _label(value: Any) -> str:
    if not isinstance(value, str | int | float):
        raise _Wrong("label", f"expected text, a number, true or false, got {_show(value)}")
    label = label_of(value)
    if not 0 < len(label) <= LONGEST:
        raise _Wrong("label", f"expected 1 to {LONGEST} characters, got {len(label)}")
    return label


def _time(value: Any) -> float:
    seconds = value
    if isinstance(value, str):
        try:
            seconds = datetime.fromisoformat(value).timestamp()
        except (ValueError, OverflowError, OSError):
            seconds = None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < LATEST:
        raise _Wrong("time", f"expected seconds since 1970 or an ISO 8601 time, got {_show(value)}")
    return float(seconds)


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return f"{value!r:.60}"
