"""Values as scikit-learn has them; intervals that hold the truth as often as they say."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as known

from tidegate.control.monitoring import metrics
from tidegate.control.monitoring.performance import columns_of, measure
from tidegate.control.monitoring.records import Metric
from tidegate.monitor_plan import BOUNDED

RNG = np.random.default_rng(7)
TWO = ("no", "yes")
THREE = ("a", "b", "c")


def binary(rows: int = 400) -> tuple[list[str], list[str], Any]:
    chance = RNG.beta(2, 3, rows)
    truth = RNG.random(rows) < chance
    return (
        [TWO[int(one)] for one in truth],
        [TWO[int(one > 0.45)] for one in chance],
        np.column_stack([1 - chance, chance]).round(3),  # rounded, so that scores tie
    )


def several(rows: int = 400) -> tuple[list[str], list[str], Any]:
    scores = RNG.dirichlet((1.0, 2.0, 0.7), rows)
    truth = [THREE[RNG.choice(3, p=row)] for row in scores]
    return truth, [THREE[place] for place in scores.argmax(axis=1)], scores


def values(found: Any) -> dict[str, float]:
    return {name: metric.value for name, metric in found.items()}


def test_two_classes_as_scikit_learn() -> None:
    truth, predicted, scores = binary()
    found = measure(truth, predicted, scores, TWO)
    is_yes = np.array(truth) == "yes"
    assert values(found) == pytest.approx(
        {
            "accuracy": known.accuracy_score(truth, predicted),
            "precision": known.precision_score(truth, predicted, pos_label="yes"),
            "recall": known.recall_score(truth, predicted, pos_label="yes"),
            "f1": known.f1_score(truth, predicted, pos_label="yes"),
            "roc_auc": known.roc_auc_score(is_yes, scores[:, 1]),
            "log_loss": known.log_loss(is_yes, scores),
            "brier": known.brier_score_loss(is_yes, scores[:, 1]),
        }
    )
    assert tuple(found) == BOUNDED["classification"]
    no = measure(truth, predicted, scores, TWO, positive="no")
    assert no["recall"].value == pytest.approx(known.recall_score(truth, predicted, pos_label="no"))
    assert no["roc_auc"].value == pytest.approx(found["roc_auc"].value)


def test_several_classes_as_scikit_learn() -> None:
    truth, predicted, scores = several()
    found = measure(truth, predicted, scores, THREE)
    assert values(found) == pytest.approx(
        {
            "accuracy": known.accuracy_score(truth, predicted),
            "precision": known.precision_score(truth, predicted, average="macro"),
            "recall": known.recall_score(truth, predicted, average="macro"),
            "f1": known.f1_score(truth, predicted, average="macro"),
            "roc_auc": known.roc_auc_score(truth, scores, multi_class="ovr"),
            "log_loss": known.log_loss(truth, scores),
            "brier": float(((scores - (np.array(truth)[:, None] == np.array(THREE))) ** 2).sum(axis=1).mean()),
        }
    )


def test_a_class_that_is_never_predicted_counts_as_scikit_learn_counts_it() -> None:
    truth, predicted = ["a", "b", "c", "c", "a"], ["a", "b", "b", "a", "a"]
    found = measure(truth, predicted)
    for name, one in (("precision", known.precision_score), ("recall", known.recall_score), ("f1", known.f1_score)):
        assert found[name].value == pytest.approx(one(truth, predicted, average="macro", zero_division=0)), name


def test_numbers_as_scikit_learn() -> None:
    truth = RNG.normal(10, 3, 300)
    predicted = truth + RNG.normal(0.5, 2, 300)
    found = measure(truth.tolist(), predicted.tolist(), task="regression")
    assert values(found) == pytest.approx(
        {
            "mae": known.mean_absolute_error(truth, predicted),
            "rmse": known.root_mean_squared_error(truth, predicted),
            "r2": known.r2_score(truth, predicted),
        }
    )
    assert tuple(found) == BOUNDED["regression"]


def test_intervals_as_the_literature_has_them() -> None:
    assert metrics.share(81, 263, 0.05) == Metric(*(pytest.approx(one, abs=5e-5) for one in (0.3080, 0.2553, 0.3662)))  # type: ignore[arg-type]
    """Newcombe (1998), method 3."""
    assert metrics.share(0, 20, 0.05) == Metric(0.0, 0.0, pytest.approx(0.1611, abs=5e-5))  # type: ignore[arg-type]
    scores = np.array([0.1, 0.4, 0.35, 0.8, 0.7, 0.6, 0.2, 0.9])
    positive = np.array([0, 0, 1, 1, 0, 1, 0, 1], dtype=bool)
    found = metrics.influence_of_auc(scores, positive)
    assert found is not None
    area, influence = found
    above = [np.mean(scores[~positive] < one) for one in scores[positive]]
    below = [np.mean(scores[positive] > one) for one in scores[~positive]]
    assert area == pytest.approx(known.roc_auc_score(positive, scores))
    assert influence @ influence == pytest.approx(np.var(above, ddof=1) / 4 + np.var(below, ddof=1) / 4)


@pytest.mark.parametrize(
    ("truth", "predicted", "scores", "names"),
    [
        ([], [], None, set()),
        (["a"], ["a"], None, {"accuracy"}),
        (["a"] * 5, ["a"] * 5, [[0.9, 0.1]] * 5, {"accuracy", "log_loss", "brier"}),
        (["a"] * 5, ["a"] * 5, [[9.0, 0.1]] * 5, {"accuracy"}),
        (["no", "yes"], ["no", "no"], None, {"accuracy", "recall", "f1"}),
        (["no", "yes"], ["no", "yes"], [[math.nan, 0.1]] * 2, {"accuracy", "precision", "recall", "f1"}),
        (["no", "yes"], ["no", "yes"], [[0.5, 0.5], [0.5]], {"accuracy", "precision", "recall", "f1"}),
        (["no", "yes"], ["no", "yes"], [["x", "y"]] * 2, {"accuracy", "precision", "recall", "f1"}),
        (["no", None, "yes"], ["no", "yes", math.nan], None, {"accuracy"}),
        (
            ["no", "yes"] * 3,
            ["no", "yes"] * 3,
            [[-3.0, 3.0], [5.0, -5.0]] * 3,
            {"accuracy", "precision", "recall", "f1", "roc_auc"},
        ),
    ],
)
def test_what_cannot_be_measured_is_absent(truth: Any, predicted: Any, scores: Any, names: set[str]) -> None:
    assert set(measure(truth, predicted, scores)) == names


def test_numbers_that_are_none_or_absurd_are_left_out() -> None:
    found = measure([1.0, "x", None, math.nan, "4"], [2.0, 1.0, 1.0, 1.0, 3.0], task="regression")
    assert found["mae"].value == 1.0
    assert set(measure([1e300, -1e300, 3.0], [-1e300, 1.0, 2.0], task="regression")) == set()
    assert set(measure([1.0, 1.0], [1.0, 2.0], task="regression")) == {"mae", "rmse"}
    assert measure([1.0], [1.0], task="regression") == {}
    with pytest.raises(ValueError, match="2 true values for 1 predictions"):
        measure([1, 2], [1])


def test_labels_are_one_class_wherever_they_come_from() -> None:
    assert measure([1, 1.0, "1", np.int64(1)], ["1", 1, np.float64(1.0), True])["accuracy"].value == 0.75
    assert measure([True, np.bool_(False)], ["true", "false"])["accuracy"].value == 1.0
    assert measure([0, 1], ["no", "yes"], classes=TWO)["accuracy"].value == 1.0


def test_many_classes_have_an_accuracy_alone() -> None:
    names = [str(number) for number in range(200)]
    assert values(measure(names, names[::-1])) == {"accuracy": 0.0}


def test_the_columns_of_scores_are_found() -> None:
    truth, predicted, scores = several()
    turned = scores[:, [2, 0, 1]]
    assert columns_of(predicted, turned, THREE, in_order=False) == ("c", "a", "b")
    assert measure(truth, predicted, turned)["log_loss"] == measure(truth, predicted, scores, THREE)["log_loss"]
    assert columns_of(["10", "9"], np.array([[0.2, 0.8], [0.9, 0.1]]), ("10", "9"), in_order=False) == ("9", "10")
    assert columns_of(["9"], np.array([[0.9, 0.1]]), ("10", "9"), in_order=False) == ("9", "10")
    assert columns_of(["a", "a"], np.array([[0.2, 0.8], [0.9, 0.1]]), TWO, in_order=False) is None
    for odd in ("--5", "²", "9" * 5000):  # what somebody sent as a label
        assert columns_of(["1"], np.array([[0.1, 0.9]]), (odd, "1"), in_order=False) == (odd, "1")
    one = [row[1] for row in scores]
    two = measure(["no", "yes"] * 200, ["no", "yes"] * 200, one, TWO)
    assert two["roc_auc"].value == pytest.approx(known.roc_auc_score([0, 1] * 200, one))


# Coverage

RUNS = 300
ROWS = 300


def covered(truth: float, draw: Callable[[np.random.Generator], Metric | None], alpha: float = 0.1) -> None:
    """The interval holds ``truth`` in 1 - alpha of the runs, give or take three errors of the simulation and what is
    known of such intervals at these numbers of rows."""
    rng = np.random.default_rng(11)
    found = [metric for _ in range(RUNS) if (metric := draw(rng)) is not None]
    assert len(found) > 0.95 * RUNS
    held = np.mean([metric.low <= truth <= metric.high for metric in found])
    slack = 3 * math.sqrt(alpha * (1 - alpha) / RUNS) + 0.01
    assert 1 - alpha - slack <= held <= 1 - alpha + slack, held


@pytest.mark.slow
@pytest.mark.parametrize("name", ["accuracy", "precision", "recall", "f1"])
@pytest.mark.parametrize("skill", [0.8, 0.97])
def test_coverage_for_two_classes(name: str, skill: float) -> None:
    positive, true_rate, false_rate = 0.3, skill, 1 - skill
    right, wrong = positive * true_rate, (1 - positive) * false_rate
    truths = {
        "accuracy": skill,
        "precision": right / (right + wrong),
        "recall": true_rate,
        "f1": 2 * right / (positive + right + wrong),
    }

    def draw(rng: np.random.Generator) -> Metric | None:
        truth = rng.random(ROWS) < positive
        predicted = truth ^ (rng.random(ROWS) > skill)
        table = metrics.Confusion(truth.astype(np.int64), predicted.astype(np.int64), 2)
        if name == "accuracy":
            return table.accuracy(0.1)
        return {"precision": table.precision, "recall": table.recall, "f1": table.f1}[name](1, 0.1)

    covered(truths[name], draw)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
@pytest.mark.parametrize("skill", [0.7, 0.95])
def test_coverage_of_means_over_classes(name: str, skill: float) -> None:
    chances = np.array([0.5, 0.3, 0.2])
    table = np.diag(chances * skill) + (1 - skill) / 2 * (chances[:, None] * (1 - np.eye(3)))
    right, true, predicted = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    truths = {"precision": right / predicted, "recall": right / true, "f1": 2 * right / (true + predicted)}

    def draw(rng: np.random.Generator) -> Metric | None:
        cells = rng.choice(9, ROWS, p=table.ravel())
        return metrics.Confusion(cells // 3, cells % 3, 3).macro(name, 0.1)

    covered(float(truths[name].mean()), draw)


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.7, 2.5])
def test_coverage_of_the_area_under_the_curve(shift: float) -> None:
    truth = 0.5 * (1 + math.erf(shift / 2))

    def draw(rng: np.random.Generator) -> Metric | None:
        positive = rng.random(ROWS) < 0.3
        return metrics.roc_auc(rng.normal(shift * positive, 1), positive, 0.1)

    covered(truth, draw)


@pytest.mark.slow
def test_coverage_of_losses() -> None:
    chance = np.random.default_rng(1).beta(2, 2, 1_000_000)
    entropy = float(np.mean(-chance * np.log(chance) - (1 - chance) * np.log(1 - chance)))
    spread = float(np.mean(chance * (1 - chance)))

    def draw(rng: np.random.Generator, measure: Any) -> Metric | None:
        p = rng.beta(2, 2, ROWS)
        truth = (rng.random(ROWS) < p).astype(np.int64)
        found: Metric | None = measure(np.column_stack([1 - p, p]), truth, 0.1)
        return found

    covered(entropy, lambda rng: draw(rng, metrics.log_loss))
    covered(spread, lambda rng: draw(rng, metrics.brier))


@pytest.mark.slow
def test_coverage_for_numbers() -> None:
    def draw(rng: np.random.Generator, measure: Any) -> Metric | None:
        truth = rng.normal(0, 3, ROWS)
        found: Metric | None = measure(truth, truth + rng.normal(0, 2, ROWS), 0.1)
        return found

    covered(2 * math.sqrt(2 / math.pi), lambda rng: draw(rng, metrics.mae))
    covered(2.0, lambda rng: draw(rng, metrics.rmse))
    covered(1 - 4 / 9, lambda rng: draw(rng, metrics.r2))
