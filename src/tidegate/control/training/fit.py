"""Which family, with which parameters: cross-validation on the training rows, then one fit on all of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tidegate.control.training.config import TrainingConfig
from tidegate.control.training.families import grid_of, make
from tidegate.control.training.features import preprocessing, sampler
from tidegate.control.training.rows import Checked
from tidegate.control.training.scores import METRICS, NEED_SCORES, Answers, better
from tidegate.errors import UserError
from tidegate.observations import label_of
from tidegate.types import Array

if TYPE_CHECKING:
    import pandas

Telling = Callable[[int, int, str], None]
"""Done, total, and what is being done."""


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """One family with one set of parameters. ``error``: why it could not be fitted."""

    family: str
    parameters: Mapping[str, Any] = {}
    mean: float | None = None
    spread: float | None = None
    """Standard deviation over the folds."""
    error: str = ""


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    pipeline: Any
    """A scikit-learn pipeline that takes the features by name."""
    best: Tried
    tried: tuple[Tried, ...]
    unseen: Any
    """The training rows that some fold left out, in the order of ``answers``."""
    answers: Answers
    """What the fold's own fit, which had not seen them, says about them."""


def choose(
    train: pandas.DataFrame, checked: Checked, classes: Sequence[Any], config: TrainingConfig, tell: Telling
) -> Chosen:
    """Raises UserError when no family can be fitted."""
    if config.split.by == "time":
        train = train.sort_values(config.split.time, kind="stable")
    candidates = [(family, parameters) for family, given in config.families.items() for parameters in grid_of(given)]
    folds = list(_folds(train, config))
    tried: list[Tried] = []
    said: dict[int, list[Answers]] = {}
    leader = -1
    for number, (family, parameters) in enumerate(candidates):
        tell(number, len(candidates) + 1, f"{family} {_shown(parameters)}".strip())
        one, answers = _try(train, folds, checked, classes, config, family, parameters)
        tried.append(one)
        if one.mean is not None and (leader < 0 or _mean(one, config) > _mean(tried[leader], config)):
            leader, said = number, {number: answers}
    if leader < 0:
        raise UserError(
            "no family could be fitted: " + "; ".join(dict.fromkeys(f"{t.family}: {t.error}" for t in tried))
        )
    best = tried[leader]
    tell(len(candidates), len(candidates) + 1, f"{best.family} on all {len(train):,} rows")
    pipeline = _fitted(train, checked, config, best.family, best.parameters)
    unseen = train.iloc[np.concatenate([rows for _, rows in folds])]
    return Chosen(pipeline=pipeline, best=best, tried=tuple(tried), unseen=unseen, answers=joined(said[leader]))


def _mean(one: Tried, config: TrainingConfig) -> float:
    """More is better."""
    return better(config.scoring, one.mean if one.mean is not None else np.nan)


def joined(parts: Sequence[Answers]) -> Answers:
    """About the rows of all, in their order."""
    first = parts[0]
    scores = [part.scores for part in parts if part.scores is not None]
    return Answers(
        truth=np.concatenate([part.truth for part in parts]),
        predicted=np.concatenate([part.predicted for part in parts]),
        scores=np.concatenate(scores) if len(scores) == len(parts) else None,
        classes=first.classes,
        positive=first.positive,
    )


def _folds(train: pandas.DataFrame, config: TrainingConfig) -> Iterator[tuple[Array, Array]]:
    from sklearn import model_selection as ways

    plan: Any
    number, seed = config.cross_validation.folds, config.seed
    groups = train[config.split.unit] if config.split.unit else None
    if config.split.by == "time":
        plan, groups = ways.TimeSeriesSplit(number), None
    elif groups is not None and config.task == "classification":
        plan = ways.StratifiedGroupKFold(number, shuffle=True, random_state=seed)
    elif groups is not None:
        plan = ways.GroupKFold(number)
    elif config.task == "classification":
        plan = ways.StratifiedKFold(number, shuffle=True, random_state=seed)
    else:
        plan = ways.KFold(number, shuffle=True, random_state=seed)
    yield from plan.split(train, train[config.target], groups)


