"""Tables out of events, whatever is in them; texts and images by what is measured of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as some

from tests.unit.test_images import drawn
from tidegate.control.monitoring import drift, quality
from tidegate.control.monitoring.kept import newest_rows
from tidegate.control.monitoring.profiles import fold, make_profile
from tidegate.control.monitoring.rows import joined, table_of
from tidegate.monitor_plan import DriftPlan, QualityPlan
from tidegate.observations import PredictionEvent
from tidegate.serving.events.sampling import _plain


def event(inputs: Any, outputs: Any, rows: int = 1) -> PredictionEvent:
    texts = (one if isinstance(one, bytes) else msgspec.json.encode(one) for one in (inputs, outputs))
    inputs, outputs = texts
    return PredictionEvent(
        request_id="r", process="p", endpoint="e", variant="v", version="1", snapshot=1, time=0.0, rows=rows,
        inputs=inputs, outputs=outputs,
    )  # fmt: skip


def test_a_matrix_has_the_names_of_the_baseline() -> None:
    events = [event({"x": [[1.0, 2.0]]}, {"predictions": [0]}), event({"x": [[3.0, 4.0], [5.0, 6.0]]}, {"predictions": [1, 0]}, 2)]  # fmt: skip
    assert table_of(events, {"x": ["age", "bmi"]}) == {
        "age": [1.0, 3.0, 5.0],
        "bmi": [2.0, 4.0, 6.0],
        "prediction": [0, 1, 0],
    }
    assert set(table_of(events)) == {"x[0]", "x[1]", "prediction"}


def test_labels_and_the_largest_score_stand_for_the_answer() -> None:
    found = table_of([event({"age": [1]}, {"predictions": [1], "labels": ["yes"], "scores": [[0.2, 0.8]]})])
    assert found == {"age": [1], "prediction": ["yes"], "score": [0.8]}


def test_an_answer_named_as_an_input_keeps_both() -> None:
    found = table_of([event({"age": [1]}, {"predictions": [1], "age": [2]})])
    assert found == {"age": [1], "prediction": [1], "output.age": [2]}


def test_what_an_event_lacks_is_missing() -> None:
    events = [event({"a": [1]}, {"y": [1]}), event({"b": ["x"]}, {"y": [2]}), event({"a": [3]}, {"y": [3]})]
    assert table_of(events) == {"a": [1, None, 3], "b": [None, "x", None], "prediction": [1, 2, 3]}


def test_tables_one_below_the_other() -> None:
    events = [event({"x": [1]}, {}), event({"x": [2], "y": ["a"]}, {}), event(b"?", {}), event({"y": ["b"]}, {})]
    whole = table_of(events)
    parts = joined(table_of([one]) for one in events)
    assert (dict(parts), parts.rows, parts.unreadable) == (dict(whole), whole.rows, whole.unreadable)
    assert parts == {"x": [1, 2, None], "y": [None, "a", "b"]}
    many = joined([{f"c{n}": [n]} for n in range(1200)])
    assert (len(many), many.rows) == (1000, 1200)


def test_the_newest_events_are_read_until_there_are_enough_values() -> None:
    read: list[int] = []

    def newest(count: int) -> Iterator[PredictionEvent]:
        for number in range(count, 0, -1):
            read.append(number)
            yield event({"x": [number, -number], "y": ["a", "b"]}, {}, rows=2)

    table = newest_rows(newest(250), {})
    assert table["x"] == [value for number in range(1, 251) for value in (number, -number)]
    assert (table.rows, len(read)) == (500, 250)
    read.clear()
    assert newest_rows(newest(1000), {}, most=500).rows == 400
    assert len(read) == 200, "two parts of a hundred, of two columns and rows each"


def test_events_that_cannot_be_read_are_counted() -> None:
    good = event({"a": [1]}, {"y": [1]})
    bad = [
        event(b"", {"y": [1]}), event(b"{", {"y": [1]}), event({"a": 1}, {"y": [1]}), event({"a": [1, 2]}, {"y": [1]}),
        event(b"[" * 100_000, {}), event(b"\xff", {}), event(b'{"a":[1e999]}', b"null"),
    ]  # fmt: skip
    table = table_of([good, *bad])
    assert (table.rows, table.unreadable) == (1, len(bad))
    reference = make_profile({"a": [1.0] * 50, "prediction": [1] * 50})
    window = fold(reference, None, table)
    assert (window.rows, window.unreadable) == (1, len(bad))
    (found,) = [one for one in quality.check_quality(reference, window, QualityPlan()) if one.check == "wrong_type"]
    assert (found.count, found.rows, found.broken) == (7, 8, True)


json = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False) | some.text(max_size=5),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None)
@given(
    some.lists(
        some.tuples(json | some.dictionaries(some.sampled_from("abx"), some.lists(json, max_size=3)), json), max_size=4
    )
)
def test_any_json_becomes_a_profile(bodies: list[tuple[Any, Any]]) -> None:
    reference = make_profile({"a": [1.0, 2.0] * 20, "b": ["u", "v"] * 20})
    events = [event(inputs, outputs, rows=rows) for inputs, outputs in bodies for rows in (1, 2)]
    table = table_of(events, {"x": ["a", "b"]})
    window = fold(reference, None, table)
    assert window.rows + window.unreadable == sum(one.rows for one in events)
    quality.check_quality(reference, window, QualityPlan())


def test_many_columns_and_wide_rows_are_bounded() -> None:
    wide = table_of([event({"x": [[0.5] * 5000], **{f"c{n}": [1] for n in range(3000)}}, {"y": [1]})])
    assert len(wide) <= 1000
    assert wide["x.mean"] == [0.5]


def texts(rng: np.random.Generator, words: list[str], rows: int) -> list[str]:
    return [" ".join(rng.choice(words, rng.integers(5, 15))) for _ in range(rows)]


def test_texts_drift_by_their_words() -> None:
    rng = np.random.default_rng(4)
    words = [f"word{place}" for place in range(300)]
    reference = make_profile({"review": texts(rng, words, 1000)})
    assert set(reference.columns) == {f"review.{key}" for key in ("length", "words", "unique", "non_ascii", "unknown")}
    assert set(reference.sample) == set(reference.columns)
    same = fold(reference, None, {"review": texts(rng, words, 300)})
    assert not drift.is_drifted(drift.check_drift(reference, same, DriftPlan()), DriftPlan())
    other = fold(reference, None, {"review": texts(rng, ["слово", "письмо", "word1"], 300)})
    drifted = {one.column for one in drift.check_drift(reference, other, DriftPlan()) if one.drifted}
    assert {"review.non_ascii", "review.unknown"} <= drifted


def test_words_that_no_two_texts_share_are_no_drift() -> None:
    """Every tenth word of the reference is in one text only; so it is later."""
    rng = np.random.default_rng(5)

    def some_texts(rows: int) -> list[str]:
        return [f"{text} {rng.integers(1 << 40)}" for text in texts(rng, ["these", "are", "usual", "words"], rows)]

    reference = make_profile({"note": some_texts(500)})
    window = fold(reference, None, {"note": some_texts(500)})
    (unknown,) = [one for one in drift.check_drift(reference, window, DriftPlan()) if one.column == "note.unknown"]
    assert not unknown.drifted


def test_images_of_a_training_set_and_of_events_are_the_same_columns() -> None:
    """Raw bytes in the reference, what the recorder measured in the window."""
    rng = np.random.default_rng(6)

    def photo(light: int) -> bytes:
        return drawn(tuple(int(v) for v in rng.integers(light, light + 60, 3)), size=(32, 32))  # type: ignore[arg-type]

    reference = make_profile({"photo": [photo(60) for _ in range(200)]})
    assert "photo.brightness" in reference.columns
    light, dark = (
        fold(
            reference,
            None,
            table_of([event({"photo": [_plain(photo(base))]}, {}) for _ in range(100)], reference.names),
        )
        for base in (60, 5)
    )
    assert not [one.column for one in drift.check_drift(reference, light, DriftPlan()) if one.drifted]
    assert "photo.brightness" in {one.column for one in drift.check_drift(reference, dark, DriftPlan()) if one.drifted}
