"""Who got which variant of an experiment: on record before the answer, once per unit and process."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tidegate.metrics import Counter
from tidegate.observations import Exposure
from tidegate.serving.events.base import storable
from tidegate.serving.events.spool import Spool

MOST_SEEN = 100_000
"""Units per experiment that are remembered for certain; those of up to twice as many are."""
MOST_EXPERIMENTS = 64

_encode = msgspec.json.Encoder().encode
exposure_of = msgspec.json.Decoder(Exposure).decode
"""Raises msgspec.DecodeError."""


class Exposures:
    """``spool`` is None until an experiment needs it, and where it cannot be made. A unit that cannot be put on record
    is counted under ``refused`` and takes no part."""

    def __init__(self, refused: Counter, wall: Callable[[], float]) -> None:
        self.spool: Spool | None = None
        self._refused = refused
        self._wall = wall
        self._seen: dict[str, tuple[set[str], set[str]]] = {}

    def expose(self, experiment: str, endpoint: str, unit: str, variant: str, request_id: str) -> bool:
        """Whether the unit's first exposure is on record, at the latest now."""
        seen = self._seen.get(experiment)
        if seen is not None and (unit in seen[0] or unit in seen[1]):
            return True
        exposure = Exposure(
            experiment=experiment,
            endpoint=endpoint,
            unit=storable(unit),
            variant=variant,
            time=self._wall(),
            request_id=storable(request_id),
        )
        if self.spool is None or not self.spool.append(_encode(exposure)):
            self._refused.add()
            return False
        self._remember(experiment, unit)
        return True

    def _remember(self, experiment: str, unit: str) -> None:
        """Forgetting is harmless: the store keeps the first of several exposures."""
        seen = self._seen.get(experiment)
        if seen is None or len(seen[0]) >= MOST_SEEN:
            if seen is None and len(self._seen) >= MOST_EXPERIMENTS:
                del self._seen[next(iter(self._seen))]
            seen = self._seen[experiment] = (set(), set() if seen is None else seen[0])
        seen[0].add(unit)
