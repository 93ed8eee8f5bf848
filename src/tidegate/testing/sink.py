"""A store in memory for observations, which can be away."""

from __future__ import annotations

from collections.abc import Sequence

from tidegate.errors import StoreAway
from tidegate.observations import Exposure, Feedback, PredictionEvent, VariantWindow
from tidegate.serving.events.base import Batch


class MemorySink:
    """Keeps what it is given as the store would. While ``away``, nothing is; ``odd`` is raised instead of keeping a batch
    that has more than one record, or the record ``poison``."""

    def __init__(self) -> None:
        self.away = False
        self.odd: Exception | None = None
        self.poison: VariantWindow | PredictionEvent | Exposure | None = None
        self.writes = 0
        self.closed = False
        self.events: list[PredictionEvent] = []
        self._windows: dict[tuple[str, int, str, str], VariantWindow] = {}
        self._exposures: dict[tuple[str, str], Exposure] = {}
        self._feedback: dict[tuple[str, int | None, str], Feedback] = {}

    @property
    def windows(self) -> list[VariantWindow]:
        return list(self._windows.values())

    @property
    def exposures(self) -> list[Exposure]:
        return list(self._exposures.values())

    @property
    def labels(self) -> list[Feedback]:
        return list(self._feedback.values())

    def write(self, batch: Batch) -> None:
        self._reach()
        records = [*batch.windows, *batch.events, *batch.exposures]
        if self.odd is not None and (len(records) > 1 or records[0] == self.poison):
            raise self.odd
        self.writes += 1
        self.events += batch.events
        for window in batch.windows:
            key = (window.process, window.sequence, window.endpoint, window.variant)
            self._windows.setdefault(key, window)
        for exposure in batch.exposures:
            known = self._exposures.setdefault((exposure.experiment, exposure.unit), exposure)
            if exposure.time < known.time:
                self._exposures[exposure.experiment, exposure.unit] = exposure

    def feedback(self, rows: Sequence[Feedback]) -> int:
        self._reach()
        before = len(self._feedback)
        for row in rows:
            self._feedback.setdefault((row.request_id or row.unit, row.row, row.metric), row)
        return len(self._feedback) - before

    def close(self) -> None:
        self.closed = True

    def _reach(self) -> None:
        if self.away:
            raise StoreAway("the store is away", 1.0)
