"""Alerts, and what happened to each."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from sqlalchemy import func, insert, select

from tidegate.errors import LostRace
from tidegate.storage.base import Repository, fields_of, in_parts
from tidegate.storage.paging import matching, page
from tidegate.storage.records import AlertEventRow, AlertRow
from tidegate.storage.tables import alert_events, alerts


class Alerts(Repository):
    def add(self, row: AlertRow, event: AlertEventRow) -> None:
        """Raises LostRace when it is there already."""
        self._add(alerts, row, LostRace(f"alert {row.id} was raised by another"))
        self._connection.execute(insert(alert_events).values(**fields_of(event)))

    def save(self, row: AlertRow, event: AlertEventRow | None, expected: int) -> None:
        """Raises LostRace when the stored revision is not ``expected``."""
        self._save(alerts, row, expected, "alert")
        if event is not None:
            self._connection.execute(insert(alert_events).values(**fields_of(event)))

    def of(self, ids: Sequence[str]) -> builtins.list[AlertRow]:
        """Those that are there."""
        return [
            row for part in in_parts(ids) for row in self._rows(AlertRow, select(alerts).where(alerts.c.id.in_(part)))
        ]

    def firing(self) -> dict[str, int]:
        """Firing alerts by endpoint."""
        query = select(alerts.c.endpoint, func.count()).where(alerts.c.state == "firing").group_by(alerts.c.endpoint)
        return {endpoint: int(count) for endpoint, count in self._connection.execute(query)}

    def get(self, id: str) -> AlertRow | None:  # noqa: A002
        return self._row(AlertRow, select(alerts).where(alerts.c.id == id))

    def list(
        self,
        endpoint: str | None = None,
        states: tuple[str, ...] = (),
        limit: int = 50,
        cursor: str | None = None,
        among: Sequence[str] = (),
    ) -> builtins.list[AlertRow]:
        """Those that changed last first, with ``among`` of these endpoints; ``cursor`` is the id of the last row of the page before."""
        query = select(alerts).where(*matching(alerts, endpoint=endpoint))
        if among:
            query = query.where(alerts.c.endpoint.in_(among))
        if states:
            query = query.where(alerts.c.state.in_(states))
        return self._rows(AlertRow, page(query, alerts, limit, cursor, by="changed"))

    def events(self, id: str, after: int = -1) -> builtins.list[AlertEventRow]:  # noqa: A002
        """Revisions after ``after``, in their order."""
        query = select(alert_events).where(alert_events.c.alert == id, alert_events.c.revision > after)
        return self._rows(AlertEventRow, query.order_by(alert_events.c.revision))
