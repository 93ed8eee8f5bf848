"""Lists of the console: a page, and where the next one begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from tidegate.control.access.caller import Caller

T = TypeVar("T")
K = TypeVar("K", str, int)

PAGE = 30


def cut(rows: Sequence[T], key_of: Callable[[T], K], most: int = PAGE) -> tuple[Sequence[T], K | None]:
    """Of one row more than a page has, where there is one: the page, and the key of its last row where more follows."""
    shown = rows[:most]
    return shown, key_of(shown[-1]) if len(rows) > most else None


def seen(
    visitor: Caller,
    read: Callable[[int, str | None], Sequence[T]],
    cursor: str | None,
    key_of: Callable[[T], str],
    endpoint_of: Callable[[T], str],
) -> tuple[list[T], str | None]:
    """A page of what the visitor may see, and the cursor of what follows. It may be short, as pages are asked for again every
    few seconds, but none is empty while there is more. ``read`` gives up to so many from behind a key."""
    while True:
        shown, cursor = cut(read(PAGE + 1, cursor), key_of)
        found = [item for item in shown if visitor.facts.reaches(endpoint_of(item))]
        if found or cursor is None:
            return found, cursor
