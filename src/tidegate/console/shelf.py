"""What pages keep in memory from one look to the next."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Shelf(Generic[T]):
    """The ``most`` things used last, each with a lock of its own: who reads one thing waits for no other."""

    def __init__(self, make: Callable[[], T], most: int) -> None:
        self._make = make
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[threading.Lock, T]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    @contextmanager
    def hold(self, key: str) -> Iterator[T]:
        """The thing, made when it is not there; nobody else has it meanwhile."""
        with self._lock:
            lock, kept = self._kept.setdefault(key, (threading.Lock(), self._make()))
            self._kept.move_to_end(key)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        with lock:
            yield kept
