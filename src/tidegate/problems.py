"""Errors as RFC 9457 problems, in one shape whichever port answers. Statuses and words are each protocol's own table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from tidegate.errors import Refused, RequestError

T = TypeVar("T")

TYPE_BASE = "https://tidegate.dev/errors/"
"""Start of a problem's ``type``; a stable name, not a promise that a page is there."""
LONGEST = 4000
"""Characters of a text."""
AT_LAST_SECONDS = 60.0
"""When to come back to what is refused for ever."""


def nearest(error: BaseException, table: Mapping[type[BaseException], T]) -> T:
    """The entry of the nearest class; what nobody foresaw is BaseException's."""
    return next(table[cls] for cls in type(error).__mro__ if cls in table)


def problem(
    status: int, slug: str, title: str, detail: str, request_id: str, places: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "type": TYPE_BASE + slug,
        "title": title,
        "status": status,
        "detail": bounded(detail),
        "request_id": request_id,
    }
    if places:
        body["errors"] = list(places)
    return body


def bounded(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def places_of(error: BaseException) -> list[dict[str, Any]]:
    """Where in the request it is wrong, as far as that is known."""
    if not isinstance(error, RequestError):
        return []
    if error.errors:
        return list(error.errors)
    return [{"loc": list(error.loc), "msg": str(error)[:LONGEST]}] if error.loc else []


def retry_seconds(error: Refused) -> int:
    """For ``Retry-After``."""
    return max(1, math.ceil(error.retry_after if math.isfinite(error.retry_after) else AT_LAST_SECONDS))