def _try(
    train: pandas.DataFrame,
    folds: Sequence[tuple[Array, Array]],
    checked: Checked,
    classes: Sequence[Any],
    config: TrainingConfig,
    family: str,
    parameters: Mapping[str, Any],
) -> tuple[Tried, list[Answers]]:
    values: list[float] = []
    said: list[Answers] = []
    try:
        for fit_rows, other_rows in folds:
            pipeline = _fitted(train.iloc[fit_rows], checked, config, family, parameters)
            answers = answers_of(pipeline, train.iloc[other_rows], checked.features, classes, config)
            if config.scoring in NEED_SCORES and answers.scores is None:
                return Tried(
                    family=family, parameters=parameters, error=f"gives no scores, which {config.scoring} needs"
                ), said
            values.append(METRICS[config.scoring](answers))
            said.append(answers)
    except (
        ValueError,
        TypeError,
        ArithmeticError,
        np.linalg.LinAlgError,
    ) as error:  # what estimators say of their parameters and rows
        text = " ".join(str(error).split())
        return Tried(family=family, parameters=parameters, error=f"{type(error).__name__}: {text[:300]}"), said
    defined = [value for value in values if np.isfinite(value)]
    if not defined:
        return Tried(family=family, parameters=parameters, error=f"{config.scoring} is defined in no fold"), said
    return Tried(
        family=family, parameters=parameters, mean=float(np.mean(defined)), spread=float(np.std(defined))
    ), said


def _fitted(
    rows: pandas.DataFrame, checked: Checked, config: TrainingConfig, family: str, parameters: Mapping[str, Any]
) -> Any:
    from sklearn.pipeline import Pipeline

    steps = preprocessing(checked.features, checked.types, checked.may_miss, config)
    model = make(config.task, family, parameters, config.seed)
    drawn = sampler(rows[config.target], config)
    table, target = rows[list(checked.features)], rows[config.target].to_numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as a solver that has not converged: the score says whether it matters
        if drawn is None:
            return Pipeline([*steps, ("model", model)]).fit(table, target)
        from imblearn.pipeline import Pipeline as Sampling

        fitted = Sampling([*steps, ("sample", drawn), ("model", model)]).fit(table, target)
    # What is made up is made up for fitting alone; the served pipeline needs no sampler.
    return Pipeline([(name, step) for name, step in fitted.steps if name != "sample"])


def classes_of(values: pandas.Series[Any]) -> list[Any]:
    """Classes in their own order: numbers by size, text by letters."""
    return sorted(values.unique().tolist())


def positive_of(classes: Sequence[Any], config: TrainingConfig) -> int:
    """Index of the positive class of two; -1 for more. Raises UserError for one that is not there."""
    names = [label_of(value) for value in classes]
    if config.positive:
        if config.positive not in names:
            raise UserError(
                f"positive: {config.target} has no class {config.positive!r}; it has {', '.join(names[:20])}"
            )
        return names.index(config.positive) if len(names) == 2 else -1
    return names.index(max(names)) if len(names) == 2 else -1


def answers_of(
    pipeline: Any, rows: pandas.DataFrame, features: Sequence[str], classes: Sequence[Any], config: TrainingConfig
) -> Answers:
    """What a fitted pipeline says about rows."""
    table, truth = rows[list(features)], rows[config.target].to_numpy()
    predicted = np.asarray(pipeline.predict(table))
    if config.task == "regression":
        return Answers(truth.astype(float), predicted.astype(float).reshape(-1))
    scores = None
    if callable(getattr(pipeline, "predict_proba", None)):
        given = np.asarray(pipeline.predict_proba(table), float)
        scores = np.zeros((len(rows), len(classes)))
        places = {value: place for place, value in enumerate(classes)}
        for column, value in enumerate(np.asarray(pipeline.classes_).tolist()):
            scores[:, places[value]] = given[:, column]
    return told(truth.tolist(), predicted.tolist(), scores, classes, config)


def told(
    truth: Sequence[Any], predicted: Sequence[Any], scores: Array | None, classes: Sequence[Any], config: TrainingConfig
) -> Answers:
    """Classes as places in ``classes``, compared as text, the same wherever they come from."""
    names = tuple(label_of(value) for value in classes)
    places = {name: place for place, name in enumerate(names)}
    return Answers(
        truth=np.array([places[label_of(value)] for value in truth], np.int64),
        predicted=np.array([places.get(label_of(value), -1) for value in predicted], np.int64),
        scores=scores,
        classes=names,
        positive=positive_of(classes, config),
    )


def _shown(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in parameters.items())
