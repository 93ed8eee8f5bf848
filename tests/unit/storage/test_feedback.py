from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, select

from tests.unit.storage.makers import START, an_event, an_exposure, an_outcome
from tidegate.errors import InvalidInput
from tidegate.observations import Feedback
from tidegate.storage.store import Store, Unit
from tidegate.storage.tables import feedback


def add(store: Store, *batch: Feedback) -> int:
    with store.begin() as unit:
        return unit.feedback.add(batch)


def test_the_first_value_counts_unless_a_later_one_comes(store: Store) -> None:
    with store.begin() as unit:
        unit.exposures.add([an_exposure("ann")])
    assert add(store) == 0
    assert add(store, an_outcome(START + 5, unit="ann", value=1.0)) == 1
    assert add(store, an_outcome(START + 5, unit="ann", value=2.0)) == 0
    assert add(store, an_outcome(START + 4, unit="ann", value=3.0)) == 0
    with store.read() as unit:
        assert unit.feedback.outcomes("colours", "bought") == [("baseline", "ann", 1.0)]
    assert add(store, an_outcome(START + 6, unit="ann", value=4.0)) == 1
    with store.read() as unit:
        assert unit.feedback.outcomes("colours", "bought") == [("baseline", "ann", 4.0)]


def plan(store: Store, ask: Callable[[Unit], object]) -> list[str]:
    """How SQLite goes about the query, step by step."""
    asked: list[tuple[str, Any]] = []

    @event.listens_for(store.engine, "before_cursor_execute")
    def remember(_connection: Any, _cursor: Any, statement: str, given: Any, *_: Any) -> None:
        asked.append((statement, given))

    with store.read() as unit:
        ask(unit)
        statement, given = asked[-1]
        found = unit.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", given).all()
    return [str(step[3]) for step in found]


def test_labels_are_not_sought_in_all_events(store: Store) -> None:
    steps = plan(store, lambda unit: [*unit.feedback.labels("iris", "bought", START, START + 1)])
    events = [step for step in steps if "events" in step or "earlier" in step]
    assert "ix_events_endpoint_time (endpoint=? AND time>? AND time<?)" in events[0], steps
    assert "ix_events_request_id (request_id=?" in events[1], steps
    assert len(events) == 2, steps
    assert not any("TEMP B-TREE" in step for step in steps), steps


def test_outcomes_are_not_sought_in_all_events_for_each_exposure(store: Store) -> None:
    """Four thousand exposures and sixty thousand events took minutes, in which no release was looked at."""
    steps = plan(store, lambda unit: unit.feedback.outcomes("colours", "bought"))
    assert any("exposures" in step for step in steps), steps
    assert not any("ix_events_endpoint_time" in step for step in steps), steps


def test_the_key_is_the_request_or_the_unit(store: Store) -> None:
    assert add(store, an_outcome(unit="a"), an_outcome(request_id="a"), an_outcome(unit="a", metric="left")) == 3
    assert add(store, an_outcome(unit="b", request_id="a"), an_outcome(unit="a"), an_outcome(unit="a")) == 0
    assert add(store, *(an_outcome(START + n, unit="c", value=n) for n in (2, 3, 1))) == 1
    assert add(store, *(an_outcome(request_id="a", row=row) for row in (0, 1, 0))) == 2, "each row has its own"
    assert add(store, an_outcome(unit="a", row=7), an_outcome(request_id="a", row=1)) == 0, "a unit has no rows"


def test_without_a_time_it_happened_when_it_came(store: Store) -> None:
    with store.begin() as unit:
        unit.exposures.add([an_exposure("ann")])
    add(store, Feedback(metric="bought", unit="ann", value=1.0, received=START + 3))
    assert add(store, an_outcome(START + 2, unit="ann")) == 0
    assert add(store, an_outcome(START + 4, unit="ann")) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        Feedback(metric="bought", value=1.0),
        Feedback(metric="", unit="ann"),
        an_outcome(unit="ann", value=math.nan),
        an_outcome(math.inf, unit="ann"),
    ],
)
def test_feedback_that_names_nothing_is_refused(store: Store, wrong: Feedback) -> None:
    with pytest.raises(InvalidInput) as caught:
        add(store, an_outcome(unit="ann"), wrong)
    assert caught.value.loc == (1,)
    assert add(store, an_outcome(unit="ann")) == 1


