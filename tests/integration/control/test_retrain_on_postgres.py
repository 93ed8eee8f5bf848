"""Tests of retrainings once more, on PostgreSQL: those in which the database decides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.control.training import test_retrain
from tests.unit.control.training.test_retrain import World

pytestmark = pytest.mark.slow

CHOSEN = (
    "test_the_whole_way_to_the_promotion",
    "test_an_alert_starts_one_and_is_in_the_chain",
    "test_why_nothing_starts_is_there_to_see",
    "test_one_at_a_time",
    "test_another_release_is_waited_for",
    "test_killed_between_the_release_and_its_record_there_is_one_release",
    "test_cancelling_ends_the_job_too",
    "test_cancelled_while_its_release_began_the_release_goes_back",
    "test_of_two_control_planes_one_looks",
)


@pytest.fixture
def world(url: str, tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, url)
    yield made
    made.store.close()


globals().update({name: getattr(test_retrain, name) for name in CHOSEN})
