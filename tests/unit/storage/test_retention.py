from __future__ import annotations

from typing import Any

import msgspec
import pytest
from sqlalchemy import event, func, select

from tests.unit.storage.makers import (
    START,
    a_beat,
    a_change,
    a_release,
    a_snapshot,
    a_window,
    an_event,
    an_experiment,
    an_exposure,
    an_outcome,
)
from tidegate.settings import Retention
from tidegate.storage.records import EvidenceRow, IdempotencyRow, SessionRow
from tidegate.storage.retention import DAY, purge
from tidegate.storage.store import Store
from tidegate.storage.tables import feedback

KEEP = Retention(windows="10d", events="10d", exposures="10d", feedback="10d", releases="20d")


def test_windows_of_a_kept_release_stay_as_long_as_it_does(store: Store) -> None:
    ended = a_release("r1", created=START, changed=START + 1000, open=False)
    with store.begin() as unit:
        unit.releases.add(ended, a_change("r1"))
        unit.releases.add_evidence(EvidenceRow("r1", 0, START, "{}"))
        starts = {1: START - 500, 2: START - 5, 3: START + 500, 4: START + 1005, 5: START + 1500}
        unit.windows.add([a_window(number, start=start) for number, start in starts.items()])
        unit.windows.add([a_window(3, start=START + 500, endpoint="other")])
    first = purge(store, KEEP, START + 15 * DAY)
    assert (first["windows"], first["releases"], first["release_events"]) == (3, 0, 0)
    with store.read() as unit:
        assert [one.window.sequence for one in unit.windows.after("iris", 0)] == [2, 3, 4]
    second = purge(store, KEEP, START + 21 * DAY)
    assert (second["windows"], second["releases"], second["release_events"]) == (3, 1, 1)
    assert second["release_evidence"] == 1


def test_an_open_release_and_its_windows_never_go(store: Store) -> None:
    with store.begin() as unit:
        unit.releases.add(a_release("r1"), a_change("r1"))
        unit.windows.add([a_window(1), a_window(2, start=START + 50 * DAY)])
    gone = purge(store, KEEP, START + 99 * DAY)
    assert (gone["windows"], gone["releases"], gone["release_events"]) == (0, 0, 0)


def test_events_and_feedback_go_by_age(store: Store) -> None:
    with store.begin() as unit:
        unit.events.add([an_event("r1"), an_event("r2", time=START + DAY)])
        unit.feedback.add([an_outcome(START, unit="a"), an_outcome(START + DAY, unit="b")])
    gone = purge(store, KEEP, START + 10.5 * DAY)
    assert (gone["events"], gone["feedback"]) == (1, 1)
    with store.read() as unit:
        assert list(unit.events.by_request_ids(["r1", "r2"], "iris")) == ["r2"]


def test_exposures_stay_while_their_experiment_runs(store: Store) -> None:
    with store.begin() as unit:
        unit.experiments.add(an_experiment("colours", state="stopped"))
        unit.experiments.add(an_experiment("shapes"))
        unit.exposures.add(
            [an_exposure("a"), an_exposure("b", time=START + 9 * DAY), an_exposure("a", experiment="shapes")]
        )
    assert purge(store, KEEP, START + 11 * DAY)["exposures"] == 1
    with store.read() as unit:
        assert unit.exposures.counts("colours") == unit.exposures.counts("shapes") == {"baseline": 1}


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_a_report_loses_nothing_while_it_runs_and_for_the_retention_after_its_end(store: Store, state: str) -> None:
    """An experiment of 30 days, and all that came in time: by unit, by request, by a later prediction, and before."""
    ended = START + 30 * DAY
    body = f'{{"ended":{ended if state == "stopped" else 0.0},"spec":{{"name":"colours"}}}}'
    names = ("ann", "bob", "cyd", "dan")
    with store.begin() as unit:
        unit.experiments.add(an_experiment("colours", state=state, body=body))
        unit.exposures.add([an_exposure(name) for name in names])
        unit.events.add([an_event("later", unit="cyd"), an_event("forced", unit="dan", forced=True)])
        unit.feedback.add(
            [an_outcome(unit="ann"), an_outcome(request_id="of-bob"), an_outcome(START - DAY, unit="ann", metric="x")]
        )
        unit.feedback.add([an_outcome(request_id="later"), an_outcome(request_id="forced")])
        unit.feedback.add([an_outcome(START - 11 * DAY, unit="dan")])

    def told() -> tuple[dict[str, int], list[str], list[str]]:
        with store.read() as unit:
            outcomes, before = unit.feedback.outcomes("colours", "bought"), unit.feedback.outcomes("colours", "x", True)
            return unit.exposures.counts("colours"), [who for _, who, _ in outcomes], [who for _, who, _ in before]

    whole = ({"baseline": 4}, ["ann", "bob", "cyd"], ["ann"])
    assert told() == whole
    gone = purge(store, KEEP, ended + 9 * DAY)
    assert (gone["events"], gone["exposures"], gone["feedback"]) == (2, 0, 1)
    assert told() == whole
    gone = purge(store, KEEP, ended + 11 * DAY)
    assert (gone["exposures"], gone["feedback"]) == ((0, 0) if state == "running" else (4, 5))


