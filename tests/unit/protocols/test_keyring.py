"""Keys that the control plane made: recognised in constant time, limited over all processes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tidegate.errors import NotAllowed, NotAuthenticated, NotReady, RateLimited, TooLarge
from tidegate.keys import KeyFacts, KnownKey, compose, digest, new_key
from tidegate.protocols.access import Keys
from tidegate.protocols.keyring import Caller, Keyring
from tidegate.protocols.meters import Meters
from tidegate.settings import Access


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Ring:
    """A keyring with keys in it, and what their owners send."""

    def __init__(self, meters: Meters | None = None, access: Access | None = None) -> None:
        self.clock = Clock()
        self.keyring = Keyring(meters, wall=self.clock, monotonic=self.clock)
        self.keys = Keys(access or Access(keys_required=True), self.keyring)
        self.known: list[KnownKey] = []

    def add(self, expires: float | None = None, **facts: object) -> str:
        id_, secret, salt = new_key()
        allowed = KeyFacts(name="k", **facts)  # type: ignore[arg-type]
        self.known.append(KnownKey(id=id_, salt=salt, digest=digest(salt, secret), facts=allowed, expires=expires))
        self.keyring.update(tuple(self.known))
        return compose(id_, secret)

    def call(self, key: str, role: str = "predict", args: Mapping[str, str] | None = None) -> Caller | None:
        return self.keys.admit(role, {b"x-api-key": key.encode()}, args or {})  # type: ignore[arg-type]

    def caller(self, key: str) -> Caller:
        caller = self.call(key)
        assert caller is not None
        return caller


@pytest.fixture
def ring() -> Ring:
    return Ring()


def test_a_key_is_recognised_wherever_it_is_sent(ring: Ring) -> None:
    key = ring.add()
    assert ring.caller(key).facts.name == "k"
    assert ring.keys.admit("predict", {b"authorization": b"Bearer " + key.encode()}, {}) is not None


def test_a_wrong_revoked_or_expired_key_is_none(ring: Ring) -> None:
    key, soon = ring.add(), ring.add(expires=1001.0)
    for wrong in (key[:-1] + ("x" if key[-1] != "x" else "y"), "tg_0123456789ab_" + "s" * 43, "tg_", "é"):
        with pytest.raises(NotAuthenticated, match="the key is not valid"):
            ring.call(wrong)
    ring.call(soon)
    ring.clock.now = 1001.0
    with pytest.raises(NotAuthenticated):
        ring.call(soon)
    ring.keyring.update(())
    with pytest.raises(NotAuthenticated):
        ring.call(key)


def test_while_no_keys_are_known_nobody_is_told_that_a_key_is_wrong() -> None:
    ring = Ring()
    key = compose(*new_key()[:2])
    for role in ("predict", "operate"):
        with pytest.raises(NotReady):
            ring.call(key, role)
    with pytest.raises(NotAuthenticated):
        ring.call("something else")
    with pytest.raises(NotAllowed):
        ring.call("something else", "operate")


def test_a_role_is_needed(ring: Ring) -> None:
    predict, operate, nothing = ring.add(), ring.add(roles=("operate",)), ring.add(roles=())
    ring.call(operate, "operate")
    ring.call(operate)
    with pytest.raises(NotAllowed, match="may predict, but not change"):
        ring.call(predict, "operate")
    with pytest.raises(NotAllowed):
        ring.call(nothing)
    assert ring.keys.admit("none", {}, {}) is None


def test_keys_of_both_kinds_are_valid_beside_each_other() -> None:
    ring = Ring(access=Access(predict_key="p", operate_key="o"))
    key = ring.add()
    assert ring.call(key) is not None
    assert ring.call("p") is None
    assert ring.call("o", "operate") is None
    with pytest.raises(NotAuthenticated, match="not valid"):
        ring.call("q")


def test_where_predicting_is_open_a_key_still_counts() -> None:
    ring = Ring(access=Access())
    key = ring.add(endpoints=("iris",))
    assert ring.keys.admit("predict", {}, {}) is None
    assert ring.call("tg_who_knows") is None
    with pytest.raises(NotAllowed):
        ring.call(key, args={"endpoint": "churn"})


def test_changes_stay_off_without_any_key_for_them() -> None:
    with pytest.raises(NotAllowed, match=r"set access\.operate_key"):
        Ring(access=Access()).call("x", "operate")


def test_an_endpoint_must_be_named_in_the_key(ring: Ring) -> None:
    key = ring.add(endpoints=("iris",), rows=10)
    for args in ({"endpoint": "churn"}, {"model": "churn"}):
        with pytest.raises(NotAllowed, match="may not call the endpoint 'churn'"):
            ring.call(key, args=args)
    caller = ring.caller(key)
    caller.check("iris", 10)
    with pytest.raises(NotAllowed):
        caller.check("churn", 1)
    with pytest.raises(TooLarge, match="11 rows; this key may send 10"):
        caller.check("iris", 11)


def test_so_many_calls_a_minute_and_no_more(ring: Ring) -> None:
    """SeldonIO/MLServer#1042: limits per caller."""
    key, other = ring.add(requests_per_minute=6), ring.add()
    for _ in range(6):
        ring.call(key)
    with pytest.raises(RateLimited, match="may make 6 calls a minute") as refused:
        ring.call(key)
    assert refused.value.retry_after == pytest.approx(10.0)
    ring.call(other)
    ring.clock.now += 9.9
    with pytest.raises(RateLimited):
        ring.call(key)
    ring.clock.now += 0.2
    ring.call(key)
    ring.clock.now += 600.0
    for _ in range(6):
        ring.call(key)
    with pytest.raises(RateLimited):
        ring.call(key)