def test_labels_are_joined_with_the_predictions_of_a_time(store: Store) -> None:
    with store.begin() as unit:
        unit.events.add([an_event(f"r{n}", time=START + n) for n in range(4)])
        unit.events.add([an_event("r1", time=START + 1, variant="candidate"), an_event("r1", endpoint="other")])
    late = START + 90_000
    add(store, *(an_outcome(late, metric="accuracy", request_id=f"r{n}", value=None, label="setosa") for n in range(4)))
    add(store, an_outcome(late + 1, metric="accuracy", request_id="r0", endpoint="other", label="elsewhere"))
    with store.read() as unit:
        found = [*unit.feedback.labels("iris", "accuracy", START, START + 3)]
        assert [*unit.feedback.labels("iris", "bought", START, late)] == []
    assert [(one.event.request_id, one.event.variant) for one in found] == [("r1", "baseline"), ("r2", "baseline")]
    assert {one.feedback.label for one in found} == {"setosa"}
    assert found[0].feedback.time == late
    assert all(one.event.outputs and not one.event.inputs for one in found)


def test_a_label_counts_once_however_often_its_request_was_sent(store: Store) -> None:
    with store.begin() as unit:
        unit.events.add([an_event("r1", time=START + n, variant=name) for n, name in enumerate("abc")])
        unit.events.add([an_event("r1", time=START + 1, endpoint="shop"), an_event("r2", time=START + 1)])
    add(store, an_outcome(request_id="r1"), an_outcome(request_id="r2"))
    with store.read() as unit:
        found = [*unit.feedback.labels("iris", "bought", START, START + 9)]
        assert [(one.event.request_id, one.event.variant) for one in found] == [("r1", "a"), ("r2", "baseline")]
        later = [*unit.feedback.labels("iris", "bought", START + 1, START + 9)]
        assert [one.event.request_id for one in later] == ["r2"], "it counts where its first prediction counts"
        assert len([*unit.feedback.labels("shop", "bought", START, START + 9)]) == 1


@pytest.mark.parametrize("together", [True, False])
def test_what_was_sent_for_one_endpoint_is_not_changed_for_another(store: Store, together: bool) -> None:
    """Whoever knows a request's id could else take away the label that another endpoint's caller sent."""

    def sent(*batch: Feedback) -> int:
        return add(store, *batch) if together else sum(add(store, one) for one in batch)

    def kept() -> list[tuple[str, float | None, str]]:
        with store.read() as unit:
            return [(row.endpoint, row.value, row.unit) for row in unit.connection.execute(select(feedback))]

    mine = an_outcome(request_id="r1", unit="ann", endpoint="iris", value=1.0)
    theirs = an_outcome(START + 2, request_id="r1", endpoint="churn", value=0.0)
    assert sent(mine, theirs) == 1
    assert kept() == [("iris", 1.0, "ann")]
    nobodys = an_outcome(START + 3, request_id="r1", value=2.0)
    assert sent(nobodys, theirs) == 1
    assert kept() == [("iris", 2.0, "ann")], "a correction need not say all again"
    assert sent(an_outcome(START + 4, request_id="r1", endpoint="iris", value=3.0)) == 1
    assert kept() == [("iris", 3.0, "ann")]


def test_counts_of_some_endpoints(store: Store) -> None:
    add(store, an_outcome(unit="a", endpoint="iris"), an_outcome(request_id="x", endpoint="iris", metric="left"))
    add(store, an_outcome(unit="b", endpoint="shop"), an_outcome(request_id="y"), an_outcome(unit="c"))
    with store.read() as unit:
        assert (unit.feedback.counts(), unit.feedback.unknown()) == ({"bought": 4, "left": 1}, 2)
        assert (unit.feedback.counts(["iris"]), unit.feedback.unknown(["iris"])) == ({"bought": 1, "left": 1}, 1)
        assert (unit.feedback.counts(["shop"]), unit.feedback.unknown(["shop"])) == ({"bought": 1}, 0)


