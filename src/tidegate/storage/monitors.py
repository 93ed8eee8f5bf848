"""What monitoring keeps: how far it has come, profiles and quality of windows, and what its checks found."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Select, Table, delete, select

from tidegate.errors import LostRace
from tidegate.storage.base import Repository, fields_of
from tidegate.storage.paging import matching, page
from tidegate.storage.records import DriftReportRow, MonitorRow, PerformanceRow, ProfileRow
from tidegate.storage.tables import drift_reports, monitors, performance, profiles

MOST_WINDOWS = 10_000


class Monitors(Repository):
    def get(self, endpoint: str) -> MonitorRow | None:
        query = select(monitors).where(monitors.c.endpoint == endpoint)
        return self._row(MonitorRow, query.with_for_update() if self._writes else query)

    def all(self) -> list[MonitorRow]:
        return self._rows(MonitorRow, select(monitors).order_by(monitors.c.endpoint))

    def add(self, row: MonitorRow) -> None:
        """Raises LostRace when it is there already."""
        self._add(monitors, row, LostRace(f"the monitor of {row.endpoint} was begun by another at this moment"))

    def put(self, row: MonitorRow) -> None:
        self._put(monitors, row, ("endpoint",))

    def put_profile(self, row: ProfileRow) -> None:
        """Replaces the one of the same window and baseline."""
        self._put(profiles, row, ("endpoint", "variant", "version", "baseline", "start"))

    def profile(self, endpoint: str, variant: str, version: str, baseline: str, start: float) -> ProfileRow | None:
        return self._row(
            ProfileRow,
            select(profiles).where(
                profiles.c.endpoint == endpoint,
                profiles.c.variant == variant,
                profiles.c.version == version,
                profiles.c.baseline == baseline,
                profiles.c.start == start,
            ),
        )

    def profiles(
        self, endpoint: str, since: float, until: float, variant: str | None = None, limit: int = MOST_WINDOWS
    ) -> list[ProfileRow]:
        """Of windows that start in [since, until), in the order of time."""
        query = _between(profiles, endpoint, since, until, variant)
        return self._rows(ProfileRow, query.limit(limit))

    def newest_profile(self, endpoint: str, variant: str, start: float | None = None) -> ProfileRow | None:
        """Of the window that starts at ``start``, the version with the most rows; else of the newest window."""
        table = profiles.c
        query = select(profiles).where(table.endpoint == endpoint, table.variant == variant)
        if start is not None:
            query = query.where(table.start == start)
        return self._row(ProfileRow, query.order_by(table.start.desc(), table.rows.desc()).limit(1))

    def newest_performance(self, endpoint: str, variant: str, version: str, basis: str) -> PerformanceRow | None:
        table = performance.c
        query = select(performance).where(table.endpoint == endpoint, table.variant == variant)
        query = query.where(table.version == version, table.basis == basis)
        return self._row(PerformanceRow, query.order_by(table.start.desc()).limit(1))

    def put_performance(self, row: PerformanceRow) -> None:
        """Replaces the one of the same window and basis."""
        self._put(performance, row, ("endpoint", "variant", "version", "basis", "start"))

    def performance(
        self, endpoint: str, since: float, until: float, variant: str | None = None, limit: int = MOST_WINDOWS
    ) -> list[PerformanceRow]:
        """Of windows that start in [since, until), in the order of time."""
        return self._rows(PerformanceRow, _between(performance, endpoint, since, until, variant).limit(limit))

    def first_performance(self, endpoint: str, version: str, basis: str, limit: int) -> list[PerformanceRow]:
        """Of a version under whatever variant, the oldest first."""
        table = performance.c
        query = select(performance).where(table.endpoint == endpoint, table.version == version, table.basis == basis)
        return self._rows(PerformanceRow, query.order_by(table.start, table.variant).limit(limit))

    def put_report(self, row: DriftReportRow) -> None:
        """Replaces the one of the same id: a window is checked again as its rows come in."""
        self._put(drift_reports, row, ("id",))

    def report(self, id: str) -> DriftReportRow | None:  # noqa: A002
        return self._row(DriftReportRow, select(drift_reports).where(drift_reports.c.id == id))

    def reports_of(self, endpoint: str, variant: str, since: float, until: float, limit: int) -> list[DriftReportRow]:
        """Of windows that start in [since, until), the newest first."""
        table = drift_reports.c
        query = select(drift_reports).where(table.endpoint == endpoint, table.variant == variant)
        query = query.where(table.created >= since, table.start >= since, table.start < until)
        return self._rows(DriftReportRow, query.order_by(table.start.desc(), table.created.desc()).limit(limit))

    def reports(
        self,
        endpoint: str | None = None,
        since: float = 0.0,
        limit: int = 50,
        cursor: str | None = None,
        among: Sequence[str] = (),
    ) -> list[DriftReportRow]:
        """Newest first, with ``among`` of these endpoints; ``cursor`` is the id of the last row of the page before."""
        table = drift_reports.c
        query = select(drift_reports).where(table.created >= since, *matching(drift_reports, endpoint=endpoint))
        if among:
            query = query.where(table.endpoint.in_(among))
        return self._rows(DriftReportRow, page(query, drift_reports, limit, cursor))

    def forget(self, endpoint: str, baseline: str) -> int:
        """Profiles with the bins of a baseline that is gone; how many there were."""
        gone = (profiles.c.endpoint == endpoint) & (profiles.c.baseline == baseline)
        return int(self._connection.execute(delete(profiles).where(gone)).rowcount)

    def _put(
        self, table: Table, row: MonitorRow | ProfileRow | PerformanceRow | DriftReportRow, key: tuple[str, ...]
    ) -> None:
        fields = fields_of(row)
        told = {name: value for name, value in fields.items() if name not in key}
        query = self._insert(table).values(**fields)
        self._connection.execute(query.on_conflict_do_update(index_elements=list(key), set_=told))


def _between(
    table: Table, endpoint: str, since: float, until: float, variant: str | None
) -> Select[tuple[object, ...]]:
    wanted: list[ColumnElement[bool]] = [
        table.c.endpoint == endpoint,
        table.c.start >= since,
        table.c.start < until,
    ]
    if variant is not None:
        wanted.append(table.c.variant == variant)
    return select(table).where(*wanted).order_by(table.c.start, table.c.variant, table.c.version)
