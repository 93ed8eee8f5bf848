"""Releases on a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.storage.conftest import database, migrated, server, url
from tests.unit.control.releases.plane import Plane

__all__ = ["database", "migrated", "server", "url"]


@pytest.fixture
def make(url: str, tmp_path: Path) -> Iterator[Callable[..., Plane]]:
    made: list[Plane] = []

    def factory(*given: Any, **named: Any) -> Plane:
        made.append(Plane(tmp_path, *given, **{"url": url, **named}))
        return made[-1]

    yield factory
    for plane in made:
        plane.close()


@pytest.fixture
def plane(make: Callable[..., Plane]) -> Plane:
    return make()