def test_outcomes_by_unit_by_request_and_by_prediction(store: Store) -> None:
    with store.begin() as unit:
        unit.exposures.add([an_exposure(name, variant) for name, variant in (("ann", "a"), ("bob", "b"), ("cyd", "b"))])
        unit.exposures.add([an_exposure("ann", "z", experiment="other")])
        unit.events.add([an_event("later", unit="cyd"), an_event("forced", unit="cyd", forced=True)])
    add(
        store,
        an_outcome(unit="ann", value=1.0),
        an_outcome(request_id="of-bob", value=2.0),
        an_outcome(request_id="later", value=3.0),
        an_outcome(request_id="forced", value=4.0),
        an_outcome(request_id="unknown", value=5.0),
        an_outcome(unit="stranger", value=6.0),
        an_outcome(unit="bob", value=None, label="yes"),
        an_outcome(unit="cyd", value=7.0, metric="left"),
        an_outcome(unit="cyd", value=8.0, endpoint="elsewhere"),
    )
    with store.read() as unit:
        assert unit.feedback.outcomes("colours", "bought") == [("a", "ann", 1.0), ("b", "bob", 2.0), ("b", "cyd", 3.0)]


def test_one_outcome_found_on_two_ways_counts_once(store: Store) -> None:
    with store.begin() as unit:
        unit.exposures.add([an_exposure("ann")])
        unit.events.add([an_event("of-ann", unit="ann")])
    add(store, an_outcome(unit="ann", request_id="of-ann", value=1.0))
    with store.read() as unit:
        assert unit.feedback.outcomes("colours", "bought") == [("baseline", "ann", 1.0)]


def test_what_happened_before_the_exposure_is_no_outcome(store: Store) -> None:
    with store.begin() as unit:
        unit.exposures.add([an_exposure("ann"), an_exposure("bob"), an_exposure("cyd")])
    add(store, an_outcome(START - 60, unit="ann"), an_outcome(START - 0.5, unit="bob"), an_outcome(unit="cyd"))
    with store.read() as unit:
        assert [who for _, who, _ in unit.feedback.outcomes("colours", "bought")] == ["bob", "cyd"]
        assert [who for _, who, _ in unit.feedback.outcomes("colours", "bought", before=True)] == ["ann", "bob"]


def test_the_history_has_one_pair_a_unit(store: Store) -> None:
    """A unit whose requests had many rows would be most of it, and with each of its values for each of the others."""
    add(store, *(an_outcome(unit="ann", request_id="r", row=row, value=float(row)) for row in range(5)))
    add(store, *(an_outcome(unit="ann", request_id="r", row=row, metric="x", value=row / 2) for row in range(5)))
    add(store, an_outcome(unit="bob", value=7.0), an_outcome(unit="bob", metric="x", value=3.0))
    add(store, an_outcome(unit="cyd", value=1.0), an_outcome(START + 9, unit="bob", metric="late", value=1.0))
    with store.read() as unit:
        assert unit.feedback.history("bought", "x", START + 5) == [(7.0, 3.0), (2.0, 1.0)]
        assert unit.feedback.history("bought", "x", START + 5, limit=1) == [(7.0, 3.0)]
        assert unit.feedback.history("bought", "late", START + 5) == []


def test_unknown_requests_are_counted(store: Store) -> None:
    with store.begin() as unit:
        unit.events.add([an_event("sampled")])
        unit.exposures.add([an_exposure("ann")])
    add(store, *(an_outcome(request_id=name) for name in ("sampled", "of-ann", "x", "y")), an_outcome(unit="z"))
    with store.read() as unit:
        assert unit.feedback.unknown() == 2


def test_what_is_sent_again_without_a_time_is_known(store: Store) -> None:
    """An answer that was lost is asked for again: the same label is no news, another one is a correction."""

    def sent(label: str, at: float) -> int:
        with store.begin() as unit:
            return unit.feedback.add([Feedback(metric="m", request_id="r", label=label, time=at, received=at)])

    assert [sent("a", 1.0), sent("a", 2.0), sent("b", 3.0), sent("b", 4.0)] == [1, 0, 1, 0]


