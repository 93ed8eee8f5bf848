"""Figures as data and as tables, and the evidence kept for them."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest

from tests.e2e import seed
from tests.stores import sqlite_store
from tidegate.console import pictures
from tidegate.console.text import THIN
from tidegate.console.traces import MOST_LOG10, MOST_POINTS, MOST_RELEASES, Line, Point, Tick, Trace, Traces, extend
from tidegate.control.figures import VariantFigures
from tidegate.metrics import bin_of
from tidegate.storage.records import EvidenceRow
from tidegate.types import Verdict


def test_latencies_stand_side_by_side_on_one_axis() -> None:
    slow, fast = {bin_of(0.01): 3, bin_of(0.1): 1}, {bin_of(0.001): 2}
    found = pictures.latency([
        VariantFigures(variant="baseline", version="3", latency=slow, p50=0.01, p99=0.1),
        VariantFigures(variant="candidate", version="4", latency=fast),
        VariantFigures(variant="silent"),
    ])  # fmt: skip
    assert found is not None
    edges, series = found.payload["edges"], found.payload["series"]
    assert [len(one["values"]) for one in series] == [len(edges)] * 2 == [len(found.rows)] * 2
    assert [round(sum(one["values"])) for one in series] == [100, 100]
    assert all(low < high for low, high in edges)
    assert found.head == ["Latency", "baseline", "candidate"]
    assert pictures.latency([VariantFigures(variant="silent")]) is None


def test_outputs_are_shares_of_each_sides_own_rows() -> None:
    found = pictures.outputs({"baseline": {"yes": 30, "no": 10}, "candidate": {"yes": 1}, "shadow": {}})
    assert found is not None
    assert found.payload["kinds"] == ["no", "yes"]
    assert [one["values"] for one in found.payload["series"]] == [[25.0, 75.0], [0.0, 100.0]]
    assert found.rows == [["no", f"25{THIN}%", f"0{THIN}%"], ["yes", f"75{THIN}%", f"100{THIN}%"]]
    numbers = pictures.outputs({"baseline": {"0.2": 5, "0.1": 1}})
    assert numbers is not None
    assert numbers.payload["kinds"] == ["0.1", "0.2"], "bins of numbers stay in their order"
    many = pictures.outputs({"baseline": {f"kind {n}": n + 1 for n in range(50)}})
    assert many is not None
    assert len(many.payload["kinds"]) == pictures.MOST_KINDS
    assert pictures.outputs({"baseline": {}}) is None


@pytest.mark.parametrize(("log10", "written"), [(0, "1"), (2, "100"), (-1, "0.1"), (7.25, "10^7.2"), (-5, "10^-5.0")])
def test_e_values_are_written_for_people(log10: float, written: str) -> None:
    assert pictures.e_value(log10) == written


def test_evidence_has_its_threshold_and_its_steps() -> None:
    line = Line("errors", "test", 2.0, [Point(100.0 + n, n / 50, -n / 50, 1.5, "undecided") for n in range(100)])
    found = pictures.evidence(line, Trace({}, [(100.0, 100), (150.0, 500)]))
    assert found.payload["threshold"] == 2.0
    assert found.payload["shares"] == [[100_000, 1.0], [150_000, 5.0]]
    assert len(found.payload["points"]) == 100
    assert len(found.rows) == pictures.TABLE_ROWS
    assert found.rows[-1][1] == pictures.e_value(99 / 50)


def test_intervals_follow_each_arm() -> None:
    reports = [seed._report("try", seed.NOW + n, 1000 + n, 0.0) for n in range(400)]
    found = pictures.intervals(reports, "conversion")
    assert found is not None
    assert [arm["name"] for arm in found.payload["arms"]] == ["bold", "bolder"]
    assert all(len(arm["points"]) == 300 for arm in found.payload["arms"])
    assert found.payload["arms"][0]["points"][-1][0] == round((seed.NOW + 399) * 1000)
    assert len(found.rows) == pictures.TABLE_ROWS
    assert pictures.intervals(reports, "unknown") is None
    assert pictures.intervals([], "conversion") is None


def verdict(evidence: float = 1.0, guardrail: str = "errors") -> Verdict:
    return Verdict(
        guardrail=guardrail, test="t", outcome="undecided", reason="", evidence=evidence, threshold=math.log(100)
    )


def test_a_trace_stays_small_and_keeps_the_newest() -> None:
    trace = Trace({}, [])
    for number in range(5000):
        extend(trace, number, float(number), Tick(verdicts=(verdict(number),), share=100 if number < 9 else 500))
    points = trace.lines["errors"].points
    assert MOST_POINTS <= len(points) < 2 * MOST_POINTS
    assert points[-1].time == 4999.0
    assert points[-1].against == MOST_LOG10
    assert [point.time for point in points] == sorted({point.time for point in points})
    assert trace.shares == [(0.0, 100), (9.0, 500)]
    assert (trace.tick, trace.looks) == (4999, 5000)


def test_two_verdicts_of_one_guardrail_are_two_lines() -> None:
    trace = Trace({}, [])
    extend(trace, 0, 0.0, Tick(verdicts=(verdict(guardrail="outcome"), verdict(guardrail="outcome"))))
    assert list(trace.lines) == ["outcome", "outcome 2"]


def test_infinite_evidence_is_drawn_at_the_edge() -> None:
    trace = Trace({}, [])
    extend(trace, 0, 0.0, Tick(verdicts=(verdict(math.inf), verdict(-math.inf))))
    assert [line.points[0].against for line in trace.lines.values()] == [MOST_LOG10, -MOST_LOG10]


def test_traces_read_only_what_is_new(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path)

    def look(release: str, tick: int) -> None:
        body = msgspec.json.encode({"verdicts": [verdict(tick)], "share": 100, "requests": tick, "other": 1}).decode()
        with store.begin() as unit:
            unit.releases.add_evidence(EvidenceRow(release, tick, float(tick), body))

    traces = Traces(store)
    assert traces.of("r").looks == 0
    for tick in range(3):
        look("r", tick)
    first = traces.of("r")
    look("r", 3)
    again = traces.of("r")
    assert (first.looks, again.looks, again.requests) == (3, 4, 3)
    assert len(first.lines["errors"].points) == 3, "what was handed out does not change"
    for number in range(MOST_RELEASES + 5):
        traces.of(f"other-{number}")
    assert len(traces._kept) == MOST_RELEASES
    store.close()
