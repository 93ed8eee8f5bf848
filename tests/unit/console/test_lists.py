from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tidegate.console import lists
from tidegate.control.access.caller import Caller
from tidegate.keys import KeyFacts

CHURN = Caller(key="k1", facts=KeyFacts(name="ci", endpoints=("churn",)))
Row = tuple[str, str]
"""Its key, and its endpoint."""


def key_of(row: Row) -> str:
    return row[0]


def endpoint_of(row: Row) -> str:
    return row[1]


def reader(rows: Sequence[Row], asked: list[str | None]) -> Callable[[int, str | None], Sequence[Row]]:
    def read(count: int, cursor: str | None) -> Sequence[Row]:
        asked.append(cursor)
        begin = 0 if cursor is None else int(cursor[1:]) + 1
        return rows[begin : begin + count]

    return read


@pytest.mark.parametrize(("count", "following"), [(0, None), (29, None), (30, None), (31, "k29"), (99, "k29")])
def test_a_page_says_whether_more_follows(count: int, following: str | None) -> None:
    rows = [(f"k{number}", "churn") for number in range(count)][: lists.PAGE + 1]
    assert lists.cut(rows, key_of) == (rows[: lists.PAGE], following)
    assert lists.cut(rows[:3], key_of, 2)[1] == ("k1" if count > 2 else None)


def test_pages_of_others_are_passed_over() -> None:
    rows = [(f"k{number}", "churn" if number in (70, 71, 130) else "iris") for number in range(200)]
    asked: list[str | None] = []
    first, following = lists.seen(CHURN, reader(rows, asked), None, key_of, endpoint_of)
    assert ([key_of(row) for row in first], following) == (["k70", "k71"], "k89")
    assert asked == [None, "k29", "k59"], "it looks no further than to the first that can be shown"
    second, following = lists.seen(CHURN, reader(rows, asked), following, key_of, endpoint_of)
    assert ([key_of(row) for row in second], following) == (["k130"], "k149")
    assert lists.seen(CHURN, reader(rows, asked), following, key_of, endpoint_of) == ([], None)