def test_labels_that_came_in_a_time(store: Store) -> None:
    with store.begin() as unit:
        unit.events.add([an_event(f"r{n}", time=START + n) for n in range(4)])
        unit.events.add([an_event("r1", time=START + 5, variant="again"), an_event("r3", endpoint="other")])
    late = START + 90_000
    add(store, *(an_outcome(START, received=late + 3 - n, request_id=f"r{n}", value=1.5 * n) for n in range(4)))
    add(store, an_outcome(late, unit="ann"), an_outcome(late, request_id="nobody"))
    add(store, an_outcome(late + 9, request_id="r2", value=7.0))
    with store.read() as unit:
        found = [*unit.feedback.arrived("iris", "bought", START, late + 3)]
        assert [(one.event.request_id, one.event.variant, one.feedback.value) for one in found] == [
            ("r1", "baseline", 1.5),
            ("r3", "baseline", 4.5),
        ]
        assert all(one.event.outputs and not one.event.inputs for one in found)
        assert [one.event.request_id for one in unit.feedback.arrived("iris", "bought", late + 3, late + 10)] == [
            "r0",
            "r2",
        ]
        assert [*unit.feedback.arrived("iris", "left", START, late + 10)] == []


def test_labels_that_came_are_not_sought_in_all_events(store: Store) -> None:
    steps = plan(store, lambda unit: [*unit.feedback.arrived("iris", "bought", START, START + 1)])
    assert "ix_feedback_received (received>? AND received<?)" in steps[0], steps
    events = [step for step in steps if "events" in step or "earlier" in step]
    assert all("ix_events_request_id (request_id=?" in step for step in events), steps
    assert len(events) == 2, steps


def test_answers_come_beside_numbers_where_they_are_wanted(store: Store) -> None:
    with store.begin() as unit:
        unit.events.add([an_event("r1"), an_event("r2")])
    add(store, an_outcome(request_id="r1"), an_outcome(request_id="r2", value=None, label="setosa"))
    with store.read() as unit:
        light = [one.event.outputs for one in unit.feedback.labels("iris", "bought", START, START + 1)]
        whole = [*unit.feedback.labels("iris", "bought", START, START + 1, answers=True)]
    assert light == [b"", b'{"label":["setosa"]}']
    assert [one.event.outputs for one in whole] == [b'{"label":["setosa"]}'] * 2
    assert not any(one.event.inputs for one in whole)


def told(store: Store, until: float = START + 9) -> list[tuple[str, int | None, str | None]]:
    """What ``labels`` gives, ``arrived`` must give too."""
    with store.read() as unit:
        found = [*unit.feedback.labels("iris", "bought", START, until)]
        came = [*unit.feedback.arrived("iris", "bought", 0.0, math.inf)]
    seen = [(one.event.request_id, one.feedback.row, one.feedback.label) for one in found]
    assert seen == [(one.event.request_id, one.feedback.row, one.feedback.label) for one in came]
    return seen


def known_times(store: Store) -> list[float]:
    with store.read() as unit:
        return sorted(made for made, _ in unit.feedback.times("iris", "bought", 0.0))


def test_labels_of_rows_that_a_request_did_not_have_are_left_out(store: Store) -> None:
    with store.begin() as unit:
        unit.events.add([an_event("two", rows=2), an_event("one", time=START + 1)])
    add(store, *(an_outcome(request_id=name, row=row, label=None) for name in ("two", "one") for row in (0, 1, 2)))
    assert [(name, row) for name, row, _ in told(store)] == [("two", 0), ("two", 1), ("one", 0)]
    assert known_times(store) == [START, START, START + 1]


def test_the_only_row_of_a_request_has_one_label_named_or_not(store: Store) -> None:
    with store.begin() as unit:
        unit.events.add([an_event(name, time=START + n) for n, name in enumerate("abc")])
        unit.events.add([an_event("d", time=START + 3, rows=2)])
    for name, earlier, later in (("a", None, 0), ("b", 0, None)):
        add(store, an_outcome(START + 5, request_id=name, row=earlier, label="old"))
        add(store, an_outcome(START + 6, request_id=name, row=later, label="new"))
    add(store, an_outcome(START + 5, request_id="c", label="first"), an_outcome(START + 5, request_id="c", row=1))
    add(store, an_outcome(START + 5, request_id="c", row=0, label="second"))
    add(store, an_outcome(START + 6, request_id="a", row=None, label="elsewhere", endpoint="other"))
    add(store, an_outcome(START + 5, request_id="d", label="all"), an_outcome(START + 5, request_id="d", row=0))
    assert told(store)[:3] == [("a", 0, "new"), ("b", None, "new"), ("c", None, "first")]
    assert [(name, row) for name, row, _ in told(store)[3:]] == [("d", None), ("d", 0)]
    assert known_times(store) == [START, START + 1, START + 2, START + 3], "the label of all rows is about none of them"


