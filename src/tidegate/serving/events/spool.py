"""A bounded log of records in a mapped file: written in a microsecond, and still there when the process is killed.

The file is a ring. Its head is ``[magic][size of the ring][tail]``, each of 8 bytes; then come records of
``[length: u32][checksum: u32][position: u64][bytes, padded to 8]``. Positions count bytes from the ring's first life on and
never go back, and the checksum covers them: so what is left of an earlier round is no record, and neither is one that
was torn by the end of its writer. A record that does not fit before the ring's end begins at its start.

One process holds a file, by a lock that ends with it; whoever finds one that nobody holds goes on where it ended.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

_MAGIC = int.from_bytes(b"TGSPOOL1", "little")
_START = 64
"""Bytes before the ring: the head, and room for more."""
_HEAD = 16
_LOCKED = 1 << 40
"""The byte that is locked where locks are mandatory: none of the file's."""
_SUFFIX = ".spool"


class Spool:
    """Appended to by one thread, read and shortened by one other. Raises OSError when the file cannot be made or kept."""

    def __init__(self, path: Path, size: int) -> None:
        """``size``: bytes of the ring of a new file; one that exists keeps its own. BlockingIOError when it is held."""
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
        try:
            _lock(self._file)
            if not _is_same(self._file, path):
                raise BlockingIOError(f"{path} was removed by its holder")
            length = os.fstat(self._file).st_size
            if length < _START + 4096:  # new, or its maker did not come far
                length = _START + (max(size, 4096) & ~7)
                _reserve(self._file, length)
            length &= ~7
            self._memory = mmap.mmap(self._file, length)
        except BaseException:
            os.close(self._file)
            raise
        self._numbers = memoryview(self._memory).cast("Q")
        if self._numbers[0] != _MAGIC or self._numbers[1] != length - _START:
            self._memory[: _START + _HEAD] = bytes(_START + _HEAD)
            self._numbers[1] = length - _START
            self._numbers[0] = _MAGIC
        self._size = length - _START
        self._tail = int(self._numbers[2])
        self._end = self._tail
        self._end = self._find_end()

    @property
    def used(self) -> int:
        return self._end - self._tail

    def append(self, record: bytes) -> bool:
        """False when there is no room. Once it returns, the record outlives this process."""
        length, end = len(record), self._end
        total = _HEAD + ((length + 7) & ~7)
        rest = self._size - end % self._size
        if rest < total:
            end += rest  # what is left of this round stays empty
        if end + total - self._tail > self._size:
            return False
        if rest < total:
            self._skip(self._end, rest)
        memory, at = self._memory, _START + end % self._size
        body = end.to_bytes(8, "little") + record
        memory[at + 8 : at + 8 + len(body)] = body
        memory[at : at + 8] = length.to_bytes(4, "little") + crc32(body).to_bytes(4, "little")
        self._end = end + total
        return True

    def _skip(self, end: int, rest: int) -> None:
        """Where no record begins any more in this round, nothing of an earlier one may seem to."""
        at = _START + end % self._size
        self._memory[at : at + min(rest, _HEAD)] = bytes(min(rest, _HEAD))

    def read(self, most: int) -> tuple[list[bytes], int]:
        """Up to ``most`` of the oldest records, and the position behind them, for ``forget``."""
        records: list[bytes] = []
        position, end = self._tail, self._end
        while position < end and len(records) < most:
            found = self._record(position)
            if found is None:
                position += self._size - position % self._size
                continue
            record, position = found
            records.append(record)
        return records, min(position, end)

    def forget(self, position: int) -> None:
        """Frees what is before the position."""
        self._tail = position
        self._numbers[2] = position

    def _record(self, position: int) -> tuple[bytes, int] | None:
        offset = position % self._size
        if self._size - offset < _HEAD:
            return None
        memory, at = self._memory, _START + offset
        length = int.from_bytes(memory[at : at + 4], "little")
        total = _HEAD + ((length + 7) & ~7)
        if not length or total > self._size - offset:
            return None
        body = memory[at + 8 : at + _HEAD + length]
        if int.from_bytes(body[:8], "little") != position or crc32(body) != int.from_bytes(
            memory[at + 4 : at + 8], "little"
        ):
            return None
        return body[8:], position + total

    def _find_end(self) -> int:
        """Behind the last whole record that follows the tail without a gap."""
        position = self._tail
        while position - self._tail < self._size:
            found = self._record(position)
            if found is None:
                found = self._record(position + self._size - position % self._size)
            if found is None:
                return position
            position = found[1]
        return position

    def close(self, *, remove: bool = False) -> None:
        """Lets go of the file; with ``remove``, of an empty one for good."""
        self._numbers.release()
        self._memory.close()
        if remove:
            with contextlib.suppress(OSError):
                self.path.unlink()
        os.close(self._file)


def open_spool(folder: Path, name: str, size: int) -> Spool:
    """A spool of this name that nobody holds, with what is in it, or a new one. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for spool in abandoned(folder, name):
        return spool
    return Spool(folder / f"{name}-{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}", size)


def abandoned(folder: Path, name: str) -> Iterator[Spool]:
    """Each spool of this name whose holder has ended, held by the caller from now on. One that cannot be opened, such as
    another user's, waits for somebody who can."""
    for path in sorted(folder.glob(f"{name}-*{_SUFFIX}")):
        with contextlib.suppress(OSError):  # gone, held, or not ours; none of it may keep us from a spool of our own
            if path.stat().st_size:
                yield Spool(path, 0)


def _is_same(file: int, path: Path) -> bool:
    """Whether the file is still what is found under its name."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _reserve(file: int, length: int) -> None:
    """Space on the disk, or OSError: a write to mapped memory without space ends the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, length)
    else:
        os.truncate(file, length)


if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        os.lseek(file, _LOCKED, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(str(error)) from error
        os.lseek(file, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
