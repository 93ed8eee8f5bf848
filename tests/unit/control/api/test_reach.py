"""Keys that are for some endpoints: nothing of the others is found, and no page is short because of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.control.access.caller import Caller
from tidegate.control.api import reach
from tidegate.errors import NotFound
from tidegate.keys import KeyFacts

CHURN = Caller(key="k1", facts=KeyFacts(name="ci", endpoints=("churn",)))
EVERYTHING = Caller(key="k1", facts=KeyFacts(name="ci"))
Row = tuple[str, str]
"""Its key, and its endpoint."""


def key_of(row: Row) -> str:
    return row[0]


def endpoint_of(row: Row) -> str:
    return row[1]


@given(st.lists(st.sampled_from(["churn", "iris"]), max_size=20), st.integers(1, 6))
def test_pages_hold_all_that_the_key_may_see_once_each(endpoints: list[str], limit: int) -> None:
    rows = [(f"k{number}", endpoint) for number, endpoint in enumerate(endpoints)]

    def read(count: int, cursor: str | None) -> Sequence[Row]:
        begin = 0 if cursor is None else int(cursor[1:]) + 1
        return rows[begin : begin + count]

    pages = []
    cursor = None
    while page := reach.some(CHURN, read, limit, cursor, key_of, endpoint_of):
        pages.append(page)
        cursor = key_of(page[-1])
    mine = [row for row in rows if row[1] == "churn"]
    assert pages == [mine[begin : begin + limit] for begin in range(0, len(mine), limit)]
    assert reach.some(EVERYTHING, read, 100, None, key_of, endpoint_of) == rows


def test_what_is_of_others_is_as_absent_as_what_is_not_there() -> None:
    kept = {"a-1": ("a-1", "iris")}

    def get(name: str) -> Row:
        if name not in kept:
            raise NotFound("in other words")
        return kept[name]

    said = set()
    for find in (get, kept.get):
        assert reach.one(EVERYTHING, "alert", "a-1", find, endpoint_of) == kept["a-1"]
        for caller, name in ((CHURN, "a-1"), (EVERYTHING, "a-2")):
            with pytest.raises(NotFound) as refused:
                reach.one(caller, "alert", name, find, endpoint_of)
            assert refused.value.__context__ is None, "the log says no more either"
            said.add(str(refused.value))
    assert said == {"there is no alert 'a-1'", "there is no alert 'a-2'"}