def test_a_request_that_was_sent_again_has_each_label_once(store: Store) -> None:
    with store.begin() as unit:
        unit.events.add([an_event("r", time=START + n, rows=3) for n in range(4)])
    add(store, *(an_outcome(request_id="r", row=row, label=str(row)) for row in range(3)))
    assert told(store) == [("r", 0, "0"), ("r", 1, "1"), ("r", 2, "2")]
    assert known_times(store) == [START] * 3


def test_labels_that_come_mixed_are_put_in_the_order_of_their_requests(store: Store) -> None:
    """Else what was answered for thousands of rows would be read for each of them."""
    outputs = b'{"predictions":[%s]}' % b",".join([b"0.5"] * 50)
    with store.begin() as unit:
        unit.events.add([an_event(f"r{n}", rows=50, outputs=outputs) for n in range(40)])
    for row in range(50):
        add(store, *(an_outcome(START + row, request_id=f"r{n}", row=row, label="1", value=None) for n in range(40)))
    read: list[str] = []

    @event.listens_for(store.engine, "before_cursor_execute")
    def remember(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        read.append(statement)

    with store.read() as unit:
        found = [*unit.feedback.arrived("iris", "bought", 0.0, math.inf)]
    assert len([one for one in read if "SELECT events.outputs" in one]) == 40
    assert {(one.event.request_id, one.row) for one in found} == {
        (f"r{n}", row) for n in range(40) for row in range(50)
    }
    assert {one.event.outputs for one in found} == {outputs}


def test_large_answers_are_read_when_they_are_wanted(store: Store) -> None:
    """A thousand of them at once, beside numbers that nobody compares with them, would fill the memory."""
    large = b'{"label":["%s"]}' % (b"x" * 5000)
    with store.begin() as unit:
        unit.events.add([an_event("r1", outputs=large), an_event("r2", outputs=large, time=START + 1)])
    add(store, an_outcome(request_id="r1"), an_outcome(request_id="r2", value=None, label="x"))
    with store.read() as unit:
        assert [one.event.outputs for one in unit.feedback.labels("iris", "bought", START, START + 2)] == [b"", large]
        assert [one.event.outputs for one in unit.feedback.arrived("iris", "bought", 0.0, math.inf)] == [large] * 2


@pytest.mark.parametrize("answers", [True, False])
def test_what_was_answered_for_several_rows_is_read_once(store: Store, answers: bool) -> None:
    """Beside each of its labels it would be as many times as large as it is."""
    outputs = b'{"predictions":[%s]}' % b",".join([b"0.5"] * 500)
    with store.begin() as unit:
        unit.events.add([an_event("r1", rows=500, outputs=outputs), an_event("r2", time=START + 1)])
    add(store, *(an_outcome(request_id="r1", row=row, value=None, label="1") for row in range(400)))
    add(store, *(an_outcome(request_id="r1", row=row, value=1.0) for row in range(400, 500)))
    add(store, an_outcome(request_id="r2", value=None, label="setosa"))
    read: list[str] = []

    def remember(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        read.append(statement)

    event.listen(store.engine, "before_cursor_execute", remember)
    with store.read() as unit:
        found = [*unit.feedback.labels("iris", "bought", START, START + 9, answers=answers)]
        assert len([one for one in read if "SELECT events.outputs" in one]) == 1
        assert len([*unit.feedback.arrived("iris", "bought", START - 9, START + 9)]) == len(found)
    event.remove(store.engine, "before_cursor_execute", remember)
    assert sorted(one.row for one in found[:-1] if one.row is not None) == [*range(500)]
    assert [one.event.outputs for one in found[:400]] == [outputs] * 400
    assert [one.event.outputs for one in found[400:-1]] == [outputs if answers else b""] * 100
    assert found[-1].event.outputs == b'{"label":["setosa"]}'
