"""The audit log: every change, in the transaction of the change, chained by hashes.

What ``verify`` finds: a row that was changed, removed, inserted or moved, since its hash, its number or its link to the row
before no longer fits. A tail that was cut, or a log that was written anew from some row on, fits itself: it is found only
against a *head*, the newest number and hash at some time, which is kept outside the store: in ``audit.heads`` beside the
control plane, and in its log. Who can change the store, every such file and every such log line is not found out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from tidegate.storage.records import AuditRow

    class Log(Protocol):
        def append(self, who: str, action: str, target: str, body: str, at: float) -> AuditRow: ...

    class HasAudit(Protocol):
        @property
        def audit(self) -> Log: ...


FIRST = 1
"""Number of the first row; its ``previous`` is empty."""
MASK = "********"
MOST_FAULTS = 100
_SECRET = re.compile(r"secret|passw|(^|_)token$|api_?key$|^key$|credential|csrf", re.IGNORECASE)
_KEY = re.compile(r"tg_[a-z0-9]{8,32}_[A-Za-z0-9_-]{16,}")


class Origin(msgspec.Struct, frozen=True, omit_defaults=True):
    """From where a change came: the caller's address, the id of its key, the request's id."""

    address: str = ""
    key: str = ""
    request_id: str = ""


ORIGIN: ContextVar[Origin | None] = ContextVar("audit_origin", default=None)


@contextmanager
def acting_from(origin: Origin) -> Iterator[None]:
    """Changes recorded inside say that they came from there."""
    token = ORIGIN.set(origin)
    try:
        yield
    finally:
        ORIGIN.reset(token)


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of an audit row. ``before`` and ``after`` hold no secrets."""

    before: Any = None
    after: Any = None
    reason: str = ""
    origin: Origin = Origin()


def record(
    unit: HasAudit,
    who: str,
    action: str,
    target: str,
    *,
    at: float,
    before: Any = None,
    after: Any = None,
    reason: str = "",
) -> AuditRow:
    """Appends in the unit's transaction. ``action`` is ``noun.verb`` (release.pause), ``target`` what it was done to."""
    change = Change(_plain(before), _plain(after), _masked_text(reason), ORIGIN.get() or Origin())
    return unit.audit.append(who, action, target, msgspec.json.encode(change).decode(), at)


def _plain(value: Any) -> Any:
    return None if value is None else without_secrets(msgspec.to_builtins(value, str_keys=True))


def without_secrets(value: Any, name: str = "") -> Any:
    """Plain values with all texts masked whose name says that they are secret, or that have the form of a key."""
    if isinstance(value, Mapping):
        secret = _SECRET.search(name)  # then everything below is
        return {key: without_secrets(below, name if secret else str(key)) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(below, name) for below in value]
    if isinstance(value, str) and value:
        return MASK if _SECRET.search(name) else _masked_text(value)
    return value


def _masked_text(text: str) -> str:
    return _KEY.sub(MASK, text)


class Head(msgspec.Struct, frozen=True):
    """The newest row at some time, as it is kept outside the store."""

    sequence: int
    hash: str

    def __str__(self) -> str:
        return f"{self.sequence}:{self.hash}"


def parse_head(text: str) -> Head:
    """Raises ValueError for what is not ``number:hash``."""
    number, _, kept = text.strip().partition(":")
    if not number.isdigit() or not re.fullmatch(r"[0-9a-f]{64}", kept):
        raise ValueError(
            f"not a head of the audit log: {text[:100]!r}; it is a number, a colon and 64 hexadecimal digits"
        )
    return Head(int(number), kept)


class Fault(msgspec.Struct, frozen=True):
    sequence: int
    what: str


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """``whole`` means: nothing was found. ``heads`` is how many kept heads the rows were held against."""

    whole: bool
    rows: int
    newest: Head | None
    heads: int
    faults: tuple[Fault, ...] = ()


START = Head(FIRST - 1, "")
"""What the first row follows."""


def verify(rows: Iterable[AuditRow], heads: Sequence[Head] = (), after: Head = START) -> Verification:
    """Rows in the order of their numbers, from the one after ``after`` on, as are ``heads``; reads them once and keeps
    none."""
    from tidegate.storage.audit import hash_of

    faults: list[Fault] = []
    wanted: dict[int, set[str]] = {}
    for head in heads:
        wanted.setdefault(head.sequence, set()).add(head.hash)
    seen, expected, previous = 0, after.sequence + 1, after.hash
    newest: Head | None = None
    for row in rows:
        seen += 1
        if row.sequence != expected:
            gap = f"rows {expected} to {row.sequence - 1} are missing" if row.sequence > expected else "out of order"
            faults.append(Fault(row.sequence, gap))
        elif row.previous != previous:
            faults.append(Fault(row.sequence, "does not follow the row before it: one was changed, moved or inserted"))
        if hash_of(row) != row.hash:
            faults.append(Fault(row.sequence, "was changed: its hash does not fit"))
        kept = wanted.pop(row.sequence, None)
        if kept is not None and kept != {row.hash}:
            faults.append(Fault(row.sequence, "is not the row that was kept as the head: the log was written anew"))
        expected, previous = row.sequence + 1, row.hash
        newest = Head(row.sequence, row.hash)
        if len(faults) >= MOST_FAULTS:
            break
    else:
        faults += [Fault(number, "was the newest row once and is gone: the tail was cut") for number in sorted(wanted)]
    return Verification(whole=not faults, rows=seen, newest=newest, heads=len(heads), faults=tuple(faults))
