"""Labels and outcomes over HTTP: what is taken, what is refused and where it is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.protocols.http import send, send_json
from tidegate.control.api.feedback import FeedbackIn
from tidegate.errors import MalformedBody, RequestError, TooLarge
from tidegate.feedback import MOST_ROWS, feedback_of
from tidegate.keys import KeyFacts
from tidegate.metrics import Metrics
from tidegate.observations import Feedback
from tidegate.protocols.base import Route
from tidegate.protocols.bodies import read_json
from tidegate.protocols.native import Native
from tidegate.protocols.schemas import SHARED
from tidegate.serving.events.recorder import Recorder
from tidegate.settings import Limits, Store
from tidegate.testing.predictor import FakePredictor
from tidegate.testing.sink import MemorySink

ROW = {"request_id": "r1", "metric": "accuracy", "label": "setosa"}


def read_bytes(body: bytes) -> list[Feedback]:
    return feedback_of(read_json(body, 32), 1000.0)


def read(document: Any) -> list[Feedback]:
    return read_bytes(msgspec.json.encode(document))


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
def routes(sink: MemorySink, tmp_path: Path) -> list[Route]:
    predictor = FakePredictor()
    predictor.live.recorder = Recorder(Store(url="memory"), sink, Metrics(), tmp_path)
    return Native(predictor, Limits()).routes()  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["/feedback", "/api/v1/feedback"])
async def test_new_and_known_rows_are_counted(routes: list[Route], path: str) -> None:
    rows = [ROW, {**ROW, "request_id": "r2"}]
    assert await send_json(routes, "POST", path, ROW) == (200, {"accepted": 1, "duplicates": 0})
    assert await send_json(routes, "POST", path, rows) == (200, {"accepted": 1, "duplicates": 1})


async def test_a_key_labels_only_what_its_endpoints_predicted(routes: list[Route], sink: MemorySink) -> None:
    """OWASP API1:2023 on the data port."""
    one, two = KeyFacts(name="k", endpoints=("iris",)), KeyFacts(name="k", endpoints=("iris", "shop"))
    other = {**ROW, "endpoint": "churn"}
    for facts in (one, two):
        status, problem = await send_json(
            routes, "POST", "/feedback", [{**ROW, "endpoint": "iris"}, other], facts=facts
        )
        assert (status, problem["detail"]) == (403, "this key may not call the endpoint 'churn'")
    assert not sink.labels
    status, problem = await send_json(routes, "POST", "/feedback", [ROW], facts=two)
    assert (status, problem["errors"][0]["loc"]) == (422, [0, "endpoint"])
    assert (await send_json(routes, "POST", "/feedback", ROW, facts=one))[0] == 200
    assert [row.endpoint for row in sink.labels] == ["iris"]


async def test_while_the_store_is_away_nothing_is_acknowledged(routes: list[Route], sink: MemorySink) -> None:
    sink.away = True
    response = await send(routes, "POST", "/feedback", msgspec.json.encode(ROW))
    assert response.status == 503
    assert (b"retry-after", b"1") in response.headers
    sink.away = False
    assert await send_json(routes, "POST", "/feedback", ROW) == (200, {"accepted": 1, "duplicates": 0})


async def test_another_media_type_is_refused(routes: list[Route]) -> None:
    response = await send(routes, "POST", "/feedback", b"a,b", {"content-type": "text/csv"})
    assert response.status == 415


def test_every_field_is_taken() -> None:
    document = {**ROW, "unit": "u", "endpoint": "iris", "time": 17.5}
    assert read(document) == [
        Feedback(
            metric="accuracy", request_id="r1", unit="u", endpoint="iris", label="setosa", time=17.5, received=1000.0
        )
    ]
    [bare] = read({"unit": "u", "metric": "converted", "value": 1})
    assert (bare.value, bare.label, bare.time, bare.request_id) == (1.0, None, 1000.0, "")


@pytest.mark.parametrize(
    ("label", "text"),
    [(1, "1"), (1.0, "1"), ("1", "1"), (True, "true"), ("true", "true"), (0.5, "0.5"), ("ümlaut", "ümlaut")],
)
def test_labels_may_be_numbers_texts_and_truths(label: Any, text: str) -> None:
    assert read({**ROW, "label": label})[0].label == text


async def test_each_row_of_a_request_has_its_own_label(routes: list[Route], sink: MemorySink) -> None:
    rows = [{**ROW, "row": row, "label": str(row)} for row in (0, 1)]
    assert await send_json(routes, "POST", "/feedback", rows) == (200, {"accepted": 2, "duplicates": 0})
    assert await send_json(routes, "POST", "/feedback", rows) == (200, {"accepted": 0, "duplicates": 2})
    assert [(one.row, one.label) for one in sink.labels] == [(0, "0"), (1, "1")]
    assert read({**ROW, "row": None})[0].row is None


def test_values_may_be_truths() -> None:
    values = [read({"unit": "u", "metric": "m", "value": value})[0].value for value in (True, False, 3, -2.5)]
    assert values == [1.0, 0.0, 3.0, -2.5]


@pytest.mark.parametrize("time", ["1970-01-01T00:16:40Z", "1970-01-01T01:16:40+01:00", 1000, 1000.0])
def test_times_come_in_two_forms(time: Any) -> None:
    assert read({**ROW, "time": time})[0].time == 1000.0


WRONG: Sequence[tuple[Any, list[str | int], str]] = [
    ({"request_id": "r", "label": 1}, ["metric"], 'field "metric": is needed'),
    ([ROW, {"metric": "m", "value": 1}], [1, "request_id"], 'row 1, field "request_id": is needed, or else unit'),
    ([{"unit": "u", "metric": "m"}], [0, "value"], "either value, a number, or label"),
    ({**ROW, "value": 1}, ["value"], "either value, a number, or label"),
    ({**ROW, "metric": 5}, ["metric"], "expected text, got 5"),
    ({**ROW, "metric": "m" * 300}, ["metric"], "at most 256 characters, got 300"),
    ({**ROW, "label": "m" * 300}, ["label"], "1 to 256 characters, got 300"),
    ({**ROW, "label": []}, ["label"], "got a list"),
    ({**ROW, "row": -1}, ["row"], "a whole number from 0, got -1"),
    ({**ROW, "row": 1_000_000}, ["row"], "a whole number from 0"),
    ({**ROW, "row": 1.5}, ["row"], "a whole number from 0, got 1.5"),
    ({**ROW, "row": True}, ["row"], "a whole number from 0, got True"),
    ({"unit": "u", "metric": "m", "value": 1, "row": 0}, ["row"], "say its request_id too"),
    ({"unit": "u", "metric": "m", "value": "high"}, ["value"], "expected a number, true or false, got 'high'"),
    ({**ROW, "time": 1.7e12}, ["time"], "seconds since 1970"),
    ({**ROW, "time": "yesterday"}, ["time"], "ISO 8601"),
    ({**ROW, "time": "0001-01-02T00:00:00Z"}, ["time"], "seconds since 1970"),
    ({**ROW, "time": "9999-12-31T00:00:00Z"}, ["time"], "seconds since 1970"),
    ({**ROW, "time": True}, ["time"], "ISO 8601"),
    ({**ROW, "tag": 1}, ["tag"], "is not known; known are request_id"),
    ([5], [0], "row 0: expected an object"),
    ([], [], "the list is empty"),
]


@pytest.mark.parametrize(("document", "loc", "words"), WRONG)
async def test_what_is_wrong_is_named_with_its_place(
    routes: list[Route], sink: MemorySink, document: Any, loc: list[str | int], words: str
) -> None:
    status, problem = await send_json(routes, "POST", "/feedback", document)
    assert status == 422
    assert words in problem["detail"]
    if loc:
        assert problem["errors"][0]["loc"] == loc
    assert sink.feedback([]) == 0
    assert not sink.writes


def test_all_wrong_places_are_listed_up_to_a_bound() -> None:
    with pytest.raises(RequestError) as refused:
        read([{"metric": "m", "value": 1}, ROW, {"unit": "u", "value": 1}])
    assert [error["loc"] for error in refused.value.errors] == [[0, "request_id"], [2, "metric"]]
    with pytest.raises(RequestError) as refused:
        read([{}] * 500)
    assert len(refused.value.errors) == 20


def test_the_number_of_rows_is_bounded() -> None:
    assert len(read([ROW] * MOST_ROWS)) == MOST_ROWS
    with pytest.raises(TooLarge, match="at most 10000"):
        read([ROW] * (MOST_ROWS + 1))


def test_other_bodies_are_malformed() -> None:
    for body in (b"", b"5", b'"text"', b"{", b"null"):
        with pytest.raises(MalformedBody):
            read_bytes(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ("request_id", "row", "unit", "metric", "value", "label", "time", "endpoint")


@pytest.mark.slow
@settings(derandomize=True, max_examples=300, deadline=None, database=None)
@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), JSON), max_size=4) | JSON)
def test_no_body_surprises_us(document: Any) -> None:
    try:
        rows = msgspec.json.encode(document)
    except (msgspec.MsgspecError, UnicodeEncodeError, OverflowError):
        return
    try:
        found = read_bytes(rows)
    except RequestError:
        return  # which places it names is tested above
    else:
        assert all(row.metric and (row.request_id or row.unit) for row in found)
        msgspec.json.decode(rows, type=FeedbackIn | list[FeedbackIn])  # as the control port's document says


def test_both_ports_document_the_same_fields() -> None:
    [ours] = [one for one in SHARED["FeedbackRequest"]["oneOf"] if one["type"] == "object"]
    _, components = msgspec.json.schema_components([FeedbackIn])
    other = components["FeedbackIn"]
    assert (sorted(ours["properties"]), ours["required"]) == (sorted(other["properties"]), other["required"])
    assert tuple(sorted(ours["properties"])) == tuple(sorted(FIELDS))
    for name, field in ours["properties"].items():
        places = [field, *other["properties"][name].get("anyOf", [other["properties"][name]])]
        for bound in ("maxLength", "minimum", "exclusiveMaximum") if name not in ("label", "time", "value") else ():
            assert len({place[bound] for place in places if bound in place}) <= 1, (name, bound)
