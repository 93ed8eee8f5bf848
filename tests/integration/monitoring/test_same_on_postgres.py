"""The monitor's tests, again on a real PostgreSQL server: the fixture ``store`` is another one here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import create_database, migrated, server
from tests.unit.control.monitoring import test_service
from tests.unit.control.monitoring.conftest import clock, world
from tidegate.clock import ManualClock
from tidegate.storage.store import Store, open_store

__all__ = ["clock", "migrated", "server", "world"]

pytestmark = pytest.mark.slow

CHOSEN = (
    "test_a_shifted_feature_fires_tells_and_is_resolved",
    "test_rows_are_counted_once_however_often_one_looks",
    "test_late_predictions_go_into_their_own_window_whose_report_is_done_again",
    "test_a_new_version_has_a_baseline_of_its_own",
    "test_a_poisoned_prediction_is_counted_and_passed_over",
    "test_labels_become_quality_and_break_bounds",
    "test_one_of_several_control_planes_looks",
    "test_a_silence_notifies_nobody_until_it_is_over",
    "test_two_looks_at_the_same_moment_count_once",
    "test_two_that_begin_at_the_same_moment_count_once",
    "test_killed_anywhere_nothing_is_lost_or_counted_twice",
)
"""Those in which the database decides."""


@pytest.fixture
def store(server: str, migrated: str, clock: ManualClock, tmp_path: Path) -> Iterator[Store]:
    opened = open_store(create_database(server, migrated), clock)
    yield opened
    opened.close()


globals().update({name: getattr(test_service, name) for name in CHOSEN})
