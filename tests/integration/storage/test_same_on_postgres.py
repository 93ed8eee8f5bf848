"""The tests of every repository, run again on PostgreSQL: the fixture ``store`` is another one here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.storage import (
    test_audit,
    test_events,
    test_experiments,
    test_exposures,
    test_feedback,
    test_instances,
    test_jobs,
    test_keys,
    test_leases,
    test_listener,
    test_monitors,
    test_once,
    test_paging,
    test_releases,
    test_retention,
    test_sessions,
    test_snapshots,
    test_units,
    test_windows,
)

pytestmark = pytest.mark.slow

MODULES = (
    test_audit, test_events, test_experiments, test_exposures, test_feedback, test_instances, test_jobs, test_keys, test_leases,
    test_listener, test_monitors, test_once, test_paging, test_releases, test_retention, test_sessions, test_snapshots, test_units,
    test_windows,
)  # fmt: skip

OF_SQLITE = {
    "test_outcomes_are_not_sought_in_all_events_for_each_exposure",
    "test_labels_are_not_sought_in_all_events",
    "test_labels_that_came_are_not_sought_in_all_events",
}
"""They read the plan that SQLite makes without statistics; PostgreSQL chooses by the size of the tables."""

globals().update(
    {
        f"{name}__{module.__name__.rpartition('.test_')[2]}": test
        for module in MODULES
        for name, test in vars(module).items()
        if name.startswith("test_") and name not in OF_SQLITE
    }
)


def test_all_of_them_are_here() -> None:
    only_here = {"test_engines", "test_faults", "test_page"}
    there = {path.stem for path in Path(test_units.__file__).parent.glob("test_*.py")}
    assert there == {module.__name__.rpartition(".")[2] for module in MODULES} | only_here
