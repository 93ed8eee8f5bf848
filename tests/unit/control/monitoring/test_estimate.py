"""Estimates without labels cover the truth where scores are calibrated, and it shows where they are not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tidegate.control.monitoring import estimate
from tidegate.control.monitoring.estimate import calibration, expected, expected_accuracy
from tidegate.control.monitoring.performance import measure

NAMES = ("no", "yes")
RUNS, ROWS = 200, 300


def drawn(
    rng: np.random.Generator, rows: int = ROWS, tempted: float = 1.0
) -> tuple[NDArray[np.float64], list[str], list[str]]:
    """Scores, predictions, truth. ``tempted`` above 1: scores more extreme than the chances."""
    chance = rng.beta(1.5, 2.5, rows)
    truth = rng.random(rows) < chance
    odds = tempted * np.log(chance / (1 - chance))
    shown = 1 / (1 + np.exp(-odds))
    return (
        np.column_stack([1 - shown, shown]),
        [NAMES[int(one > 0.5)] for one in shown],
        [NAMES[int(one)] for one in truth],
    )


@pytest.mark.slow
def test_the_estimate_covers_what_labels_show_later() -> None:
    rng = np.random.default_rng(5)
    held = {"accuracy": 0, "f1": 0, "roc_auc": 0}
    for _ in range(RUNS):
        scores, predicted, truth = drawn(rng)
        guessed, actual = expected(scores, predicted, NAMES, alpha=0.1), measure(truth, predicted, scores, NAMES)
        for name in held:
            held[name] += guessed[name].low <= actual[name].value <= guessed[name].high
    assert min(held.values()) / RUNS >= 0.9 - 3 * math.sqrt(0.09 / RUNS), held


@pytest.mark.slow
def test_the_estimate_is_right_on_average() -> None:
    rng = np.random.default_rng(6)
    scores, predicted, truth = drawn(rng, 50_000)
    actual = measure(truth, predicted, scores, NAMES)
    for name, metric in expected(scores, predicted, NAMES).items():
        assert metric.value == pytest.approx(actual[name].value, abs=0.008), name
    alone = expected_accuracy(scores)
    assert alone == expected(scores, predicted, NAMES)["accuracy"]


def test_several_classes_and_the_class_that_was_predicted() -> None:
    scores = [[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]
    assert expected(scores, ["b", "c"], ("a", "b", "c"))["accuracy"].value == pytest.approx(0.55)
    assert set(expected(scores, ["b", "c"], ("a", "b", "c"))) == {"accuracy"}
    alone = expected_accuracy(scores)
    assert alone is not None
    assert alone.value == pytest.approx(0.65)


def test_the_expected_area_is_the_mean_over_all_pairs() -> None:
    chances = np.array([0.1, 0.5, 0.5, 0.9, 0.3, 0.3, 0.3, 0.7, 0.6, 0.2])
    wins = total = 0.0
    for one, p in enumerate(chances):
        for other, q in enumerate(chances):
            if one != other:
                wins += p * (1 - q) * ((p > q) + 0.5 * (p == q))
                total += p * (1 - q)
    found = estimate._area(chances, 0.05)
    assert found is not None
    assert found.value == pytest.approx(wins / total)


@pytest.mark.parametrize(
    "scores",
    [None, [], [[3.0, -1.0]], [[0.2, 0.2]], [["a", "b"]], [[math.nan, 0.5]], [[0.5, 0.5], [0.5]], [[math.inf, 0.0]]],
)
def test_what_is_no_probability_is_not_believed(scores: Any) -> None:
    assert expected_accuracy(scores) is None
    assert expected(scores, ["no"] * len(scores or [])) == {}
    assert calibration(scores, ["no"] * len(scores or []), ["no"] * len(scores or [])) is None


def test_a_single_score_is_that_of_the_second_class() -> None:
    found = expected([0.9, 0.2, math.nan], ["yes", "no", "no"], NAMES)
    assert found["accuracy"].value == pytest.approx(0.85)


@pytest.mark.slow
def test_scores_that_are_calibrated_and_such_that_are_not() -> None:
    rng = np.random.default_rng(9)
    alarms = 0
    for _ in range(100):
        scores, predicted, truth = drawn(rng)
        found = calibration(scores, predicted, truth, NAMES, alpha=0.05)
        assert found is not None
        alarms += found.p_value < 0.05
    assert alarms <= 5 + 3 * math.sqrt(100 * 0.05 * 0.95)
    scores, predicted, truth = drawn(rng, 2000)
    good = calibration(scores, predicted, truth, NAMES)
    assert good is not None
    assert good.calibrated is True
    scores, predicted, truth = drawn(rng, 2000, tempted=3.0)
    bad = calibration(scores, predicted, truth, NAMES)
    assert bad is not None
    assert bad.calibrated is False
    assert bad.gap.low > 0.05
    assert bad.error > 0.05
    few = calibration(scores[:20], predicted[:20], truth[:20], NAMES)
    assert few is not None
    assert few.calibrated is None
