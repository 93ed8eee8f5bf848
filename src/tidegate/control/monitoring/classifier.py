"""A domain classifier: can rows of production be told from rows of the reference, and by which columns? On demand.

Boosted trees are trained to tell the two apart; the area under the ROC curve on rows that they have not seen is 0.5 when
there is nothing to tell (Rabanser, Günnemann & Lipton, NeurIPS 2019). Unlike tests of single columns this sees drift that
is only in how columns go together.

Each fold of the cross-validation is judged by rows that its trees did not see, so that without drift its area has the
distribution of Mann & Whitney. The mean over folds varies more than that of independent ones would, for each fold learns
from the others: taken as independent, 17 % of runs without drift have p < 0.1. The variance is corrected as by Nadeau &
Bengio (Machine Learning 2003); then it is 7 %.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from tidegate.control.monitoring import metrics
from tidegate.control.monitoring.bins import tolerance
from tidegate.control.monitoring.records import Kind, Metric
from tidegate.errors import MissingExtra, UserError
from tidegate.observations import label_of

Floats = NDArray[np.float64]
Values = Sequence[Any] | NDArray[Any]

MOST_ROWS = 10_000
"""Of each side; of more a random part."""
FEWEST_ROWS = 50
MOST_COLUMNS = 200
"""Of more, those that tell most by themselves."""
MOST_CATEGORIES = 200
"""Of one column; rarer ones count as one."""
FOLDS = 5
SHARED = 1 / FOLDS + 1 / (FOLDS - 1)
"""Variance of the mean over folds, as a part of that of one: what independent ones would have, and the ratio of rows that
judge to rows that teach."""
MOST_NAMED = 10


class Telling(msgspec.Struct, frozen=True):
    """``drop``: by how much the area falls when the column is shuffled."""

    column: str
    kind: Kind
    drop: float


class Domain(msgspec.Struct, frozen=True, kw_only=True):
    auc: Metric
    p_value: float
    """Chance of such an area, or a larger one, without drift."""
    columns: tuple[Telling, ...]
    """By which the sides are told apart most; empty where they are not."""
    reference_rows: int
    rows: int
    """That were used, as ``reference_rows``."""


def domain_auc(
    reference: Mapping[str, Values], rows: Mapping[str, Values], seed: int = 0, alpha: float = 0.05
) -> Domain:
    """Of columns that both sides have: lists or arrays, numbers or categories, with None and NaN for what is missing.

    Some seconds for 10 000 rows on each side. Raises MissingExtra, and UserError for too few rows or no column.
    """
    names = [name for name in reference if name in rows]
    counts = _rows(reference, names), _rows(rows, names)
    if not names or min(counts) < FEWEST_ROWS:
        raise UserError(
            f"a domain classifier needs a column that both sides have, and {FEWEST_ROWS} rows of each; "
            f"here are {len(names)} columns, {counts[0]} rows of the reference and {counts[1]} to compare"
        )
    rng = np.random.default_rng(seed)
    kept = [
        np.sort(rng.choice(count, MOST_ROWS, replace=False)) if count > MOST_ROWS else np.arange(count)
        for count in counts
    ]
    is_new = np.repeat([False, True], [len(part) for part in kept])
    encoded = {name: _encoded(_taken(reference[name], kept[0]) + _taken(rows[name], kept[1])) for name in names}
    encoded = {
        name: (_snapped(column, len(kept[0])) if kind == "number" else column, kind)
        for name, (column, kind) in encoded.items()
    }
    chosen = sorted(names, key=lambda name: -_tells(encoded[name][0], is_new))[:MOST_COLUMNS]
    chosen = [name for name in names if name in set(chosen)]
    matrix = np.column_stack([encoded[name][0] for name in chosen])
    kinds: list[Kind] = [encoded[name][1] for name in chosen]
    areas, variances, chance, drops = _validated(matrix, kinds, is_new, rng, seed)
    area = float(np.mean(areas))
    auc = metrics.within_unit(area, float(np.mean(variances)) * SHARED, min(map(len, kept)), alpha)
    assert auc is not None
    p_value = float(norm.sf((area - 0.5) / math.sqrt(float(np.mean(chance)) * SHARED)))
    telling = [Telling(name, kind, float(drop)) for name, kind, drop in zip(chosen, kinds, drops, strict=True)]
    told = sorted((one for one in telling if one.drop > 0), key=lambda one: -one.drop)[:MOST_NAMED]
    return Domain(
        auc=auc,
        p_value=p_value,
        columns=tuple(told) if p_value < alpha else (),
        reference_rows=len(kept[0]),
        rows=len(kept[1]),
    )


def _validated(
    matrix: Floats, kinds: Sequence[Kind], is_new: NDArray[np.bool_], rng: np.random.Generator, seed: int
) -> tuple[list[float], list[float], list[float], Floats]:
    """Of each fold: area, its variance, its variance without drift; of each column the mean drop."""
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.model_selection import StratifiedKFold
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingExtra("sklearn", "the domain classifier") from error
    areas, variances, chance = [], [], []
    drops = np.zeros(len(kinds))
    categories = [kind == "category" for kind in kinds]
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(matrix, is_new)
    for learn, judge in folds:
        model = HistGradientBoostingClassifier(
            max_iter=60,
            max_leaf_nodes=15,
            min_samples_leaf=20,
            early_stopping=False,
            class_weight="balanced",
            categorical_features=categories,
            random_state=seed,
        )
        seen, truth = matrix[judge].copy(), is_new[judge]
        known = matrix[learn]
        known[:, np.isnan(known).all(axis=0)] = 0.0  # trees cannot bin a column without a value
        with threadpool_limits(1):  # trees so small lose more to waiting for each other than they win
            trees = model.fit(known, is_new[learn])
            area, influence = _area(trees, seen, truth)
            for place in range(len(kinds)):
                column = seen[:, place].copy()
                seen[:, place] = rng.permutation(column)
                drops[place] += (area - _area(trees, seen, truth)[0]) / FOLDS
                seen[:, place] = column
        areas.append(area)
        variances.append(float(influence @ influence))
        new, old = int(truth.sum()), int((~truth).sum())
        chance.append((new + old + 1) / (12 * new * old))
    return areas, variances, chance, drops


def _area(trees: Any, seen: Floats, truth: NDArray[np.bool_]) -> tuple[float, Floats]:
    found = metrics.influence_of_auc(trees.predict_proba(seen)[:, 1], truth)
    assert found is not None, "each fold has rows of both sides"
    return found


def _encoded(values: list[Any]) -> tuple[Floats, Kind]:
    """Numbers as they are, categories by their rank of frequency; NaN where missing."""
    present = [value for value in values if not _is_missing(value)]
    if all(isinstance(value, int | float | bool | np.number | np.bool_) for value in present):
        return np.array(
            [np.nan if _is_missing(value) else _float(value) for value in values], dtype=np.float64
        ), "number"
    texts = [None if _is_missing(value) else label_of(value) for value in values]
    frequent = Counter(text for text in texts if text is not None).most_common(MOST_CATEGORIES - 1)
    codes = {text: float(code) for code, (text, _) in enumerate(frequent)}
    rare = float(len(codes))
    return np.array([np.nan if text is None else codes.get(text, rare) for text in texts]), "category"


def _snapped(column: Floats, old: int) -> Floats:
    """A number that is nearly one of the reference becomes that one. Trees tell 0.9 from 0.9000003, which is what the same
    model gives where it runs compiled, with 32 bits."""
    known = np.unique(column[:old][np.isfinite(column[:old])])
    if not len(known):
        return column
    new = column[old:]
    places = np.searchsorted(known, new).clip(1, max(len(known) - 1, 1))
    below, above = known[places - 1], known[np.minimum(places, len(known) - 1)]
    with np.errstate(invalid="ignore", over="ignore"):
        nearest = np.where(np.abs(new - below) <= np.abs(new - above), below, above)
        same = np.abs(new - nearest) <= tolerance(nearest, float(known[0]), float(known[-1]))
    return np.concatenate((column[:old], np.where(same, nearest, new)))


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond what a float holds
        return math.inf if value > 0 else -math.inf


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float | np.floating) and bool(np.isnan(value)))


def _tells(column: Floats, is_new: NDArray[np.bool_]) -> float:
    """Distance of the column's own area from one half."""
    ranks = rankdata(np.nan_to_num(column, nan=-np.inf))
    new, old = int(is_new.sum()), int((~is_new).sum())
    return abs((float(ranks[is_new].sum()) - new * (new + 1) / 2) / (new * old) - 0.5)


def _taken(values: Values, places: NDArray[np.int64]) -> list[Any]:
    if isinstance(values, np.ndarray):
        taken: list[Any] = values[places].tolist()
        return taken
    return [values[place] for place in places]


def _rows(table: Mapping[str, Values], names: Sequence[str]) -> int:
    lengths = {len(table[name]) for name in names}
    if len(lengths) > 1:
        raise UserError(f"columns of one table have one length; here are {sorted(lengths)}")
    return lengths.pop() if lengths else 0
