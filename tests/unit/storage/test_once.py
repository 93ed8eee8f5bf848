from __future__ import annotations

import msgspec
import pytest

from tests.unit.storage.makers import START
from tidegate.errors import Conflict
from tidegate.storage.records import IdempotencyRow
from tidegate.storage.store import Store


def test_the_answer_to_a_repeated_call(store: Store) -> None:
    row = IdempotencyRow("k", "ann", "digest", 201, '{"id": 1}', START)
    with store.begin() as unit:
        assert unit.idempotency.get("k", "ann") is None
        unit.idempotency.put(row)
        unit.idempotency.put(msgspec.structs.replace(row, who="bob"))
    with pytest.raises(Conflict, match="Idempotency-Key"), store.begin() as unit:
        unit.idempotency.put(row)
    with store.begin() as unit:
        assert unit.idempotency.get("k", "ann") == row


def test_a_delivery_counts_once(store: Store) -> None:
    with store.begin() as unit:
        assert unit.deliveries.add("d1", START)
        assert not unit.deliveries.add("d1", START + 1)
