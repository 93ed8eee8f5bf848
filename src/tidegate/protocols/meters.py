"""What each key has used, counted over all serving processes of one port: in memory that they share, without locks.

A rate is one time per key, until when its calls are spent (the generic cell rate algorithm); two processes that change it
in the same microsecond may let one call more through. Calls in flight have a cell for each process, which alone writes it,
so that nothing is left of one that died: the next in its place begins with zero.
"""

from __future__ import annotations

import contextlib
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

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

    def __init__(self, folder: Path | None = None, index: int = 0, processes: int = 1) -> None:
        self._index = index
        self._cells = _TIME.size + max(processes, index + 1) * _COUNT.size
        self._path = None if folder is None else folder / FILE
        self._memory: memoryview | None = None
        self._known: dict[str, Meter] = {}
        if self._path is not None:
            size = MOST_KEYS * self._size
            with self._path.open("a+b") as file:
                if file.seek(0, 2) < size:
                    file.truncate(size)
                self._memory = memoryview(mmap.mmap(file.fileno(), size))
            for at in self._taken():
                self._meter(at).clear()

    @property
    def _size(self) -> int:
        return _ID_BYTES + self._cells

    def of(self, key: str) -> Meter:
        """The key's, the same in every process."""
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._find(key.encode()[:_ID_BYTES].ljust(_ID_BYTES, b"\0"))
        return known

    def _find(self, name: bytes) -> Meter:
        if self._memory is None or self._path is None:
            return Meter(memoryview(bytearray(self._cells)), self._index)
        with _locked(self._path):
            for at in range(0, len(self._memory), self._size):
                found = bytes(self._memory[at : at + _ID_BYTES])
                if not found.strip(b"\0"):
                    self._memory[at : at + _ID_BYTES] = name
                elif found != name:
                    continue
                return self._meter(at)
        return Meter(memoryview(bytearray(self._cells)), self._index)

    def _meter(self, at: int) -> Meter:
        assert self._memory is not None
        return Meter(self._memory[at + _ID_BYTES : at + self._size], self._index)

    def _taken(self) -> Iterator[int]:
        assert self._memory is not None
        for at in range(0, len(self._memory), self._size):
            if not bytes(self._memory[at : at + _ID_BYTES]).strip(b"\0"):
                return
            yield at


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
