"""The store under test: SQLite here, PostgreSQL where ``tests/integration/storage`` runs the same tests again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.storage.makers import START
from tidegate.clock import ManualClock
from tidegate.storage.store import Store, open_store


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "store.db"
    open_store(f"sqlite:///{path}", migrate=True).close()
    return path


@pytest.fixture
def url(template: Path, tmp_path: Path) -> str:
    """Of a fresh store, migrated."""
    path = tmp_path / "store.db"
    path.write_bytes(template.read_bytes())
    return f"sqlite:///{path}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = open_store(url, ManualClock(START))
    yield opened
    opened.close()
