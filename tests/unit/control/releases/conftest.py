from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.control.releases.plane import Plane


@pytest.fixture
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Plane]]:
    made: list[Plane] = []

    def factory(*given: Any, **named: Any) -> Plane:
        made.append(Plane(tmp_path_factory.mktemp("plane"), *given, **named))
        return made[-1]

    yield factory
    for plane in made:
        plane.close()


@pytest.fixture
def plane(make: Callable[..., Plane]) -> Plane:
    return make()