def test_so_many_calls_at_once_and_no_more(ring: Ring) -> None:
    key = ring.add(concurrency=2)
    first, _ = ring.caller(key), ring.caller(key)
    with pytest.raises(RateLimited, match="has 2 calls in flight"):
        ring.call(key)
    first.leave()
    ring.call(key)


def test_a_change_of_keys_loses_no_count(ring: Ring) -> None:
    key = ring.add(concurrency=1, requests_per_minute=2)
    caller = ring.caller(key)
    ring.add()
    with pytest.raises(RateLimited):
        ring.call(key)
    caller.leave()
    ring.call(key)


def test_the_use_of_a_key_is_told_once_a_minute(ring: Ring) -> None:
    key = ring.add()
    ring.add()
    assert ring.keyring.take_used() == {}
    ring.call(key)
    assert list(ring.keyring.take_used().values()) == [1000.0]
    ring.clock.now += 59.0
    ring.call(key)
    assert ring.keyring.take_used() == {}
    ring.clock.now += 1.0
    ring.call(key)
    assert list(ring.keyring.take_used().values()) == [1060.0]


def test_a_limit_holds_over_all_processes(tmp_path: Path) -> None:
    one, other = Ring(Meters(tmp_path, 0, 2)), Ring(Meters(tmp_path, 1, 2))
    for number in range(5):  # others first, so that the key has another place in each keyring
        one.add(requests_per_minute=number + 1)
    key = one.add(requests_per_minute=3, concurrency=2)
    other.known = list(reversed(one.known))
    other.keyring.update(tuple(other.known))
    one.call(key)
    other.call(key)
    for ring in (one, other):
        with pytest.raises(RateLimited, match="2 calls in flight"):
            ring.call(key)
    one.keyring.find(key).leave()  # type: ignore[union-attr]
    other.call(key)
    other.keyring.find(key).leave()  # type: ignore[union-attr]
    with pytest.raises(RateLimited, match="3 calls a minute"):
        one.call(key)


def test_calls_of_a_process_that_died_are_not_in_flight(tmp_path: Path) -> None:
    other = Ring(Meters(tmp_path, 1, 2))
    died = Ring(Meters(tmp_path, 0, 2))
    key = died.add(concurrency=1)
    other.known = died.known
    other.keyring.update(tuple(other.known))
    died.call(key)
    with pytest.raises(RateLimited):
        other.call(key)
    Meters(tmp_path, 0, 2)  # the one in its place
    other.call(key)


def test_more_keys_than_there_is_room_for_are_counted_in_each_process(
    tmp_path: Path,
) -> None:
    meters = Meters(tmp_path, 0, 1, most=2)
    for number in range(4):
        meter = meters.of(f"key-{number}")
        meter.enter()
        assert meter.in_flight == 1
