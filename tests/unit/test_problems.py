from __future__ import annotations

import pytest

from tidegate.errors import InvalidInput, NotFound, NotReady, QueueFull, Refused, RequestError, TidegateError
from tidegate.problems import LONGEST, bounded, nearest, places_of, problem, retry_seconds


def test_the_nearest_class_counts() -> None:
    table = {BaseException: 500, RequestError: 400, NotFound: 404}
    found = [nearest(error, table) for error in (NotFound("x"), InvalidInput("x"), TidegateError("x"), KeyError("x"))]
    assert found == [404, 400, 500, 500]


def test_places_are_there_where_they_are_known() -> None:
    body = problem(422, "invalid-input", "The input is not valid", "row 3", "id-7", [{"loc": ["x"], "msg": "no"}])
    assert body == {
        "type": "https://tidegate.dev/errors/invalid-input", "title": "The input is not valid", "status": 422,
        "detail": "row 3", "request_id": "id-7", "errors": [{"loc": ["x"], "msg": "no"}],
    }  # fmt: skip
    assert "errors" not in problem(404, "not-found", "Nothing", "x", "id-7")
    assert places_of(InvalidInput("row 3", ("x", 3))) == [{"loc": ["x", 3], "msg": "row 3"}]
    assert places_of(InvalidInput("row 3")) == places_of(KeyError("x")) == []


def test_no_text_is_longer_than_it_may_be() -> None:
    assert bounded("a" * LONGEST) == "a" * LONGEST
    assert bounded("a" * 9 * LONGEST) == bounded(bounded("a" * 9 * LONGEST)) == "a" * LONGEST + "…"
    assert len(problem(500, "internal", "x", "a" * 9 * LONGEST, "")["detail"]) == LONGEST + 1
    assert places_of(InvalidInput("a" * 9 * LONGEST, ("x",)))[0]["msg"] == "a" * LONGEST


@pytest.mark.parametrize(
    ("error", "seconds"),
    [(QueueFull("x", 2.3), 3), (QueueFull("x", 0.0), 1), (NotReady("x", float("inf")), 60), (NotReady("x"), 1)],
)
def test_when_to_come_back_is_whole_seconds_and_finite(error: Refused, seconds: int) -> None:
    assert retry_seconds(error) == seconds
