from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.stores import sqlite_store
from tidegate.clock import ManualClock
from tidegate.control.access.gate import Access
from tidegate.control.access.sessions import LONGEST_SECONDS
from tidegate.errors import NotAllowed, NotAuthenticated, RateLimited
from tidegate.keys import KeyFacts
from tidegate.settings import Control

HOUR = 3600.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def access(tmp_path: Path, clock: ManualClock) -> Iterator[Access]:
    store = sqlite_store(tmp_path, clock)
    yield Access(store, Control(session_minutes=60, requests_per_minute=100_000), clock, tmp_path)
    store.close()


@pytest.fixture
def key(access: Access) -> str:
    return access.keys.create(KeyFacts(name="ada", roles=("operate",)), who="root").key


def test_a_session_stands_for_its_key(access: Access, key: str, tmp_path: Path) -> None:
    opened = access.sign_in(key, "192.0.2.7")
    caller = access.by_cookie(opened.token, "192.0.2.7")
    assert caller.key == opened.caller.key
    assert caller.csrf
    assert caller.csrf != opened.token
    assert not any(opened.token.encode() in file.read_bytes() for file in tmp_path.iterdir())


def test_a_session_in_use_lasts_and_an_idle_one_ends(access: Access, key: str, clock: ManualClock) -> None:
    opened = access.sign_in(key, "")
    for _ in range(4):
        clock.advance(HOUR * 0.9)
        access.by_cookie(opened.token, "")
    clock.advance(HOUR)
    with pytest.raises(NotAuthenticated):
        access.by_cookie(opened.token, "")


def test_no_session_lasts_for_ever(access: Access, key: str, clock: ManualClock) -> None:
    opened = access.sign_in(key, "")
    end = clock.wall() + LONGEST_SECONDS
    while clock.wall() + HOUR / 2 < end:
        clock.advance(HOUR / 2)
        access.by_cookie(opened.token, "")
    clock.advance(HOUR / 2)
    with pytest.raises(NotAuthenticated):
        access.by_cookie(opened.token, "")


def test_many_requests_at_once_make_a_session_last(access: Access, key: str, clock: ManualClock) -> None:
    """As a page of the console sends them."""
    opened = access.sign_in(key, "")
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            clock.advance(HOUR / 30)
            callers = pool.map(lambda _: access.by_cookie(opened.token, ""), range(8))
            assert {caller.expires for caller in callers} == {clock.wall() + HOUR}


def test_a_revoked_key_ends_its_sessions(access: Access, key: str) -> None:
    opened = access.sign_in(key, "")
    assert access.lasts(opened.caller)
    access.keys.revoke(opened.caller.key, who="root")
    assert not access.lasts(opened.caller)
    with pytest.raises(NotAuthenticated):
        access.by_cookie(opened.token, "")


def test_signing_out_ends_it_at_once(access: Access, key: str) -> None:
    opened = access.sign_in(key, "")
    access.sessions.close(opened.caller)
    access.sessions.close(opened.caller)
    assert not access.lasts(opened.caller)
    with pytest.raises(NotAuthenticated):
        access.by_cookie(opened.token, "")


@pytest.mark.parametrize("token", ["", "x", "x" * 10_000, "\0", "ü"])
def test_what_is_no_session(access: Access, token: str) -> None:
    with pytest.raises(NotAuthenticated):
        access.by_cookie(token, "")


def test_a_key_that_only_predicts_does_not_sign_in(access: Access) -> None:
    key = access.keys.create(KeyFacts(name="app"), who="root").key
    with pytest.raises(NotAllowed):
        access.sign_in(key, "")


def test_wrong_keys_of_an_address_are_limited(access: Access, key: str) -> None:
    for _ in range(10):
        with pytest.raises(NotAuthenticated):
            access.sign_in("tg_wrong", "2001:db8::1")
    with pytest.raises(RateLimited):
        access.by_key("tg_wrong", "2001:db8::3")
    access.by_key(key, "2001:db8::3")  # whoever shares an address with a broken program still gets in
    with pytest.raises(RateLimited) as refused:
        access.sign_in(key, "2001:db8::2")  # the same network
    assert 0 < refused.value.retry_after <= 600
    access.sign_in(key, "2001:db8:0:1::1")


def test_a_key_has_its_own_limit(access: Access) -> None:
    """One client must not use up what all share: SeldonIO/MLServer#1042."""
    key = access.keys.create(KeyFacts(name="slow", roles=("operate",), requests_per_minute=3), who="root").key
    for _ in range(3):
        access.by_key(key, "192.0.2.1")
    with pytest.raises(RateLimited, match="3 calls a minute"):
        access.by_key(key, "192.0.2.2")
