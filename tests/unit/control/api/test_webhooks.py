from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.unit.control.api.plane import SETTINGS, Plane, control_plane
from tests.unit.control.api.webhook import SECRET, alias_moved, signed
from tidegate.errors import StoreAway
from tidegate.settings import Registry

URL = "/api/v1/webhooks/mlflow"


class Told:
    """What the release service was told, and what it does about it."""

    def __init__(self) -> None:
        self.moves: list[tuple[str, str, str, str]] = []
        self.error: Exception | None = None

    def __call__(self, name: str, version: str, origin: str, alias: str = "champion") -> tuple[Any, ...]:
        if self.error is not None:
            raise self.error
        self.moves.append((name, version, origin, alias))
        return ()


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    settings = msgspec.structs.replace(SETTINGS, registry=Registry(webhook_secret=SECRET))
    with control_plane(tmp_path, settings) as made:
        yield made


@pytest.fixture
def told(plane: Plane) -> Told:
    made = Told()
    plane.services.releases.alias_moved = made  # type: ignore[method-assign]
    return made


def test_a_champion_that_moved_is_told(plane: Plane, told: Told) -> None:
    """A registry's webhooks reach no server by themselves (MLflow); here a signed one starts a release."""
    body = alias_moved()
    answer = plane.client.post(URL, content=body, headers=signed(body, plane.clock.wall()))
    assert answer.json() == {"event": "AliasMoved", "releases": []}
    assert told.moves == [("iris", "4", "webhook mlflow:d-1", "champion")]


def test_what_concerns_no_release_is_taken_and_left(plane: Plane, told: Told) -> None:
    for number, body in enumerate((alias_moved(alias="shadow"), b'{"entity":"prompt","action":"created","data":{}}')):
        answer = plane.client.post(URL, content=body, headers=signed(body, plane.clock.wall(), f"d-{number}"))
        assert answer.status_code == 202
    assert not told.moves


def test_a_delivery_that_failed_may_come_again(plane: Plane, told: Told) -> None:
    told.error = StoreAway("away", 3.0)
    body = alias_moved()
    headers = signed(body, plane.clock.wall())
    answer = plane.client.post(URL, content=body, headers=headers)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
    told.error = None
    assert plane.client.post(URL, content=body, headers=headers).status_code == 202
    assert plane.client.post(URL, content=body, headers=headers).status_code == 409


def test_without_a_secret_webhooks_are_off(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with control_plane(tmp_path / "other") as plane:
        body = alias_moved()
        answer = plane.client.post(URL, content=body, headers=signed(body, plane.clock.wall()))
        assert answer.status_code == 403
        assert "webhook_secret" in answer.json()["detail"]


def test_wrong_signatures_slow_an_address_down(plane: Plane, told: Told) -> None:
    body = alias_moved()
    wrong = signed(body, plane.clock.wall(), secret="x")
    statuses = [plane.client.post(URL, content=body, headers=wrong).status_code for _ in range(11)]
    assert statuses == [401] * 10 + [429]
