"""The seam to the store, against a real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate.errors import TidegateError
from tidegate.keys import KeyFacts, compose, digest, encode_facts, new_key, parse
from tidegate.observations import Beat
from tidegate.serving.snapshots.store import StoreSource
from tidegate.storage.records import KeyRow
from tidegate.storage.store import Store, open_store
from tidegate.types import EndpointPlan, ModelRef, RoutingSnapshot, Variant

PLAN = EndpointPlan("iris", (Variant("baseline", ModelRef("m", "iris", "3")),))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{tmp_path}/store.db", migrate=True)
    yield store
    store.close()


@pytest.fixture
def source(tmp_path: Path, store: Store) -> Iterator[StoreSource]:
    source = StoreSource(f"sqlite:///{tmp_path}/store.db", "host:8000")
    yield source
    source.close()


def publish(store: Store, at: float = 5.0) -> int:
    with store.begin() as unit:
        return unit.snapshots.publish(RoutingSnapshot(0, {"iris": PLAN}), reason="r", author="a", at=at).number


def add_key(
    store: Store, id_: str = "", body: str = "", expires: float | None = None, revoked: float | None = None
) -> str:
    fresh, secret, salt = new_key()
    facts = body or encode_facts(KeyFacts(name="k"))
    with store.begin() as unit:
        unit.keys.add(KeyRow(id_ or fresh, salt, digest(salt, secret), 0.0, expires, revoked, None, facts))
    return compose(id_ or fresh, secret)


def test_the_newest_snapshot_is_followed(store: Store, source: StoreSource) -> None:
    assert source.latest() is None
    source.wait(0.0)
    number = publish(store)
    assert source.wait(5.0)
    assert not source.wait(0.0)
    found = source.latest()
    assert found is not None
    assert (found.number, found.published, found.origin, found.endpoints) == (number, 5.0, "store", {"iris": PLAN})


def test_acknowledgements_and_signs_of_life_go_back(store: Store, source: StoreSource) -> None:
    number = publish(store)
    text = add_key(store)
    parsed = parse(text)
    assert parsed is not None
    source.acknowledge(number, 6.0, "no such file")
    source.acknowledge(number, 7.0, "")
    beat = Beat(instance="host:8000", host="host", port=8000, pid=1, workers=2, started=1.0, time=8.0, snapshot=number)
    source.beat(beat, {parsed[0]: 7.5})
    with store.read() as unit:
        [said] = unit.instances.acknowledgements(number)
        assert (said.instance, said.time, said.error) == ("host:8000", 7.0, "")
        assert unit.instances.all() == [beat]
        row = unit.keys.get(parsed[0])
        assert row is not None
        assert row.used == 7.5


def test_keys_come_as_hashes_and_end_with_their_expiry_or_revocation(store: Store, source: StoreSource) -> None:
    add_key(store, "aaaaaaaaaaaa")
    add_key(store, "bbbbbbbbbbbb", expires=50.0, revoked=40.0)
    add_key(store, "cccccccccccc", expires=50.0, revoked=90.0)
    keys = source.keys()
    assert [(key.id, key.expires) for key in keys] == [
        ("aaaaaaaaaaaa", None),
        ("bbbbbbbbbbbb", 40.0),
        ("cccccccccccc", 50.0),
    ]
    assert all(len(key.digest) == 64 for key in keys)


def test_a_key_that_cannot_be_read_does_not_hide_the_others(
    store: Store, source: StoreSource, caplog: pytest.LogCaptureFixture
) -> None:
    add_key(store, "aaaaaaaaaaaa", body="{}")
    add_key(store, "bbbbbbbbbbbb")
    [known] = source.keys()
    assert known.id == "bbbbbbbbbbbb"
    assert "key aaaaaaaaaaaa is left out" in caplog.text


def test_a_store_that_is_away_is_an_error_of_ours(tmp_path: Path) -> None:
    source = StoreSource(f"sqlite:///{tmp_path}/nowhere/store.db", "host:8000")
    with pytest.raises(TidegateError):
        source.latest()
    source.close()
