"""Families of models: which estimator each is, and the parameters that a configuration may give."""

from __future__ import annotations

import importlib
import inspect
import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tidegate.errors import MissingExtra

if TYPE_CHECKING:
    from tidegate.control.training.config import TrainingConfig

CLASSIFIERS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "logistic_regression": ("sklearn.linear_model", "LogisticRegression", {"max_iter": 1000}),
    "random_forest": ("sklearn.ensemble", "RandomForestClassifier", {}),
    "extra_trees": ("sklearn.ensemble", "ExtraTreesClassifier", {}),
    "gradient_boosting": ("sklearn.ensemble", "HistGradientBoostingClassifier", {}),
    "decision_tree": ("sklearn.tree", "DecisionTreeClassifier", {}),
    "knn": ("sklearn.neighbors", "KNeighborsClassifier", {}),
    "svm": ("sklearn.svm", "SVC", {}),
    "naive_bayes": ("sklearn.naive_bayes", "GaussianNB", {}),
}
REGRESSORS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "linear_regression": ("sklearn.linear_model", "LinearRegression", {}),
    "ridge": ("sklearn.linear_model", "Ridge", {}),
    "random_forest": ("sklearn.ensemble", "RandomForestRegressor", {}),
    "extra_trees": ("sklearn.ensemble", "ExtraTreesRegressor", {}),
    "gradient_boosting": ("sklearn.ensemble", "HistGradientBoostingRegressor", {}),
    "decision_tree": ("sklearn.tree", "DecisionTreeRegressor", {}),
    "knn": ("sklearn.neighbors", "KNeighborsRegressor", {}),
    "svm": ("sklearn.svm", "SVR", {}),
}
"""Family -> module, class, and parameters that differ from the library's defaults."""


def families_of(task: str) -> Mapping[str, tuple[str, str, Mapping[str, Any]]]:
    return CLASSIFIERS if task == "classification" else REGRESSORS


def broken_families(config: TrainingConfig) -> Iterator[tuple[str, str]]:
    """Key and mistake. Whether the values are good only the estimator knows."""
    from tidegate.control.training.config import MOST_FITS

    known = families_of(config.task)
    if not config.families:
        yield "families", f"name at least one of: {', '.join(known)}"
    fits = 0
    for name, given in config.families.items():
        key = f"families.{name}"
        if name not in known:
            yield key, f"is no family of {config.task}; one of: {', '.join(known)}"
            continue
        if given is not None and not isinstance(given, Mapping):
            yield key, "expected parameters by name, or nothing"
            continue
        allowed = parameters_of(config.task, name)
        for parameter in given or {}:
            if parameter not in allowed:
                yield f"{key}.{parameter}", f"is no parameter; one of: {', '.join(allowed)}"
        fits += sum(1 for _ in itertools.islice(grid_of(given), MOST_FITS + 1)) * config.cross_validation.folds
    if fits > MOST_FITS:
        yield "families", f"more than {MOST_FITS} fits, grids and folds together; take values out"


def parameters_of(task: str, family: str) -> list[str]:
    signature = inspect.signature(_class_of(task, family).__init__)
    taken = ("self", "random_state", "n_jobs", "verbose", "warm_start")
    return [name for name in signature.parameters if name not in taken]


def grid_of(given: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Every combination of the parameters; a value that is a list stands for each of its items."""
    items = {name: value if isinstance(value, list | tuple) else [value] for name, value in (given or {}).items()}
    for values in itertools.product(*items.values()):
        yield dict(zip(items, values, strict=True))


def make(task: str, family: str, parameters: Mapping[str, Any], seed: int) -> Any:
    """An estimator that has not been fitted. A classifier gives scores where its family can."""
    kind = _class_of(task, family)
    _, _, defaults = families_of(task)[family]
    accepted = inspect.signature(kind.__init__).parameters
    given = {**defaults, **parameters}
    if "random_state" in accepted:
        given["random_state"] = seed
    return kind(**given)


def _class_of(task: str, family: str) -> Any:
    module, name, _ = families_of(task)[family]
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise MissingExtra("train", "training") from error
