"""Experiments and their reports."""

from __future__ import annotations

import builtins

from sqlalchemy import delete, select

from tidegate.errors import Conflict
from tidegate.storage.base import Repository
from tidegate.storage.paging import page
from tidegate.storage.records import ExperimentRow, ReportRow
from tidegate.storage.tables import experiment_reports, experiments

ENDED = ("stopped", "failed")


class Experiments(Repository):
    def add(self, row: ExperimentRow) -> None:
        """Raises Conflict when there is one of this name."""
        self._add(experiments, row, Conflict(f"there is an experiment {row.name} already"))

    def save(self, row: ExperimentRow, expected: int) -> None:
        """Raises LostRace when the stored revision is not ``expected``."""
        self._save(experiments, row, expected, "experiment")

    def get(self, name: str) -> ExperimentRow | None:
        return self._row(ExperimentRow, select(experiments).where(experiments.c.name == name))

    def list(
        self,
        limit: int = 50,
        cursor: str | None = None,
        open: bool = False,  # noqa: A002
    ) -> builtins.list[ExperimentRow]:
        """Newest first; ``cursor`` is the name of the last row of the page before. With ``open`` only those that have not
        ended."""
        query = select(experiments)
        if open:
            query = query.where(experiments.c.state.not_in(ENDED))
        return self._rows(ExperimentRow, page(query, experiments, limit, cursor))

    def add_report(self, name: str, time: float, body: str) -> None:
        """One for each moment; a second one of the same moment replaces it."""
        query = self._insert(experiment_reports).values(experiment=name, time=time, body=body)
        self._connection.execute(
            query.on_conflict_do_update(index_elements=["experiment", "time"], set_={"body": query.excluded.body})
        )

    def newest_reports(self, name: str, limit: int) -> builtins.list[float]:
        """Their times, newest first."""
        query = select(experiment_reports.c.time).where(experiment_reports.c.experiment == name)
        return [*self._connection.execute(query.order_by(experiment_reports.c.time.desc()).limit(limit)).scalars()]

    def drop_report(self, name: str, time: float) -> None:
        self._connection.execute(
            delete(experiment_reports).where(experiment_reports.c.experiment == name, experiment_reports.c.time == time)
        )

    def reports(self, name: str, after: float = 0.0, limit: int = 10_000) -> builtins.list[ReportRow]:
        """In the order of time."""
        query = select(experiment_reports).where(experiment_reports.c.experiment == name)
        later = query.where(experiment_reports.c.time > after)
        return self._rows(ReportRow, later.order_by(experiment_reports.c.time).limit(limit))
