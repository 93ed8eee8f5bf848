from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.stores import sqlite_store
from tidegate.clock import ManualClock
from tidegate.control.access.caller import Caller
from tidegate.control.access.keys import Keys
from tidegate.errors import Conflict, InvalidInput, NotAllowed, NotAuthenticated, NotFound
from tidegate.keys import KeyFacts, compose, parse
from tidegate.storage.store import Store

ADMIN = KeyFacts(name="root", roles=("admin",))
USER = KeyFacts(name="ada", roles=("operate",), endpoints=("iris",))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(tmp_path: Path, clock: ManualClock) -> Iterator[Store]:
    made = sqlite_store(tmp_path, clock)
    yield made
    made.close()


@pytest.fixture
def keys(store: Store, clock: ManualClock) -> Keys:
    return Keys(store, clock)


def test_a_key_is_recognised_and_kept_nowhere(store: Store, keys: Keys, tmp_path: Path) -> None:
    made = keys.create(USER, who="root")
    caller = keys.recognise(made.key, "192.0.2.7")
    assert (caller.key, caller.facts, caller.address) == (made.view.id, USER, "192.0.2.7")
    store.close()
    parsed = parse(made.key)
    assert parsed is not None
    for file in tmp_path.iterdir():
        assert parsed[1].encode() not in file.read_bytes()


def test_what_is_no_valid_key_is_refused_in_the_same_words(keys: Keys, clock: ManualClock) -> None:
    made = keys.create(USER, who="root", expires=clock.wall() + 60)
    parsed = parse(made.key)
    assert parsed is not None
    other = keys.create(USER, who="root")
    wrong = ["", "x", "tg__", other.key + "x", compose(other.view.id, "A" * 43), compose(other.view.id, parsed[1])]
    wrong.append(compose("0" * 12, parsed[1]))
    revoked = keys.create(USER, who="root")
    keys.revoke(revoked.view.id, who="root")
    clock.advance(60)
    words = set()
    for text in [*wrong, made.key, revoked.key]:
        with pytest.raises(NotAuthenticated) as refused:
            keys.recognise(text)
        words.add(str(refused.value))
    assert len(words) == 1
    assert keys.recognise(other.key).key == other.view.id


def test_a_rotated_key_overlaps_with_the_new_one(keys: Keys, clock: ManualClock) -> None:
    old = keys.create(USER, who="root")
    new = keys.rotate(old.view.id, who="root", grace=60)
    assert keys.recognise(old.key).facts == keys.recognise(new.key).facts == USER
    assert keys.get(old.view.id).state == "expiring"
    clock.advance(60)
    with pytest.raises(NotAuthenticated):
        keys.recognise(old.key)
    assert keys.recognise(new.key).key == new.view.id
    with pytest.raises(Conflict, match="revoked"):
        keys.rotate(old.view.id, who="root", grace=60)


def test_a_key_in_its_grace_can_be_revoked_at_once(keys: Keys) -> None:
    old = keys.create(USER, who="root")
    keys.rotate(old.view.id, who="root", grace=3600)
    assert keys.revoke(old.view.id, who="root").state == "revoked"
    with pytest.raises(NotAuthenticated):
        keys.recognise(old.key)
    assert keys.revoke(old.view.id, who="root").state == "revoked"


def test_a_rotated_key_lives_as_long_again(keys: Keys, clock: ManualClock) -> None:
    old = keys.create(USER, who="root", expires=clock.wall() + 1000)
    clock.advance(400)
    assert keys.rotate(old.view.id, who="root", grace=10).view.expires == clock.wall() + 1000


def test_the_last_administrator_cannot_lock_the_door(keys: Keys) -> None:
    first = keys.create(ADMIN, who="tidegate")
    with pytest.raises(Conflict, match="last administrator"):
        keys.revoke(first.view.id, who="root")
    keys.create(ADMIN, who="root")
    assert keys.revoke(first.view.id, who="root").state == "revoked"


