"""The store as a sink. Its libraries are loaded by the first write, in a thread."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tidegate.observations import Feedback
from tidegate.serving.events.base import Batch

if TYPE_CHECKING:
    from tidegate.storage.store import Store


class StoreSink:
    """Opens the store when it is first needed, and again after it could not be opened."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._store: Store | None = None
        self._opening = threading.Lock()

    def write(self, batch: Batch) -> None:
        with self._open().begin(durable=bool(batch.exposures)) as unit:
            if batch.events:
                unit.events.add(batch.events)
            if batch.exposures:
                unit.exposures.add(batch.exposures)
            if batch.windows:  # last, since their writers stand in line until they commit
                unit.windows.add(batch.windows)

    def feedback(self, rows: Sequence[Feedback]) -> int:
        with self._open().begin() as unit:
            return unit.feedback.add(rows)

    def close(self) -> None:
        with self._opening:
            if self._store is not None:
                self._store.close()
                self._store = None

    def _open(self) -> Store:
        with self._opening:
            if self._store is None:
                from tidegate.storage.store import open_store

                self._store = open_store(self._url)
            return self._store
