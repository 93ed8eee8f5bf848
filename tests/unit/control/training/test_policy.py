from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.control.monitoring.records import Alert
from tidegate.control.training.policy import Decision, Facts, decide
from tidegate.monitor_plan import RetrainPlan

HOUR, DAY = 3600.0, 86_400.0
NOW = 100 * DAY
PLAN = RetrainPlan(config="train.yaml")


def alert(**changes: Any) -> Alert:
    given: dict[str, Any] = {
        "id": "a-1", "endpoint": "churn", "rule": "drift:baseline:age", "source": "drift", "variant": "baseline",
        "version": "3", "state": "firing", "statistic": "psi", "value": 0.4, "threshold": 0.1, "rows": 500,
        "window": NOW - HOUR, "window_seconds": HOUR, "created": NOW - HOUR, "changed": NOW - HOUR, "report": "d-1",
        "text": "age drifted", "command": "",
    }  # fmt: skip
    return Alert(**{**given, **changes})


def facts(**changes: Any) -> Facts:
    given: dict[str, Any] = {"now": NOW, "version": "3", "alerts": [alert()], "labels": 500}
    return Facts(**{**given, **changes})


def test_a_firing_alert_starts_one_and_is_named() -> None:
    found = decide(PLAN, facts(alerts=[alert(), alert(id="a-2", report="d-1", text="plan drifted")]))
    assert found == Decision(
        start=True, reason="age drifted, and 1 more", trigger="alert", alerts=("a-1", "a-2"), reports=("d-1",)
    )


@pytest.mark.parametrize(
    "other",
    [
        {"state": "resolved"},
        {"source": "quality"},
        {"variant": "candidate"},
        {"version": "2"},
        {"silenced_until": NOW + 1},
    ],
)
def test_other_alerts_start_nothing(other: dict[str, Any]) -> None:
    assert decide(PLAN, facts(alerts=[alert(**other)])) == Decision(start=False, reason="no alert that starts it fires")


@pytest.mark.parametrize(
    ("plan", "given", "why"),
    [
        ({}, {"open": "t-9"}, "retraining t-9 has not ended yet"),
        ({}, {"last": NOW - HOUR}, "the last one was 1.0 h ago; cooldown is 6h"),
        ({}, {"week": 7}, "7 began by themselves in the last seven days; max_per_week is 7"),
        (
            {},
            {"labels": 199, "metric": "accuracy"},
            "199 rows were labelled, by feedback of the metric 'accuracy'; min_labels is 200",
        ),
        (
            {},
            {"labels": 9, "last": NOW - 9 * HOUR},
            "9 rows were labelled since the last one, by feedback of the metric ''; min_labels is 200",
        ),
    ],
)
def test_what_stands_in_the_way_is_said(plan: dict[str, Any], given: dict[str, Any], why: str) -> None:
    found = decide(msgspec.structs.replace(PLAN, **plan), facts(**given))
    assert not found.start
    assert found.reason == f"{why} (wanted since: age drifted)"
    assert found.alerts == ("a-1",)


def test_features_alone_need_no_labels() -> None:
    assert decide(msgspec.structs.replace(PLAN, mode="features"), facts(labels=0)).start


def test_labels_that_nobody_counted_do_not_count() -> None:
    assert decide(PLAN, facts(labels=None)).start


@pytest.mark.parametrize(
    ("given", "start"),
    [
        ({"last": NOW - 8 * DAY}, True),
        ({"last": NOW - 6 * DAY}, False),
        ({"began": NOW - 8 * DAY}, True),
        ({"began": NOW - 6 * DAY}, False),
        ({"last": NOW - 6 * DAY, "began": NOW - 90 * DAY}, False),
        ({}, False),
    ],
)
def test_the_calendar_starts_one(given: dict[str, Any], start: bool) -> None:
    plan = msgspec.structs.replace(PLAN, every="7d")
    found = decide(plan, facts(alerts=[], **given))
    assert found.start is start
    assert found.trigger == ("schedule" if start else "alert")


def test_a_calendar_that_knows_no_beginning_says_so() -> None:
    plan = msgspec.structs.replace(PLAN, every="7d")
    assert "no registry says how old the model is" in decide(plan, facts(alerts=[])).reason
    assert "it is not time yet" in decide(plan, facts(alerts=[], began=NOW - DAY)).reason


@given(
    st.floats(0, 20 * DAY),
    st.integers(0, 10),
    st.integers(0, 400),
    st.booleans(),
    st.sampled_from(["drift", "quality"]),
)
def test_every_start_keeps_all_rules(ago: float, week: int, labels: int, busy: bool, source: Any) -> None:
    found = decide(
        PLAN, facts(last=NOW - ago, week=week, labels=labels, open="t" if busy else "", alerts=[alert(source=source)])
    )
    assert found.start == (source == "drift" and not busy and ago >= 6 * HOUR and week < 7 and labels >= 200)
    assert found.reason