def test_two_administrators_who_revoke_each_other_at_once_do_not_lock_the_door_either(keys: Keys) -> None:
    kept = keys.create(ADMIN, who="tidegate").view.id

    def revoked(key: str) -> bool:
        try:
            keys.revoke(key, who="root")
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        for _ in range(10):
            pair = [kept, keys.create(ADMIN, who="root").view.id]
            assert sorted(pool.map(revoked, pair)) == [False, True]
            [kept] = [key for key in pair if keys.counts(key)]


def test_last_use_is_written_once_a_minute(keys: Keys, clock: ManualClock) -> None:
    made = keys.create(USER, who="root")
    assert made.view.used is None
    keys.recognise(made.key)
    first = keys.get(made.view.id).used
    clock.advance(30)
    keys.recognise(made.key)
    assert keys.get(made.view.id).used == first
    clock.advance(30)
    keys.recognise(made.key)
    assert keys.get(made.view.id).used == clock.wall()


def test_the_first_administrators_key_is_made_once(store: Store, keys: Keys, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    key = keys.first_administrator(folder)
    assert key is not None
    file = folder / "admin.key"
    assert file.read_text() == key + "\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert keys.recognise(key).facts.roles == ("admin",)
    assert keys.first_administrator(folder) is None
    assert [path.name for path in folder.iterdir()] == ["admin.key"]


def test_of_many_that_start_at_once_one_makes_the_first_administrators_key(keys: Keys, tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(8)]
    begin = threading.Barrier(len(folders))

    def made(folder: Path) -> str | None:
        begin.wait(10)
        return keys.first_administrator(folder)

    with ThreadPoolExecutor(len(folders)) as pool:
        found = dict(zip(folders, pool.map(made, folders), strict=True))
    [(folder, key)] = [(folder, key) for folder, key in found.items() if key is not None]
    assert [view.name for view in keys.all()] == ["first administrator"]
    assert [path.read_text() for path in tmp_path.glob("*/admin.key")] == [f"{key}\n"]
    assert (folder / "admin.key").exists()


def test_every_change_is_in_the_audit_log(store: Store, keys: Keys) -> None:
    made = keys.create(USER, who="root", reason="for the pipeline")
    new = keys.rotate(made.view.id, who="root", grace=0)
    keys.revoke(new.view.id, who="root")
    with store.read() as unit:
        rows = unit.audit.rows()
    assert [row.action for row in rows] == ["key.create", "key.rotate", "key.expire", "key.revoke"]
    assert "for the pipeline" in rows[0].body
    secrets = [found[1] for found in (parse(made.key), parse(new.key)) if found]
    assert not any(secret in row.body for row in rows for secret in secrets)


@pytest.mark.parametrize(
    "facts",
    [
        KeyFacts(name=" "),
        KeyFacts(name="x" * 101),
        KeyFacts(name="a\nb"),
        KeyFacts(name="a", roles=()),
        KeyFacts(name="a", rows=-1),
        KeyFacts(name="a", roles=("admin",), endpoints=("iris",)),
    ],
)
def test_facts_that_no_key_may_have(keys: Keys, facts: KeyFacts) -> None:
    with pytest.raises(InvalidInput):
        keys.create(facts, who="root")


def test_a_key_of_some_endpoints_administers_nothing() -> None:
    """It could make itself a key for all of them."""
    facts = KeyFacts(name="old", roles=("admin",), endpoints=("iris",))
    caller = Caller(key="k", facts=facts)
    caller.must("operate")
    with pytest.raises(NotAllowed, match="some endpoints only"):
        caller.must("admin")


def test_a_key_that_is_not_there(keys: Keys, clock: ManualClock) -> None:
    with pytest.raises(NotFound):
        keys.get("nobody")
    with pytest.raises(NotFound):
        keys.revoke("nobody", who="root")
    with pytest.raises(InvalidInput, match="past"):
        keys.create(USER, who="root", expires=clock.wall())
