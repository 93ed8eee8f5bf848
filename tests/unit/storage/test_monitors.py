"""What monitoring keeps: events in their order, how far it came, windows, reports, baselines, alerts."""

from __future__ import annotations

import msgspec

from tests.unit.storage.makers import START, an_event
from tidegate.storage.records import (
    AlertEventRow,
    AlertRow,
    BaselineRow,
    DriftReportRow,
    MonitorRow,
    PerformanceRow,
    ProfileRow,
)
from tidegate.storage.store import Store

HOUR = 3600.0


def a_profile(start: float, variant: str = "baseline", rows: int = 10) -> ProfileRow:
    return ProfileRow("iris", variant, "3", "sha256:a", start, HOUR, rows, "{}")


def a_report(name: str, start: float, endpoint: str = "iris", created: float = 0.0) -> DriftReportRow:
    return DriftReportRow(name, endpoint, "baseline", "3", start, HOUR, created or start + HOUR, False, "{}")


def a_baseline(name: str, endpoint: str = "iris", created: float = START) -> BaselineRow:
    return BaselineRow(name, endpoint, "iris", "3", f"sha256:{name}", created, '{"large": 1}')


def an_alert(rule: str, endpoint: str = "iris", state: str = "firing", changed: float = START) -> AlertRow:
    return AlertRow(f"{endpoint}-{rule}", endpoint, rule, state, START, changed, 0, "{}")


def test_new_events_come_once_each_in_the_order_they_were_written(store: Store) -> None:
    with store.begin() as unit:
        unit.events.add([an_event(f"r{n}", time=START - n) for n in range(5)])
        unit.events.add([an_event("other", endpoint="other")])
    with store.read() as unit:
        first = unit.events.after(0, "iris", 3)
        rest = unit.events.after(first[-1][0], "iris", 3)
        assert [event.request_id for _, event in first + rest] == [f"r{n}" for n in range(5)]
        assert unit.events.waiting("iris", first[-1][0]) == START - 3
        assert unit.events.waiting("iris", rest[-1][0]) is None
        assert unit.events.first_since("iris", START - 1) == first[0][0]
        assert unit.events.first_since("iris", START + 1) == 0


def test_a_monitor_is_put_again_and_again(store: Store) -> None:
    for cursor in (3, 9):
        with store.begin() as unit:
            unit.monitors.put(MonitorRow("iris", cursor, START, "{}"))
    with store.begin() as unit:
        unit.monitors.put(MonitorRow("churn", 0, START, "{}"))
        found = unit.monitors.get("iris")
    assert found is not None
    assert found.cursor == 9
    with store.read() as unit:
        assert [row.endpoint for row in unit.monitors.all()] == ["churn", "iris"]


def test_windows_are_replaced_and_found_by_their_time(store: Store) -> None:
    with store.begin() as unit:
        for rows in (10, 20):
            unit.monitors.put_profile(a_profile(START, rows=rows))
        unit.monitors.put_profile(a_profile(START + HOUR, "candidate"))
        unit.monitors.put_performance(PerformanceRow("iris", "baseline", "3", "arrival", START, HOUR, 5, "{}"))
    with store.read() as unit:
        one = unit.monitors.profile("iris", "baseline", "3", "sha256:a", START)
        assert one is not None
        assert one.rows == 20
        assert [row.variant for row in unit.monitors.profiles("iris", START, START + 2 * HOUR)] == [
            "baseline",
            "candidate",
        ]
        assert not unit.monitors.profiles("iris", START, START + HOUR, "candidate")
        assert len(unit.monitors.performance("iris", START, START + 1)) == 1
    with store.begin() as unit:
        assert unit.monitors.forget("iris", "sha256:a") == 2


def test_a_report_replaces_the_one_of_its_id(store: Store) -> None:
    with store.begin() as unit:
        for created in (START + 10, START + 20):
            unit.monitors.put_report(a_report("a", START, created=created))
        unit.monitors.put_report(a_report("b", START + HOUR))
        unit.monitors.put_report(a_report("c", START, endpoint="churn", created=START + 5))
    with store.read() as unit:
        assert [row.id for row in unit.monitors.reports()] == ["b", "a", "c"]
        assert [row.id for row in unit.monitors.reports(limit=1, cursor="b")] == ["a"]
        assert [row.id for row in unit.monitors.reports("churn")] == ["c"]
        assert [row.id for row in unit.monitors.reports(among=("iris",))] == ["b", "a"]
        assert [row.id for row in unit.monitors.reports_of("iris", "baseline", START, START + HOUR, 10)] == ["a"]
        assert [row.id for row in unit.monitors.reports_of("iris", "baseline", START, START + 2 * HOUR, 10)] == [
            "b",
            "a",
        ]


def test_baselines_are_listed_without_what_is_in_them(store: Store) -> None:
    with store.begin() as unit:
        unit.baselines.put(a_baseline("old"))
        unit.baselines.put(a_baseline("new", created=START + 1))
        unit.baselines.put(a_baseline("theirs", "churn"))
    with store.read() as unit:
        assert [(row.name, row.body) for row in unit.baselines.list()] == [("new", ""), ("theirs", ""), ("old", "")]
        assert [row.name for row in unit.baselines.list(among=("churn",))] == ["theirs"]
        assert [row.name for row in unit.baselines.list(limit=5, cursor="new")] == ["theirs", "old"]
        assert unit.baselines.get("old") == a_baseline("old")
        assert unit.baselines.by_digest("sha256:new") == a_baseline("new", created=START + 1)
        assert unit.baselines.digest_of("old") == "sha256:old"
        assert unit.baselines.digest_of("nothing") is None
    with store.begin() as unit:
        assert unit.baselines.delete("old")
        assert not unit.baselines.delete("old")


def test_alerts_are_found_by_ids_and_counted_while_they_fire(store: Store) -> None:
    with store.begin() as unit:
        for row in (an_alert("age"), an_alert("income", state="resolved"), an_alert("age", "churn", changed=START + 1)):
            unit.alerts.add(row, AlertEventRow(row.id, 0, START, row.state, "{}"))
    with store.read() as unit:
        assert {row.id for row in unit.alerts.of(["iris-age", "iris-income", "nothing"])} == {"iris-age", "iris-income"}
        assert unit.alerts.of([]) == []
        assert unit.alerts.firing() == {"iris": 1, "churn": 1}
        assert [row.id for row in unit.alerts.list(among=("iris",), states=("firing",))] == ["iris-age"]
        assert [row.endpoint for row in unit.alerts.list(limit=1)] == ["churn"]
        assert len(unit.alerts.events("iris-age")) == 1
    with store.begin() as unit:
        changed = msgspec.structs.replace(an_alert("age"), state="resolved", revision=1)
        unit.alerts.save(changed, AlertEventRow("iris-age", 1, START, "resolved", "{}"), 0)
        assert unit.alerts.firing() == {"churn": 1}
