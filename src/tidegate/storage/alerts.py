"""Alerts, and what happened to each."""

from __future__ import annotations

import builtins

from sqlalchemy import insert, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from tidegate.errors import LostRace
from tidegate.storage.base import Repository, fields_of
from tidegate.storage.records import AlertEventRow, AlertRow
from tidegate.storage.tables import alert_events, alerts


class Alerts(Repository):
    def add(self, row: AlertRow, event: AlertEventRow) -> None:
        """Raises LostRace when it is there already."""
        try:
            self._connection.execute(insert(alerts).values(**fields_of(row)))
        except IntegrityError as error:
            raise LostRace(f"alert {row.id} was raised by another") from error
        self._connection.execute(insert(alert_events).values(**fields_of(event)))

    def save(self, row: AlertRow, event: AlertEventRow | None, expected: int) -> None:
        """Raises LostRace when the stored revision is not ``expected``."""
        fields = fields_of(row)
        del fields["id"], fields["created"]
        matching = alerts.c.id == row.id, alerts.c.revision == expected
        if self._connection.execute(update(alerts).where(*matching).values(**fields)).rowcount != 1:
            raise LostRace(f"alert {row.id} was changed meanwhile; look again and repeat")
        if event is not None:
            self._connection.execute(insert(alert_events).values(**fields_of(event)))

    def get(self, id: str) -> AlertRow | None:  # noqa: A002
        return self._row(AlertRow, select(alerts).where(alerts.c.id == id))

    def list(
        self,
        endpoint: str | None = None,
        states: tuple[str, ...] = (),
        limit: int = 50,
        cursor: str | None = None,
    ) -> builtins.list[AlertRow]:
        """Those that changed last first; ``cursor`` is the id of the last row of the page before."""
        query = select(alerts).order_by(alerts.c.changed.desc(), alerts.c.id.desc()).limit(limit)
        if endpoint is not None:
            query = query.where(alerts.c.endpoint == endpoint)
        if states:
            query = query.where(alerts.c.state.in_(states))
        if cursor is not None:
            last = select(alerts.c.changed, alerts.c.id).where(alerts.c.id == cursor).scalar_subquery()
            query = query.where(tuple_(alerts.c.changed, alerts.c.id) < last)
        return self._rows(AlertRow, query)

    def events(self, id: str, after: int = -1) -> builtins.list[AlertEventRow]:  # noqa: A002
        """Revisions after ``after``, in their order."""
        query = select(alert_events).where(alert_events.c.alert == id, alert_events.c.revision > after)
        return self._rows(AlertEventRow, query.order_by(alert_events.c.revision))
