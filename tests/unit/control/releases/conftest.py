from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.control.releases.plane import Plane


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Plane]]:
    made: list[Plane] = []

    def factory(*given: Any, **named: Any) -> Plane:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Plane(folder, *given, **named))
        return made[-1]

    yield factory
    for plane in made:
        plane.close()


@pytest.fixture
def plane(make: Callable[..., Plane]) -> Plane:
    return make()
