from __future__ import annotations

import math

import numpy as np
import pytest

from tidegate.control.monitoring.performance import measure
from tidegate.control.training.config import Gate
from tidegate.control.training.gate import Comparison, compare
from tidegate.control.training.scores import METRICS, Answers

CLASSES = ("0", "1")


def answers(truth: object, predicted: object, scores: object = None) -> Answers:
    return Answers(np.asarray(truth), np.asarray(predicted), None if scores is None else np.asarray(scores), CLASSES, 1)


def pair(random: np.random.Generator, rows: int, mine: float, its: float) -> tuple[Answers, Answers]:
    """Challenger and champion that are right with these chances."""
    truth = random.integers(0, 2, rows)
    told = [np.where(random.random(rows) < chance, truth, 1 - truth) for chance in (mine, its)]
    return answers(truth, told[0]), answers(truth, told[1])


def accepted(mine: float, its: float, gate: Gate, runs: int, rows: int = 300) -> float:
    random = np.random.default_rng(5)
    verdicts = [
        compare(*pair(random, rows, mine, its), gate, "accuracy", number, resamples=400).accepted
        for number in range(runs)
    ]
    return float(np.mean(verdicts))


def limit(alpha: float, runs: int) -> float:
    return alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)


@pytest.mark.slow
def test_one_that_is_worse_by_the_margin_is_seldom_accepted() -> None:
    gate = Gate(margin=0.05, alpha=0.05)
    assert accepted(0.80, 0.85, gate, 300) <= limit(0.05, 300)
    assert accepted(0.90, 0.85, gate, 50) > 0.9, "and one that is better often"


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "margin"), [(30, 0.01), (100, 0.01), (40, 0.05)])
def test_few_rows_that_tell_them_apart_do_not_let_it_through(rows: int, margin: float) -> None:
    """It is worse by the margin, and nowhere better: mostly no row of a small hold-out shows it."""
    random = np.random.default_rng(6)
    truth = np.zeros(rows, int)
    verdicts = [
        compare(
            answers(truth, (random.random(rows) < margin).astype(int)), answers(truth, truth), Gate(margin=margin),
            "accuracy", number, resamples=100,
        ).accepted
        for number in range(300)
    ]  # fmt: skip
    assert np.mean(verdicts) <= limit(0.05, 300)
    plenty = np.zeros(2000, int)
    assert compare(answers(plenty, plenty), answers(plenty, plenty), Gate(margin=0.01), "accuracy", 0).accepted


@pytest.mark.slow
def test_one_that_is_no_better_is_seldom_better_by_mcnemar() -> None:
    gate = Gate(test="mcnemar", alpha=0.05)
    assert accepted(0.85, 0.85, gate, 300) <= limit(0.05, 300)
    assert accepted(0.95, 0.85, gate, 50) > 0.9


def test_a_bare_comparison_of_two_numbers_would_not_pass_this_test() -> None:
    """What the tests above must catch: taking whichever is higher accepts one that is no better half of the time."""
    random = np.random.default_rng(5)
    won = [_higher(*pair(random, 300, 0.85, 0.85)) for _ in range(300)]
    assert np.mean(won) > limit(0.05, 300)


def _higher(challenger: Answers, champion: Answers) -> bool:
    return METRICS["accuracy"](challenger) >= METRICS["accuracy"](champion)


def test_without_a_champion_it_is_accepted() -> None:
    found = compare(answers([0, 1], [0, 1]), None, Gate(), "accuracy", 0)
    assert found.accepted
    assert found.champion is None


def test_the_same_answers_are_no_worse_but_not_better() -> None:
    same = answers([0, 1] * 50, [0, 1] * 45 + [1, 0] * 5)
    found = compare(same, same, Gate(margin=0.01), "f1", 0, resamples=100)
    assert (found.accepted, found.difference, found.low, found.high) == (True, 0.0, 0.0, 0.0)
    assert not compare(same, same, Gate(min_gain=0.001), "f1", 0, resamples=100).accepted
    assert not compare(same, same, Gate(test="mcnemar"), "accuracy", 0).accepted


def test_a_loss_is_better_when_it_is_less() -> None:
    truth = np.arange(100.0)
    good, bad = Answers(truth, truth + 0.1), Answers(truth, truth + np.linspace(1, 2, 100))
    assert compare(good, bad, Gate(min_gain=0.5), "mae", 0).accepted
    found = compare(bad, good, Gate(margin=0.5), "mae", 0)
    assert not found.accepted
    assert found.difference is not None
    assert found.difference < -1


def test_the_floor_holds_for_a_first_model_too() -> None:
    coin = answers([0, 1] * 50, [0, 0, 1, 1] * 25)
    found = compare(coin, None, Gate(floor=0.6), "accuracy", 0)
    assert not found.accepted
    assert "the floor is 0.6" in found.reason
    assert compare(answers([0, 1] * 50, [0, 1] * 50), None, Gate(floor=0.6), "accuracy", 0).accepted


def test_mcnemar_is_exact() -> None:
    """15 rows against 5: the chance of 15 or more heads in 20 throws is 0.0207."""
    truth = np.zeros(100, int)
    mine, its = truth.copy(), truth.copy()
    its[:15], mine[15:20] = 1, 1
    found: Comparison = compare(answers(truth, mine), answers(truth, its), Gate(test="mcnemar"), "accuracy", 0)
    assert found.accepted
    assert (found.only_challenger, found.only_champion) == (15, 5)
    assert found.p == pytest.approx(0.020694732666)


def test_a_champion_without_scores_is_not_beaten_by_scores() -> None:
    mine = answers([0, 1] * 20, [0, 1] * 20, np.eye(2)[[0, 1] * 20])
    found = compare(mine, answers([0, 1] * 20, [0, 1] * 20), Gate(), "roc_auc", 0)
    assert not found.accepted
    assert "no scores" in found.reason


@pytest.mark.parametrize("classes", [2, 3])
def test_each_metric_is_what_monitoring_measures(classes: int) -> None:
    random = np.random.default_rng(classes)
    names = tuple("abc"[:classes])
    scores = random.dirichlet(np.ones(classes), 200)
    truth = np.array([random.choice(classes, p=row) for row in scores])
    mine = Answers(truth, scores.argmax(axis=1), scores, names, 1 if classes == 2 else -1)
    positive = names[1] if classes == 2 else ""
    said = [[names[place] for place in column] for column in (truth, mine.predicted)]
    measured = measure(said[0], said[1], scores, names, "classification", positive)
    assert len(measured) == 7
    for name, metric in measured.items():
        assert METRICS[name](mine) == pytest.approx(metric.value), name


def test_each_metric_of_numbers_is_what_monitoring_measures() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=100)
    mine = Answers(truth, truth + random.normal(size=100))
    measured = measure(truth.tolist(), mine.predicted.tolist(), task="regression")
    assert {name: METRICS[name](mine) for name in measured} == pytest.approx(
        {name: metric.value for name, metric in measured.items()}
    )
