from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import msgspec
import pytest

from tests.unit.control.api.client import Client
from tests.unit.control.api.plane import Plane
from tidegate.control.access.once import Once
from tidegate.control.releases.release import Release
from tidegate.errors import Conflict, StoreAway
from tidegate.storage.store import Store, Unit

URL = "/api/v1/releases"
BODY = {"endpoint": "iris", "model": "models:/iris/4"}


def test_the_same_key_and_body_act_once(plane: Plane) -> None:
    headers = plane.headers() | {"Idempotency-Key": "k1"}
    first = plane.client.post(URL, json=BODY, headers=headers)
    again = plane.client.post(URL, json=BODY, headers=headers)
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotent-replayed"] == "true"
    assert plane.actions().count("release.start") == 1


def test_another_body_is_refused(plane: Plane) -> None:
    headers = plane.headers() | {"Idempotency-Key": "k1"}
    plane.client.post(URL, json=BODY, headers=headers)
    other = plane.client.post(URL, json=BODY | {"reason": "x"}, headers=headers)
    assert other.status_code == 422
    assert plane.actions().count("release.start") == 1


def test_keys_of_different_callers_do_not_meet(plane: Plane) -> None:
    first = plane.client.post(URL, json=BODY, headers=plane.headers() | {"Idempotency-Key": "k1"})
    body = BODY | {"endpoint": "churn"}
    second = plane.client.post(URL, json=body, headers=plane.headers() | {"Idempotency-Key": "k1"})
    assert first.json()["id"] != second.json()["id"]


def test_what_failed_may_be_tried_again(plane: Plane) -> None:
    headers = plane.headers() | {"Idempotency-Key": "k1"}
    release = plane.client.post(URL, json=BODY, headers=plane.headers()).json()["id"]
    assert plane.client.post(URL, json=BODY, headers=headers).status_code == 409  # one is open
    plane.client.post(f"{URL}/{release}/rollback", headers=plane.headers())
    assert plane.client.post(URL, json=BODY, headers=headers).status_code == 201


def test_of_two_at_once_one_wins(plane: Plane) -> None:
    inside, go_on = threading.Event(), threading.Event()
    start = plane.services.releases.start

    def slow(*given: Any, **named: Any) -> Release:
        inside.set()
        assert go_on.wait(20)
        return start(*given, **named)

    plane.services.releases.start = slow  # type: ignore[method-assign]
    headers = plane.headers() | {"Idempotency-Key": "k1"}
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(plane.client.post, URL, json=BODY, headers=headers)
        assert inside.wait(20)
        other = Client(plane.app)
        second = other.post(URL, json=BODY, headers=headers)
        other.close()
        go_on.set()
        assert first.result(20).status_code == 201
    assert second.status_code == 409
    assert "under way" in second.json()["detail"]
    assert plane.actions().count("release.start") == 1


class Leaving:
    """The store until ``away`` is set: then nothing can be written."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.away = False

    def begin(self, durable: bool = True) -> AbstractContextManager[Unit]:
        if self.away:
            raise StoreAway("the store is away")
        return self._store.begin(durable)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_what_was_done_is_not_done_again_when_the_store_leaves_before_the_answer_is_kept(plane: Plane) -> None:
    leaving = Leaving(plane.store)
    start = plane.services.releases.start

    def started_and_gone(*given: Any, **named: Any) -> Release:
        made = start(*given, **named)
        leaving.away = True
        return made

    plane.services.releases.start = started_and_gone  # type: ignore[method-assign]
    plane.app.state.services = msgspec.structs.replace(plane.services, store=leaving)
    headers = plane.headers() | {"Idempotency-Key": "k1"}
    assert plane.client.post(URL, json=BODY, headers=headers).status_code == 201
    leaving.away = False
    assert plane.client.post(URL, json=BODY, headers=headers).status_code == 409
    assert plane.actions().count("release.start") == 1


def test_a_key_whose_process_died_is_free_after_a_while(plane: Plane) -> None:
    claimed = Once(plane.store, plane.clock, "k1", "someone", "digest")
    assert claimed.claim() is None
    plane.clock.advance(61)
    assert Once(plane.store, plane.clock, "k1", "someone", "digest").claim() is None


def test_a_request_that_ends_too_late_leaves_the_claim_of_the_next_alone(plane: Plane) -> None:
    first, second, third = (Once(plane.store, plane.clock, "k1", "someone", "digest") for _ in range(3))
    assert first.claim() is None
    plane.clock.advance(61)
    assert second.claim() is None
    with pytest.raises(StoreAway), first.under_way():
        raise StoreAway("the store was away for long")
    first.keep(200, "{}")
    with pytest.raises(Conflict, match="under way"):
        third.claim()


def test_answers_are_forgotten_after_a_day(plane: Plane) -> None:
    headers = plane.headers() | {"Idempotency-Key": "k1"}
    first = plane.client.post(URL, json=BODY, headers=headers).json()["id"]
    plane.client.post(f"{URL}/{first}/rollback", headers=plane.headers())
    plane.clock.advance(86_401)
    assert plane.client.post(URL, json=BODY, headers=headers).json()["id"] != first


def test_a_repeated_answer_does_not_show_a_new_key_again(plane: Plane) -> None:
    headers = plane.headers("admin") | {"Idempotency-Key": "k1"}
    first = plane.client.post("/api/v1/api-keys", json={"name": "ci"}, headers=headers)
    again = plane.client.post("/api/v1/api-keys", json={"name": "ci"}, headers=headers)
    assert first.json()["key"].startswith("tg_")
    assert again.json() == {"view": first.json()["view"], "key": ""}
    with plane.store.read() as unit:
        assert all(first.json()["key"] not in row.body for row in unit.audit.rows())
    assert not any(first.json()["key"].encode() in file.read_bytes() for file in plane.folder.glob("store.db*"))


def test_a_malformed_idempotency_key(plane: Plane) -> None:
    for key in ("", "a b", "x" * 201):
        answer = plane.client.post(URL, json=BODY, headers=plane.headers() | {"Idempotency-Key": key})
        assert answer.status_code == 422
