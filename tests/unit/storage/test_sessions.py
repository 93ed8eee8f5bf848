from __future__ import annotations

from tests.unit.storage.makers import START
from tidegate.storage.records import SessionRow
from tidegate.storage.store import Store


def test_sessions_end_by_sign_out_and_by_time(store: Store) -> None:
    rows = [SessionRow(name, "k1", START, START + 10 * age, "csrf") for age, name in enumerate("abc")]
    with store.begin() as unit:
        for row in rows:
            unit.sessions.add(row)
        unit.sessions.remove("b")
        unit.sessions.remove("b")
    with store.begin() as unit:
        assert unit.sessions.get("a") == rows[0]
        assert unit.sessions.get("b") is None
        assert unit.sessions.expire(START) == 1
        assert unit.sessions.get("a") is None
        assert unit.sessions.get("c") == rows[2]
