"""Figures over time: measured and estimated apart, releases between them, and a table that says the same."""

from __future__ import annotations

import msgspec
import pytest

from tests.e2e.watched import BEGIN, performances, report, result
from tidegate.console import courses
from tidegate.console.courses import Mark
from tidegate.console.pictures import TABLE_ROWS


def test_measured_and_estimated_quality_are_told_apart() -> None:
    marks = [Mark(BEGIN, "v4 promoted", "good")]
    found = courses.quality(performances(), "accuracy", "prediction", marks, {"at least 0.86": 0.86})
    assert found is not None
    series = {one["name"]: one for one in found.payload["series"]}
    assert set(series) == {"baseline", "baseline, estimated"}
    assert series["baseline"]["dashed"] is False
    assert series["baseline, estimated"]["dashed"] is True
    assert len(series["baseline"]["points"]) < len(series["baseline, estimated"]["points"])
    assert all(low <= value <= high for _, value, low, high in series["baseline"]["points"])
    assert found.payload["marks"] == [[BEGIN * 1000, "v4 promoted", "good"]]
    assert found.payload["lines"] == [[0.86, "at least 0.86"]]
    assert found.rows[0][1] == "baseline v4, estimated", "the newest first"
    assert len(found.rows) == TABLE_ROWS


def test_labels_by_arrival_are_another_picture() -> None:
    by_prediction = courses.quality(performances(), "accuracy", "prediction")
    by_arrival = courses.quality(performances(), "accuracy", "arrival")
    assert by_prediction is not None
    assert by_arrival is not None
    first, second = (
        next(one["points"] for one in found.payload["series"] if one["name"] == "baseline")
        for found in (by_prediction, by_arrival)
    )
    assert first[0][0] < second[0][0], "late labels come later"
    assert first[-1][0] < second[-1][0]
    assert courses.quality(performances(), "r2", "prediction") is None


def test_the_newest_window_with_the_metric_stands_for_now() -> None:
    windows = performances()
    found = courses.newest(windows, "accuracy", "prediction", "baseline")
    assert found is not None
    assert found.start == max(one.start for one in windows if one.basis == "prediction")
    assert courses.newest(windows, "accuracy", "prediction", "candidate") is None
    assert courses.newest(windows, "r2", "prediction", "baseline") is None


@pytest.mark.parametrize(
    ("names", "bounds", "main"),
    [
        (("f1", "accuracy"), (), "accuracy"),
        (("mae", "rmse"), ("mae",), "mae"),
        (("odd",), ("f1",), "odd"),
        ((), (), ""),
    ],
)
def test_a_bounded_metric_stands_for_all(names: tuple[str, ...], bounds: tuple[str, ...], main: str) -> None:
    assert courses.main_metric(names, bounds) == main


def test_a_features_statistic_stands_beside_its_own_threshold() -> None:
    reports = [report(i, columns=(result("age", 0.3 + i),)) for i in (1, 0)]
    few = report(2, columns=(result("age", 9.0, note="too few"),))
    found = courses.statistic([*reports, few], "age")
    assert found is not None
    statistic, threshold = found.payload["series"]
    assert [point[1] for point in statistic["points"]] == [0.033, 0.143]
    assert [point[1] for point in threshold["points"]] == [0.11, 0.11]
    assert [row[-1] for row in found.rows] == ["yes", "no"]
    assert courses.statistic(reports, "none") is None


def test_pictures_are_json() -> None:
    found = courses.quality(performances(), "f1", "arrival")
    assert found is not None
    assert msgspec.json.decode(msgspec.json.encode(found.payload)) == found.payload
