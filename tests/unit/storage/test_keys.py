from __future__ import annotations

import msgspec
import pytest

from tests.unit.storage.makers import START, a_key
from tidegate.errors import Conflict
from tidegate.storage.store import Store


def test_a_key_is_made_used_and_revoked(store: Store) -> None:
    key = a_key("k1", expires=START + 100)
    with store.begin() as unit:
        unit.keys.add(key)
        unit.keys.touch("k1", START + 2)
        unit.keys.touch("k1", START + 1)
        assert unit.keys.revoke("k1", START + 3)
        assert not unit.keys.revoke("k1", START + 4)
        assert not unit.keys.revoke("k2", START)
    with store.read() as unit:
        assert unit.keys.get("k1") == msgspec.structs.replace(key, used=START + 2, revoked=START + 3)
        assert unit.keys.get("k2") is None


def test_all_keys_in_the_order_they_were_made(store: Store) -> None:
    with store.begin() as unit:
        for name, age in (("b", 2), ("a", 1)):
            unit.keys.add(a_key(name, created=START - age))
        assert [key.id for key in unit.keys.all()] == ["b", "a"]
    with pytest.raises(Conflict, match="key a"), store.begin() as unit:
        unit.keys.add(a_key("a"))
