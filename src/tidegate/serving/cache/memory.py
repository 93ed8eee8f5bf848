"""Answers kept in memory: time to live, bound on size, and one run for many equal requests at once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import blake2b
from typing import Literal

import numpy as np

from tidegate.errors import DeadlineExceeded, Refused
from tidegate.serving.batching import Ran
from tidegate.types import Array, Tensors

Result = Literal["hit", "miss", "joined"]
_OVERHEAD = 512
"""Bytes of bookkeeping per entry, beside its arrays."""


def key_of(digest: str, version: str, inputs: Tensors) -> bytes:
    """Model digest, version and inputs; headers, ids and units are not in it."""
    state = blake2b(f"{digest}\0{version}".encode(), digest_size=16)
    for name in sorted(inputs):
        array = inputs[name]
        state.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        if array.dtype.kind == "O":
            for value in array.ravel():
                data = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
                kind = type(value).__name__.encode() + b"\0"
                state.update(kind + len(data).to_bytes(8, "little") + data)
        else:
            state.update(np.ascontiguousarray(array).data)
    return state.digest()


class MemoryCache:
    """Least recently used goes first. Runs on the event loop's thread."""

    def __init__(self, ttl_seconds: float, max_bytes: int, clock: Callable[[], float]) -> None:
        self.bytes = 0
        self._ttl = ttl_seconds
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[float, int, Ran]] = OrderedDict()
        self._running: dict[bytes, asyncio.Task[Ran]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, key: bytes, run: Callable[[], Awaitable[Ran]], patience: float) -> tuple[Ran, Result]:
        """The kept answer, or that of one ``run`` shared by all who ask at once.

        A joiner waits at most ``patience`` seconds (TimeoutError); a caller that leaves does not end the others' run.
        """
        async with asyncio.timeout(patience):
            while True:
                kept = self._kept(key)
                if kept is not None:
                    return kept, "hit"
                task = self._running.get(key)
                if task is None:
                    task = self._running[key] = asyncio.ensure_future(self._fill(key, run))
                    task.add_done_callback(partial(self._settled, key))
                    return await asyncio.shield(task), "miss"
                try:
                    return await asyncio.shield(task), "joined"
                except (Refused, DeadlineExceeded):
                    continue  # that was the first caller's deadline or priority, not ours

    def _kept(self, key: bytes) -> Ran | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        expires, size, ran = entry
        if expires <= self._clock():
            del self._entries[key]
            self.bytes -= size
            return None
        self._entries.move_to_end(key)
        return ran

    async def _fill(self, key: bytes, run: Callable[[], Awaitable[Ran]]) -> Ran:
        try:
            ran = await run()
        finally:
            # Before the task is done: who came upon a run that has failed would ask for it again and again.
            del self._running[key]
        size = _OVERHEAD + sum(_size(array) for array in ran.outputs.values())
        if size <= self._max_bytes:
            # A copy: the arrays may be slices that keep a whole batch alive.
            outputs = {name: array.copy() for name, array in ran.outputs.items()}
            self._entries[key] = (self._clock() + self._ttl, size, ran._replace(outputs=outputs))
            self.bytes += size
            while self.bytes > self._max_bytes:
                _, (_, freed, _) = self._entries.popitem(last=False)
                self.bytes -= freed
        return ran

    def _settled(self, key: bytes, task: asyncio.Task[Ran]) -> None:
        if self._running.get(key) is task:  # cancelled before its first step
            del self._running[key]
        if not task.cancelled():
            task.exception()  # read, so that asyncio does not report it as lost


def _size(array: Array) -> int:
    if array.dtype.kind != "O":
        return int(array.nbytes)
    return sum(64 + len(value) if isinstance(value, str | bytes) else 64 for value in array.ravel())
