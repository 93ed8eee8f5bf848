"""An empty place for a store, on each database."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.databases import create_database, server

__all__ = ["server"]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a store that was never migrated."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return create_database(request.getfixturevalue("server"))
