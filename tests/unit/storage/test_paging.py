"""Every list that is read page by page: rows of one moment in the order of their keys, none twice and none left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.unit.storage.makers import START, a_change, a_release, an_experiment
from tidegate.storage.records import (
    AlertEventRow,
    AlertRow,
    BaselineRow,
    DocumentRow,
    DriftReportRow,
    JobRow,
    RetrainingRow,
)
from tidegate.storage.store import Store, Unit

NEWEST_FIRST = ["k4", "k3", "k2", "k1", "k0"]
"""With two rows a moment."""


def fill(store: Store) -> None:
    with store.begin() as unit:
        for number in (3, 0, 4, 2, 1):
            key, at, last = f"k{number}", START + number // 2, float(9 - number)
            unit.releases.add(a_release(key, endpoint=key, created=at), a_change(key))
            unit.retrainings.add(RetrainingRow(key, key, "training", True, at, last, 1, "{}"))
            unit.alerts.add(
                AlertRow(key, "iris", key, "firing", last, at, 1, "{}"), AlertEventRow(key, 1, at, "", "{}")
            )
            unit.documents.add(DocumentRow(key, "iris", "drift", at, "text/html", "{}", b"page"))
            unit.jobs.add(JobRow(key, "batch", "", "iris", "queued", True, last, at, last, 1, "", 0, 0.0, "{}"))
            unit.experiments.add(an_experiment(key, created=at))
            unit.baselines.put(BaselineRow(key, "iris", "iris", "3", key, at, "{}"))
            unit.monitors.put_report(DriftReportRow(key, "iris", "baseline", "3", last, 60.0, at, False, "{}"))


def lists(unit: Unit) -> dict[str, Callable[[int, str | None], Sequence[Any]]]:
    """By name, what gives ``limit`` rows from behind ``cursor``."""
    return {
        "releases": lambda limit, cursor: unit.releases.list(limit=limit, cursor=cursor),
        "retrainings": lambda limit, cursor: unit.retrainings.list(limit=limit, cursor=cursor),
        "alerts": lambda limit, cursor: unit.alerts.list(limit=limit, cursor=cursor),
        "documents": lambda limit, cursor: unit.documents.list(limit=limit, cursor=cursor),
        "jobs": lambda limit, cursor: unit.jobs.list(limit=limit, cursor=cursor),
        "experiments": lambda limit, cursor: unit.experiments.list(limit=limit, cursor=cursor),
        "baselines": lambda limit, cursor: unit.baselines.list(limit=limit, cursor=cursor),
        "drift reports": lambda limit, cursor: unit.monitors.reports(limit=limit, cursor=cursor),
    }


def key_of(row: Any) -> str:
    return str(getattr(row, row.__struct_fields__[0]))


def read(pages: Callable[[int, str | None], Sequence[Any]], limit: int) -> Iterator[str]:
    cursor = None
    while rows := pages(limit, cursor):
        assert len(rows) <= limit
        yield from map(key_of, rows)
        cursor = key_of(rows[-1])


def test_every_list_goes_back_page_by_page(store: Store) -> None:
    fill(store)
    with store.read() as unit:
        for limit in (1, 2, 3, 5, 9):
            found = {name: [*read(pages, limit)] for name, pages in lists(unit).items()}
            assert found == dict.fromkeys(found, NEWEST_FIRST)


def test_nothing_comes_after_a_row_that_is_gone(store: Store) -> None:
    fill(store)
    with store.read() as unit:
        found = {name: len(pages(5, "gone")) for name, pages in lists(unit).items()}
    assert set(found.values()) == {0}
