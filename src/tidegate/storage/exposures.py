"""Exposures of experiments: the earliest per unit, never sampled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select

from tidegate.observations import Exposure
from tidegate.storage.base import Repository, clean, fields_of
from tidegate.storage.tables import exposures


class Exposures(Repository):
    def add(self, batch: Sequence[Exposure]) -> None:
        """Writing one twice changes nothing; the earliest of a unit stays, in whatever order they come."""
        if not batch:
            return
        query = self._insert(exposures)
        fresh = query.excluded
        query = query.on_conflict_do_update(
            index_elements=["experiment", "unit"],
            set_={name: fresh[name] for name in ("endpoint", "variant", "time", "request_id")},
            where=fresh.time < exposures.c.time,
        )
        earliest: dict[tuple[str, str], dict[str, Any]] = {}
        for one in batch:
            row = fields_of(one) | {"unit": clean(one.unit), "request_id": clean(one.request_id)}
            known = earliest.setdefault((one.experiment, row["unit"]), row)
            if one.time < known["time"]:
                earliest[one.experiment, row["unit"]] = row
        values = [earliest[key] for key in sorted(earliest)]  # all writers in one order: no deadlock
        self._connection.execute(query, values)

    def counts(self, experiment: str) -> dict[str, int]:
        """Units by variant."""
        query = (
            select(exposures.c.variant, func.count())
            .where(exposures.c.experiment == experiment)
            .group_by(exposures.c.variant)
            .order_by(exposures.c.variant)
        )
        return {variant: int(count) for variant, count in self._connection.execute(query)}
