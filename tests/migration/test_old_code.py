"""This version's code on the tables of a later one: processes are replaced one after the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.migration import newer
from tests.unit.storage import (
    conftest,
    test_audit,
    test_events,
    test_experiments,
    test_exposures,
    test_feedback,
    test_instances,
    test_keys,
    test_leases,
    test_once,
    test_releases,
    test_retention,
    test_sessions,
    test_snapshots,
    test_windows,
)
from tidegate.storage import engines, schema
from tidegate.storage.schema import Status, status
from tidegate.storage.store import open_store

MODULES = (
    test_audit, test_events, test_experiments, test_exposures, test_feedback, test_instances, test_keys, test_leases,
    test_once, test_releases, test_retention, test_sessions, test_snapshots, test_windows,
)  # fmt: skip

url, store = conftest.url, conftest.store

globals().update(
    {
        f"{name}__{module.__name__.rpartition('.test_')[2]}": test
        for module in MODULES
        for name, test in vars(module).items()
        if name.startswith("test_")
    }
)


def make_newer(url: str, folder: Path) -> None:
    open_store(url, migrate=True).close()
    engine = engines.make(url)
    schema.migrate(engines.writing(engine, durable=True), newer.folders(folder))
    engine.dispose()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the tables of a later version, for ``url``."""
    folder = tmp_path_factory.mktemp("newer")
    make_newer(f"sqlite:///{folder / 'store.db'}", folder)
    return folder / "store.db"


def test_a_newer_store_is_used_and_left_alone(empty: str, tmp_path: Path) -> None:
    make_newer(empty, tmp_path)
    opened = open_store(empty, migrate=True)
    opened.ping()
    with opened.read() as unit:
        assert status(unit.connection) == Status(newer.VERSION, "newer")
    opened.close()
