"""Keys, sessions, writing once and the audit log, again on a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.databases import create_database, migrated, server
from tests.unit.control.access import test_audit, test_keys, test_sessions
from tidegate.clock import ManualClock
from tidegate.control.access import audit
from tidegate.control.access.gate import Access
from tidegate.control.access.keys import Keys
from tidegate.control.access.once import Once
from tidegate.errors import Conflict
from tidegate.settings import Control
from tidegate.storage.records import IdempotencyRow
from tidegate.storage.store import Store, open_store

__all__ = ["migrated", "server"]

pytestmark = pytest.mark.slow

ON_FILES = {"test_a_key_is_recognised_and_kept_nowhere", "test_a_session_stands_for_its_key"}
"""They look into the files of SQLite."""
key = test_sessions.key


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def empty(server: str, migrated: str, clock: ManualClock) -> Iterator[Store]:
    made = open_store(create_database(server, migrated), clock)
    yield made
    made.close()


@pytest.fixture
def keys(empty: Store, clock: ManualClock) -> Keys:
    return Keys(empty, clock)


@pytest.fixture
def access(empty: Store, clock: ManualClock, tmp_path: Path) -> Access:
    return Access(empty, Control(session_minutes=60, requests_per_minute=100_000), clock, tmp_path)


@pytest.fixture
def store(empty: Store, request: pytest.FixtureRequest) -> Store:
    """With the rows that the tests of the audit log expect."""
    if "__audit" in request.node.name:
        with empty.begin() as unit:
            for number in range(test_audit.ROWS):
                audit.record(
                    unit,
                    "ada",
                    "release.pause",
                    f"release:{number}",
                    at=float(number),
                    before="ramping",
                    after="paused",
                )
    return empty


globals().update(
    {
        f"{name}__{module.__name__.rpartition('.test_')[2]}": test
        for module in (test_audit, test_keys, test_sessions)
        for name, test in vars(module).items()
        if name.startswith("test_") and name not in ON_FILES
    }
)


def test_of_many_at_once_one_claims_the_key(empty: Store, clock: ManualClock) -> None:
    def claim(number: int) -> IdempotencyRow | str | None:
        try:
            return Once(empty, clock, "k", "ada", "digest").claim()
        except Conflict:
            return "refused"

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(claim, range(16)))
    assert answers.count(None) == 1
    assert answers.count("refused") == 15


def test_changes_at_once_make_one_chain(empty: Store, keys: Keys) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: keys.create(test_keys.USER, who=f"admin {number}"), range(24)))
    assert len({one.key for one in made}) == 24
    with empty.read() as unit:
        found = audit.verify(unit.audit.rows())
    assert found.whole
    assert found.rows == 24
