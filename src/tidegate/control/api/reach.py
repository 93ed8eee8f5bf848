"""What the caller's key reaches: one that is for some endpoints finds nothing of the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from tidegate.control.access.caller import Caller
from tidegate.errors import NotFound

T = TypeVar("T")


def one(caller: Caller, kind: str, name: str, get: Callable[[str], T | None], endpoint_of: Callable[[T], str]) -> T:
    """What ``get`` finds under the name. Raises NotFound for what is not there, and in the same words for what the key may
    not see."""
    try:
        found = get(name)
    except NotFound:
        found = None
    if found is None or not caller.facts.reaches(endpoint_of(found)):
        raise NotFound(f"there is no {kind} {name[:80]!r}")
    return found


def some(
    caller: Caller,
    read: Callable[[int, str | None], Sequence[T]],
    count: int,
    cursor: str | None,
    key_of: Callable[[T], str],
    endpoint_of: Callable[[T], str],
) -> list[T]:
    """The next ``count`` that the key may see; fewer only at the end. ``read`` gives up to so many from behind a key."""
    found: list[T] = []
    while len(found) < count:
        more = read(count, cursor)
        found += [item for item in more if caller.facts.reaches(endpoint_of(item))]
        if len(more) < count:
            break
        cursor = key_of(more[-1])
    return found[:count]