def test_feedback_says_whose_it_is_before_the_prediction_goes(store: Store) -> None:
    """For the endpoint of the prediction alone, as the prediction did; and a correction takes it not back."""
    with store.begin() as unit:
        unit.experiments.add(an_experiment("colours"))
        unit.experiments.add(an_experiment("shapes"))
        unit.exposures.add([an_exposure("ann"), an_exposure("ann", experiment="shapes", endpoint="shop")])
        unit.exposures.add([an_exposure("bob", experiment="shapes", endpoint="shop", request_id="both")])
        unit.events.add([an_event("r", unit="ann"), an_event("r", unit="eve"), an_event("both", unit="ann")])
        unit.feedback.add([an_outcome(request_id="r", value=1.0), an_outcome(request_id="both", value=2.0)])
    assert purge(store, KEEP, START + 11 * DAY, batch=1)["events"] == 3
    with store.begin() as unit:
        assert unit.feedback.outcomes("colours", "bought") == [("baseline", "ann", 1.0)]
        assert unit.feedback.outcomes("shapes", "bought") == [("baseline", "bob", 2.0)]
        assert unit.feedback.add([an_outcome(START + 2, request_id="r", value=3.0)]) == 1
        assert unit.feedback.outcomes("colours", "bought") == [("baseline", "ann", 3.0)]
        assert unit.feedback.outcomes("shapes", "bought") == [("baseline", "bob", 2.0)]


def test_labels_of_large_requests_are_told_some_requests_at_a_time(store: Store) -> None:
    """Everybody who writes waits for one batch: of five requests with a hundred rows each it is two."""
    with store.begin() as unit:
        unit.events.add([an_event(f"r{n}", unit=f"u{n}", rows=100, time=START + n) for n in range(5)])
        unit.feedback.add([an_outcome(request_id=f"r{n}", row=row) for n in range(5) for row in range(100)])
    told: list[int] = []

    @event.listens_for(store.engine, "before_cursor_execute")
    def remember(_connection: Any, _cursor: Any, statement: str, given: Any, _context: Any, many: bool) -> None:
        if statement.startswith("UPDATE feedback"):
            told.append(len(given) if many else 1)

    keep = msgspec.structs.replace(KEEP, feedback="99d")
    assert purge(store, keep, START + 10.5 * DAY, batch=250)["events"] == 5
    assert told == [200, 200, 100]
    with store.read() as unit:
        units = unit.connection.execute(select(feedback.c.unit, func.count()).group_by(feedback.c.unit)).all()
    assert sorted(units) == [(f"u{n}", 100) for n in range(5)]


def test_the_audit_log_and_the_snapshots_stay(store: Store) -> None:
    with store.begin() as unit:
        unit.audit.append("ann", "a", "t", "{}", START)
        unit.snapshots.publish(a_snapshot(), reason="r", author="ann", at=START)
        unit.instances.beat(a_beat("a"))
        unit.instances.acknowledge(2, "a", START)
        unit.sessions.add(SessionRow("d", "k", START, START + 60, "c"))
        unit.idempotency.put(IdempotencyRow("k", "ann", "", 200, "{}", START))
        unit.deliveries.add("d", START)
    gone = purge(store, KEEP, START + 999 * DAY)
    assert {name for name, count in gone.items() if count} == {"instances", "sessions", "idempotency", "deliveries"}
    with store.read() as unit:
        assert unit.audit.last() is not None
        assert unit.snapshots.latest() is not None
        assert len(unit.instances.acknowledgements(2)) == 1


def test_many_rows_go_in_batches(store: Store) -> None:
    with store.begin() as unit:
        unit.events.add([an_event(f"r{n}") for n in range(25)])
    assert purge(store, KEEP, START + 99 * DAY, batch=10)["events"] == 25
    assert purge(store, KEEP, START + 99 * DAY, batch=10)["events"] == 0
