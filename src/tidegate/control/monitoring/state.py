"""How far the monitor of an endpoint has come: what it keeps between two looks, and what one look leaves for the next."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from tidegate.control.monitoring.records import Basis

logger = logging.getLogger("tidegate.monitoring")

MOST_COUNTED = 200
"""Windows whose rows are remembered, for the check of volume; the newest."""
MOST_PENDING = 10_000
"""Windows that wait to be looked at; the newest."""
NOT_BEGUN = -1
"""Cursor of a monitor that has not read anything yet."""


class WindowKey(NamedTuple):
    """A window of one variant and version, in the bins of one baseline (its digest)."""

    variant: str
    version: str
    baseline: str
    start: float


class OpenWindow(msgspec.Struct, frozen=True):
    """A window whose last word is not said yet. ``checked`` is the rows that the newest check saw, the ``looks``-th."""

    variant: str
    version: str
    baseline: str
    start: float
    rows: int
    checked: int = -1
    looks: int = 0

    @property
    def key(self) -> WindowKey:
        return WindowKey(self.variant, self.version, self.baseline, self.start)


class Compared(msgspec.Struct, frozen=True):
    """What a variant is compared with; ``note`` says why with nothing."""

    variant: str
    version: str
    baseline: str = ""
    digest: str = ""
    note: str = ""
    report: str = ""
    """Id of the newest drift report."""


class MonitorState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    revision: int = 0
    looked: float = 0.0
    """When the last look ended."""
    window: float = 0.0
    """Seconds of a window, as the plan said at the last look."""
    open: tuple[OpenWindow, ...] = ()
    counted: Mapping[str, int] = {}
    """Rows by the start of their window, whatever the variant; forced ones and shadows are not in it."""
    begun: float = 0.0
    """Start of the first window of which all rows were counted."""
    volume: float = 0.0
    """Start of the first window whose volume was not judged yet."""
    labels: float = 0.0
    """Up to when, by the time they came, all labels have been seen."""
    measure: tuple[tuple[Basis, float], ...] = ()
    """Windows, by basis and start, whose quality waits to be measured."""
    compared: tuple[Compared, ...] = ()
    newest: float = 0.0
    """Time of the newest prediction that was read."""
    read: int = 0
    """Rows of all events that were read."""
    forced: int = 0
    """Rows of forced requests, which are left out."""
    unreadable: int = 0
    """Rows of events that could not be read, and were passed over."""
    without: int = 0
    """Rows that there was nothing to compare with."""
    trouble: str = ""
    """Why the last look failed."""


def start_of(time: float, seconds: float) -> float:
    """Of the window that holds ``time``: windows start at the multiples of their length."""
    return math.floor(time / seconds) * seconds


def named(start: float) -> str:
    """A start as a key of JSON, exactly."""
    return repr(float(start))


def newest_of(counted: Mapping[str, int], most: int = MOST_COUNTED) -> dict[str, int]:
    return {name: counted[name] for name in sorted(counted, key=float)[-most:]}


def read_state(body: str) -> MonitorState:
    """A fresh one for what cannot be read: the cursor, which is kept beside it, says how far all is counted."""
    try:
        return msgspec.json.decode(body or "{}", type=MonitorState)
    except msgspec.MsgspecError as error:
        logger.error("what was kept of a monitor cannot be read, and is begun anew: %s", error)  # noqa: TRY400
        return MonitorState()


def write_state(state: MonitorState) -> str:
    return msgspec.json.encode(state).decode()
