"""What each key has used, counted over all serving processes of one port: in memory that they share, without locks.

A rate is one time per key, until when its calls are spent (the generic cell rate algorithm); two processes that change it
in the same microsecond may let one call more through. Calls in flight have a cell for each process, which alone writes it,
so that nothing is left of one that died: the next in its place begins with zero.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger("tidegate.keys")

FILE = "keys.bin"
MOST_KEYS = 4096
"""Ever known to one server; more are counted in each process for itself."""

_ID_BYTES = 32
_TIME = struct.Struct("<d")
_COUNT = struct.Struct("<I")


class Meter:
    """``burst`` calls at once, and ``per_minute`` in the long run; times are ``time.monotonic()`` seconds, which all
    processes of a machine share."""

    def __init__(self, memory: memoryview, own: int) -> None:
        self._memory = memory
        self._own = _TIME.size + own * _COUNT.size

    def take(self, per_minute: int, now: float) -> float:
        """Takes one call; 0, or after how many seconds there will be one."""
        interval = 60.0 / per_minute
        (spent,) = _TIME.unpack_from(self._memory)
        spent = max(spent, now) + interval
        over: float = spent - now - 60.0
        if over > 1e-9:
            return over
        _TIME.pack_into(self._memory, 0, spent)
        return 0.0

    @property
    def in_flight(self) -> int:
        return sum(count for (count,) in _COUNT.iter_unpack(self._memory[_TIME.size :]))

    def enter(self) -> None:
        self._add(1)

    def leave(self) -> None:
        self._add(-1)

    def clear(self) -> None:
        """What the process before this one, in the same place, had in flight."""
        _COUNT.pack_into(self._memory, self._own, 0)

    def _add(self, number: int) -> None:
        (count,) = _COUNT.unpack_from(self._memory, self._own)
        _COUNT.pack_into(self._memory, self._own, max(count + number, 0))


class Meters:
    """``folder`` is shared by all ``processes`` of a server; without one, this process counts alone."""

    def __init__(self, folder: Path | None = None, index: int = 0, processes: int = 1, most: int = MOST_KEYS) -> None:
        self._index = index
        self._cells = _TIME.size + max(processes, index + 1) * _COUNT.size
        self._path = None if folder is None else folder / FILE
        self._memory: memoryview | None = None
        self._known: dict[str, Meter] = {}
        self._places: dict[bytes, int] = {}
        self._end = 0
        """Up to here the places were read; all later ones were free then."""
        if self._path is not None:
            self._memory = _shared(self._path, most * (_ID_BYTES + self._cells))
        if self._memory is not None:
            self._read(self._memory)
            for at in self._places.values():
                self._meter(self._memory, at).clear()

    def of(self, key: str) -> Meter:
        """The key's, the same in every process."""
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._find(key.encode()[:_ID_BYTES].ljust(_ID_BYTES, b"\0"))
        return known

    def _find(self, name: bytes) -> Meter:
        memory = self._memory
        if memory is not None and self._path is not None:
            with _locked(self._path):
                self._read(memory)
                if name not in self._places and self._end < len(memory):
                    memory[self._end : self._end + _ID_BYTES] = name
                    self._read(memory)
            if name in self._places:
                return self._meter(memory, self._places[name])
        return Meter(memoryview(bytearray(self._cells)), self._index)

    def _read(self, memory: memoryview) -> None:
        """Which places were taken since the last time."""
        while self._end < len(memory):
            name = bytes(memory[self._end : self._end + _ID_BYTES])
            if not name.strip(b"\0"):
                return
            self._places[name] = self._end
            self._end += _ID_BYTES + self._cells

    def _meter(self, memory: memoryview, at: int) -> Meter:
        return Meter(memory[at + _ID_BYTES : at + _ID_BYTES + self._cells], self._index)


def _shared(path: Path, size: int) -> memoryview | None:
    """None where the disk has no room: answering matters more than counting for all."""
    try:
        with path.open("a+b") as file:
            if file.seek(0, 2) < size:
                if hasattr(os, "posix_fallocate"):  # a write to mapped memory without space would end the process
                    os.posix_fallocate(file.fileno(), 0, size)
                else:
                    file.truncate(size)
            return memoryview(mmap.mmap(file.fileno(), size))
    except OSError as error:
        logger.error("cannot keep %s, limits of keys hold for each process alone: %s", path, error)  # noqa: TRY400
        return None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """So that two processes never give two keys one place; only when a key is seen for the first time."""
    try:
        import fcntl
    except ImportError:  # where there is no fork, there is one process
        yield
        return
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
