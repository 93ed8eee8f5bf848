"""Pictures of a hold-out, as files for people and for MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tidegate.control.training.config import TrainingConfig
from tidegate.control.training.fit import answers_of
from tidegate.control.training.scores import METRICS, Answers, better
from tidegate.errors import MissingExtra

if TYPE_CHECKING:
    import pandas

MOST_CLASSES = 12
MOST_ROWS = 2000
MOST_FEATURES = 25
REPEATS = 5


def draw(answers: Answers, importance: dict[str, float], folder: Path) -> list[Path]:
    """The pictures that make sense for these answers."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("train", "plots of a training") from error
    wanted: list[tuple[str, Any]] = [("importance", lambda axes: _importance(axes, importance))]
    if not answers.classes:
        wanted += [("residuals", lambda axes: _residuals(axes, answers))]
    elif len(answers.classes) <= MOST_CLASSES:
        wanted += [("confusion_matrix", lambda axes: _confusion(axes, answers))]
        if answers.scores is not None:
            wanted += [
                ("roc", lambda axes: _roc(axes, answers)),
                ("calibration", lambda axes: _calibration(axes, answers)),
            ]
    files = []
    for name, onto in wanted:
        figure = Figure(figsize=(6, 4.5), layout="constrained")
        FigureCanvasAgg(figure)
        onto(figure.add_subplot())
        file = folder / f"{name}.png"
        figure.savefig(file, dpi=110, metadata={"Software": None})
        files.append(file)
    return files


def importances(
    pipeline: Any, test: pandas.DataFrame, features: Sequence[str], classes: Sequence[Any], config: TrainingConfig
) -> dict[str, float]:
    """By how much the metric falls when a column is shuffled, the mean of a few times; the greatest first."""
    random = np.random.default_rng(config.seed)
    rows = test.iloc[:MOST_ROWS]
    score = METRICS[config.metric]

    def good(table: pandas.DataFrame) -> float:
        return better(config.metric, score(answers_of(pipeline, table, features, classes, config)))

    whole = good(rows)
    found = {}
    for name in features:
        falls = []
        for _ in range(REPEATS):
            shuffled = rows.assign(**{name: rows[name].to_numpy()[random.permutation(len(rows))]})
            falls.append(whole - good(shuffled))
        found[name] = float(np.mean(falls))
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _importance(axes: Any, importance: dict[str, float]) -> None:
    shown = list(importance.items())[:MOST_FEATURES][::-1]
    axes.barh([name for name, _ in shown], [value for _, value in shown])
    axes.set_xlabel("loss of the metric when shuffled")


def _confusion(axes: Any, answers: Answers) -> None:
    count = len(answers.classes)
    known = answers.predicted >= 0
    cells = np.bincount(answers.truth[known] * count + answers.predicted[known], minlength=count * count)
    table = cells.reshape(count, count)
    axes.imshow(table, cmap="Blues")
    for row in range(count):
        for column in range(count):
            dark = table[row, column] > table.max() / 2
            axes.text(
                column, row, str(table[row, column]), ha="center", va="center", color="white" if dark else "black"
            )
    axes.set_xticks(range(count), answers.classes, rotation=45, ha="right")
    axes.set_yticks(range(count), answers.classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")


def _columns(answers: Answers) -> list[int]:
    return [answers.positive] if answers.positive >= 0 else list(range(len(answers.classes)))


def _roc(axes: Any, answers: Answers) -> None:
    assert answers.scores is not None
    for column in _columns(answers):
        positive = answers.truth == column
        order = np.argsort(-answers.scores[:, column], kind="stable")
        hits = np.cumsum(positive[order])
        misses = np.cumsum(~positive[order])
        if hits[-1] and misses[-1]:
            axes.plot(np.r_[0, misses / misses[-1]], np.r_[0, hits / hits[-1]], label=answers.classes[column])
    axes.plot([0, 1], [0, 1], "--", color="grey")
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    axes.legend()


def _calibration(axes: Any, answers: Answers) -> None:
    assert answers.scores is not None
    for column in _columns(answers):
        score = answers.scores[:, column]
        bins = np.minimum((score * 10).astype(int), 9)
        there = np.unique(bins)
        said = [score[bins == one].mean() for one in there]
        real = [(answers.truth[bins == one] == column).mean() for one in there]
        axes.plot(said, real, "o-", label=answers.classes[column])
    axes.plot([0, 1], [0, 1], "--", color="grey")
    axes.set_xlabel("score")
    axes.set_ylabel("share that was right")
    axes.legend()


def _residuals(axes: Any, answers: Answers) -> None:
    axes.plot(answers.truth, answers.predicted, ".", alpha=0.4)
    ends = [float(answers.truth.min()), float(answers.truth.max())]
    axes.plot(ends, ends, "--", color="grey")
    axes.set_xlabel("true")
    axes.set_ylabel("predicted")
