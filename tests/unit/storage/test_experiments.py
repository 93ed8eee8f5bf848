from __future__ import annotations

import msgspec
import pytest

from tests.unit.storage.makers import START, an_experiment
from tidegate.errors import Conflict, LostRace
from tidegate.storage.records import ReportRow
from tidegate.storage.store import Store


def test_an_experiment_is_changed_by_who_saw_its_newest_revision(store: Store) -> None:
    row = an_experiment("colours")
    with store.begin() as unit:
        unit.experiments.add(row)
    stopped = msgspec.structs.replace(row, state="stopped", revision=2)
    with store.begin() as unit:
        unit.experiments.save(stopped, expected=1)
    with pytest.raises(LostRace, match="experiment colours was changed meanwhile"), store.begin() as unit:
        unit.experiments.save(row, expected=1)
    with store.read() as unit:
        assert unit.experiments.get("colours") == stopped
        assert unit.experiments.get("shapes") is None


def test_a_name_is_taken_once(store: Store) -> None:
    with store.begin() as unit:
        unit.experiments.add(an_experiment("colours"))
    with pytest.raises(Conflict, match="there is an experiment colours already"), store.begin() as unit:
        unit.experiments.add(an_experiment("colours"))


def test_lists_go_back_page_by_page(store: Store) -> None:
    with store.begin() as unit:
        for number in range(5):
            unit.experiments.add(an_experiment(f"e{number}", created=START + number // 2))
    with store.read() as unit:
        first = unit.experiments.list(limit=3)
        second = unit.experiments.list(limit=3, cursor=first[-1].name)
    assert [row.name for row in first + second] == ["e4", "e3", "e2", "e1", "e0"]


def test_reports_over_time(store: Store) -> None:
    with store.begin() as unit:
        for second, body in ((1, "a"), (2, "b"), (2, "c")):
            unit.experiments.add_report("colours", START + second, body)
    with store.read() as unit:
        reports = [ReportRow("colours", START + 1, "a"), ReportRow("colours", START + 2, "c")]
        assert unit.experiments.reports("colours") == reports
        assert unit.experiments.reports("colours", after=START + 1) == reports[1:]


def test_open_ones_are_listed_alone(store: Store) -> None:
    with store.begin() as unit:
        for state in ("pending", "running", "stopped", "failed"):
            unit.experiments.add(msgspec.structs.replace(an_experiment(state), state=state))
    with store.read() as unit:
        assert {row.name for row in unit.experiments.list(open=True)} == {"pending", "running"}


def test_a_report_is_dropped_by_its_moment(store: Store) -> None:
    with store.begin() as unit:
        for number in range(4):
            unit.experiments.add_report("colours", START + number, "{}")
        unit.experiments.add_report("shapes", START + 9, "{}")
        assert unit.experiments.newest_reports("colours", 2) == [START + 3, START + 2]
        unit.experiments.drop_report("colours", START + 3)
    with store.read() as unit:
        assert unit.experiments.newest_reports("colours", 2) == [START + 2, START + 1]
        assert len(unit.experiments.reports("shapes")) == 1
