"""Which labels count, in which window, and what is made of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.control.monitoring.observed import HOUR, START
from tests.unit.storage.makers import an_event
from tidegate.control.monitoring import labelled
from tidegate.control.monitoring.labelled import Answer, Pair, answer_of, estimates, pair_of, performances, task_of
from tidegate.control.monitoring.records import Performance
from tidegate.monitor_plan import PerformancePlan
from tidegate.observations import Feedback
from tidegate.storage.records import Labelled

PLAN = PerformancePlan()
YES = b'{"predictions":[1],"labels":["yes"],"scores":[[0.2,0.8]]}'
NO = b'{"predictions":[0],"labels":["no"],"scores":[[0.7,0.3]]}'


BOTH = b'{"predictions":[1,0],"labels":["yes","no"],"scores":[[0.2,0.8],[0.7,0.3]]}'


def a_label(
    truth: str | float | None,
    outputs: bytes = YES,
    time: float = START,
    late: float = HOUR,
    row: int | None = None,
    **event: Any,
) -> Labelled:
    text = truth if isinstance(truth, str) else None
    value = truth if isinstance(truth, float) else None
    known: dict[str, Any] = {"metric": "label", "request_id": "r", "row": row, "time": time, "received": time + late}
    feedback = Feedback(label=text, value=value, **known)
    return Labelled(feedback, an_event("r", endpoint="churn", time=time, outputs=outputs, **event))


def windows(*labels: Labelled, **given: Any) -> list[Performance]:
    values: dict[str, Any] = {"endpoint": "churn", "basis": "prediction", "seconds": HOUR, "plan": PLAN}
    return [*performances(labels, **values | given)]


@pytest.mark.parametrize(
    ("outputs", "answer"),
    [
        (YES, Answer(1, "yes", (0.2, 0.8))),
        (b'{"predictions":[2.5]}', Answer(2.5)),
        (b'{"answer":["b"]}', Answer("b")),
        (b'{"labels":["b"]}', Answer("b", "b")),
        (b'{"predictions":[1],"scores":[0.8]}', Answer(1, None, (0.8,))),
        (b'{"predictions":[1],"scores":[["x"]]}', Answer(1)),
        (b'{"predictions":[[1,2]]}', None),
        (b'{"predictions":[null]}', None),
        (b'{"predictions":[]}', None),
        (b"{}", None),
        (b"", None),
        (b"[1]", None),
        (b"\xff", None),
    ],
)
def test_what_was_answered(outputs: bytes, answer: Answer | None) -> None:
    assert answer_of(a_label("yes", outputs).event, 0) == answer


@pytest.mark.parametrize(
    ("label", "pair"),
    [
        (a_label("yes"), Pair("yes", "yes", (0.2, 0.8), True)),
        (a_label(1.0), Pair(1.0, 1, (0.2, 0.8), True)),
        (a_label(2.0, b'{"predictions":[2.5]}'), Pair(2.0, 2.5)),
        (a_label("2", b'{"predictions":[2]}'), Pair("2", 2, (), True)),
        (a_label(None), None),
        (a_label("yes", rows=2), None),
        (a_label("no", BOTH, rows=2, row=1), Pair("no", "no", (0.7, 0.3), True)),
        (a_label("no", BOTH, rows=2, row=0), Pair("no", "yes", (0.2, 0.8), True)),
        (a_label("no", BOTH, rows=2, row=2), None),
        (a_label("no", BOTH, rows=3, row=2), None),
        (a_label("yes", row=0), Pair("yes", "yes", (0.2, 0.8), True)),
        (a_label("yes", row=1), None),
        (a_label("yes", forced=True), None),
        (a_label("yes", b""), None),
    ],
)
def test_which_labels_count(label: Labelled, pair: Pair | None) -> None:
    assert pair_of(label) == pair


@pytest.mark.parametrize(
    ("pairs", "plan", "task"),
    [
        ([Pair(2.0, 2.5)], PLAN, "regression"),
        ([Pair("2.0", 2.5)], PLAN, "regression"),
        ([Pair("b", 2.5)], PLAN, "classification"),
        ([Pair(2.0, 2, (), True)], PLAN, "classification"),
        ([Pair(2.0, 2, (), True)], PerformancePlan(task="regression"), "regression"),
        ([Pair(2.0, 2.5)], PerformancePlan(task="classification"), "classification"),
    ],
)
def test_what_is_predicted(pairs: list[Pair], plan: PerformancePlan, task: str) -> None:
    assert task_of(pairs, plan) == task


def test_windows_by_the_time_of_the_prediction_and_of_the_label() -> None:
    labels = [
        a_label("yes", time=START),
        a_label("no", time=START + 10, late=2 * HOUR),
        a_label("no", NO, time=START + 20, variant="candidate", version="2"),
        a_label("yes", rows=3, time=START + 30),
        a_label("no", NO, time=START + HOUR, late=10),
    ]
    made = {("baseline", "1"): 7, ("other", "1"): 9}
    found = windows(*labels, made=lambda start, _end: made if start == START else {})
    assert [(one.start - START, one.variant, one.version, one.labels, one.predictions) for one in found] == [
        (0, "baseline", "1", 2, 7),
        (0, "candidate", "2", 1, 1),
        (HOUR, "baseline", "1", 1, 1),
    ]
    assert [one.metrics["accuracy"].value for one in found] == [0.5, 1.0, 1.0]
    arrived = windows(*sorted(labels, key=lambda one: one.feedback.received), basis="arrival")
    assert [(one.start - START, one.variant, one.labels) for one in arrived] == [
        (HOUR, "baseline", 2),
        (HOUR, "candidate", 1),
        (2 * HOUR, "baseline", 1),
    ]
    assert {one.basis for one in arrived} == {"arrival"}
    assert [one.predictions for one in arrived] == [0, 0, 0]


def test_scores_and_the_names_of_classes_are_used() -> None:
    labels = [
        a_label("yes"),
        a_label("no"),
        a_label("no", NO),
        a_label("yes", NO),
        a_label("yes", b'{"predictions":["yes"]}'),
    ]
    [one] = windows(*labels)
    assert one.task == "classification"
    assert set(one.metrics) == {"accuracy", "precision", "recall", "f1", "roc_auc", "log_loss", "brier"}
    assert one.metrics["brier"].value == pytest.approx((0.04 + 0.64 + 0.09 + 0.49) / 4)
    numbers = [a_label(float(one), NO) for one in (0, 0, 1)]
    [other] = windows(*numbers, classes={("baseline", "1"): ("no", "yes")})
    assert other.metrics["accuracy"].value == pytest.approx(2 / 3)


def test_numbers_are_measured_as_numbers() -> None:
    [one] = windows(*(a_label(float(n), b'{"predictions":[%d.5]}' % n) for n in range(4)))
    assert (one.task, one.metrics["mae"].value, one.metrics["rmse"].value) == ("regression", 0.5, 0.5)


def test_only_a_part_of_very_many_is_kept_and_all_are_counted() -> None:
    sample: labelled._Sample[int] = labelled._Sample(most=1000)
    for number in range(20_000):
        sample.add(number)
    assert (sample.seen, len(sample.kept)) == (20_000, 1000)
    assert sum(sample.kept) / 1000 == pytest.approx(10_000, rel=0.1), "early and late ones have the same chance"


def test_windows_are_given_out_before_the_stream_ends() -> None:
    read: list[float] = []

    def stream() -> Iterator[Labelled]:
        for hour in range(3):
            read.append(hour)
            yield a_label("yes", time=START + hour * HOUR)

    first = next(iter(performances(stream(), endpoint="churn", basis="prediction", seconds=HOUR, plan=PLAN)))
    assert (first.start, read) == (START, [0, 1])


def test_estimates_without_labels() -> None:
    events = [
        a_label(None, outputs, START + n).event for n, outputs in enumerate([YES, NO, YES, b'{"predictions":[1]}'])
    ]
    [one] = estimates(events, endpoint="churn", seconds=HOUR, plan=PLAN)
    assert (one.basis, one.labels, one.predictions) == ("estimated", 0, 3)
    assert one.metrics["accuracy"].value == pytest.approx((0.8 + 0.7 + 0.8) / 3)
    assert [*estimates([events[-1]], endpoint="churn", seconds=HOUR, plan=PLAN)] == []
    several = a_label(None, BOTH, rows=2).event
    [two] = estimates([several], endpoint="churn", seconds=HOUR, plan=PLAN)
    assert two.predictions == 2
    assert two.metrics["accuracy"].value == pytest.approx(0.75)
    holes = b'{"predictions":[null,0,1],"scores":[[0.2,0.8],[0.7,0.3],[0.1,0.9]]}'
    [rest] = estimates([a_label(None, holes, rows=3).event], endpoint="churn", seconds=HOUR, plan=PLAN)
    assert rest.predictions == 2, "a row without an answer does not take the others with it"


def test_windows_of_more_than_two_classes_can_be_kept() -> None:
    """Means over classes were numbers of numpy, which no JSON takes: no look at such an endpoint ended."""
    truths = ["a", "b", "c", "a", "b", "a"]
    answers = [
        b'{"predictions":["%s"],"scores":[[0.5,0.25,0.25]]}' % one for one in (b"a", b"b", b"b", b"c", b"b", b"a")
    ]
    [one] = windows(*(a_label(truth, outputs) for truth, outputs in zip(truths, answers, strict=True)))
    assert msgspec.json.decode(msgspec.json.encode(one), type=Performance) == one
    assert {"accuracy", "precision", "recall", "f1", "roc_auc"} <= set(one.metrics)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
values = scalars | st.lists(scalars, max_size=3)


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from(["predictions", "labels", "scores", "x"]), st.lists(values, max_size=2)),
            st.none() | st.text(max_size=5) | st.floats(allow_nan=False, allow_infinity=False),
        ),
        max_size=8,
    ),
    st.sampled_from(["auto", "classification", "regression"]),
)
def test_whatever_models_answer_there_is_no_error(rows: list[tuple[dict[str, Any], Any]], task: Any) -> None:
    import json

    labels = [a_label(truth, json.dumps(outputs).encode(errors="replace")) for outputs, truth in rows]
    for one in windows(*labels, plan=PerformancePlan(task=task)):
        assert all(metric.low <= metric.value <= metric.high for metric in one.metrics.values())
        assert msgspec.json.encode(one)
    for one in estimates([label.event for label in labels], endpoint="churn", seconds=HOUR, plan=PLAN):
        assert all(metric.low <= metric.value <= metric.high for metric in one.metrics.values())
