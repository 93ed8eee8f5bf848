"""What a fitted estimator tells about its inputs: names, kinds, and the values at which its answers change.

The values ("points") are thresholds of trees, means and spreads of scalers, categories of encoders, statistics of
imputers, stored training rows: the places where a conversion goes wrong if it does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from tidegate.errors import ContractError
from tidegate.serving.runtimes.signatures import declared
from tidegate.types import Array, Signature, TensorSpec

_POINTS = 400
"""Most points kept for one column; a large forest has hundreds of thousands of thresholds."""
_NO_POINTS = (-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0)


class Column(msgspec.Struct):
    """One input column: what it holds, and its interesting values."""

    name: str = ""
    text: bool = False
    allow_nan: bool = False
    unknown: bool = True
    """Whether a category that was not in training is accepted."""
    points: list[Any] = []
    used: bool = True


class Layout(msgspec.Struct, frozen=True):
    """``documents``: the words of a model that takes texts; ``rows``: training rows that the model has kept."""

    signature: Signature
    columns: tuple[Column, ...]
    frame_columns: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()
    rows: Any = None


def describe(model: Any, where: str, options: Mapping[str, Any], hint: Signature | None = None) -> Layout:
    """Raises ContractError when neither the model nor the configuration says what the inputs are."""
    steps = flatten(model)
    if _is_vectorizer(steps[0]):
        return _text_layout(steps[0])
    names = _fitted_names(model, steps)
    count = len(names) or _count(model, steps)
    said = declared(options) or hint
    if not count and said is not None and said.inputs:
        count = sum(max(spec.shape[1], 1) if len(spec.shape) > 1 else 1 for spec in said.inputs)
    if not count:
        raise ContractError(
            f"{where}: the model does not say how many columns it takes; declare them under options.signature"
        )
    columns = [Column(name=name) for name in names] or [Column() for _ in range(count)]
    _learn(steps, columns)
    texts = [column.text for column in columns]
    is_table = bool(names) and (any(texts) or any(_is_column_transformer(step) for step in steps[:1]))
    if is_table:
        inputs = tuple(_column_spec(column) for column in columns)
        example: Any = {column.name: _typical(column) for column in columns}
    else:
        if any(texts) and not all(texts):
            raise ContractError(
                f"{where}: numbers and text in one matrix; fit the model on a DataFrame, so that columns have names"
            )
        name = "x"
        inputs = (
            TensorSpec(
                name=name,
                datatype="BYTES" if all(texts) else "FP64",
                shape=(-1, count),
                content="text" if all(texts) else "number",
                columns=tuple(names),
                allow_nan=all(column.allow_nan for column in columns),
            ),
        )
        example = {name: [_typical(column) for column in columns]}
    signature = Signature(inputs=inputs, example=example)
    if hint is not None:
        signature = _hinted(signature, hint)
    return Layout(
        signature=signature, columns=tuple(columns), frame_columns=tuple(names), rows=_kept_rows(steps, count)
    )


def _hinted(found: Signature, hint: Signature) -> Signature:
    """Types and optionality from a stored signature where its inputs are the same ones."""
    by_name = {spec.name: spec for spec in hint.inputs}
    if found.is_matrix or set(by_name) != {spec.name for spec in found.inputs}:
        return found
    merged = tuple(
        msgspec.structs.replace(
            spec,
            datatype=by_name[spec.name].datatype,
            content=by_name[spec.name].content,
            required=by_name[spec.name].required and spec.required,
            allow_nan=spec.allow_nan and by_name[spec.name].datatype in ("FP32", "FP64"),
        )
        for spec in found.inputs
    )
    example = {
        spec.name: round(found.example[spec.name]) if "INT" in spec.datatype else found.example[spec.name]
        for spec in merged
    }
    return msgspec.structs.replace(found, inputs=merged, example=example)


def flatten(model: Any) -> list[Any]:
    """The steps of a pipeline, nested ones and searches unwrapped, pass-through steps left out."""
    model = getattr(model, "best_estimator_", model)
    if not hasattr(model, "steps"):
        return [model]
    found: list[Any] = []
    for _, step in model.steps:
        if step is not None and not isinstance(step, str):
            found.extend(flatten(step))
    return found or [model]


def _is_vectorizer(step: Any) -> bool:
    if hasattr(step, "transformer_list"):
        return all(_is_vectorizer(flatten(part)[0]) for _, part in step.transformer_list)
    return hasattr(step, "build_analyzer")


def _is_column_transformer(step: Any) -> bool:
    return hasattr(step, "transformers_") and hasattr(step, "output_indices_")


def _text_layout(vectorizer: Any) -> Layout:
    words: list[str] = []
    for part in [p for _, p in getattr(vectorizer, "transformer_list", [("", vectorizer)])]:
        words.extend(str(word) for word in getattr(flatten(part)[0], "vocabulary_", {}))
    words = words[:5000] or ["text"]
    spec = TensorSpec(name="text", datatype="BYTES", content="text")
    example = {"text": " ".join(words[:3])}
    return Layout(signature=Signature(inputs=(spec,), example=example), columns=(), documents=tuple(words))


def _fitted_names(model: Any, steps: Sequence[Any]) -> list[str]:
    for candidate in (model, steps[0]):
        try:
            names = getattr(candidate, "feature_names_in_", None)
        except Exception:  # noqa: BLE001 - a property of a foreign library; no names is a fine answer
            names = None
        if names is not None:
            return [str(name) for name in names]
    return []


def _count(model: Any, steps: Sequence[Any]) -> int:
    for candidate in (model, steps[0]):
        try:
            return int(getattr(candidate, "n_features_in_", 0) or 0)
        except Exception:  # noqa: BLE001, S112 - as above
            continue
    return 0


def _column_spec(column: Column) -> TensorSpec:
    return TensorSpec(
        name=column.name,
        datatype="BYTES" if column.text else "FP64",
        content="text" if column.text else "number",
        allow_nan=column.allow_nan,
        required=column.used and not (column.text and column.allow_nan),
    )


def _typical(column: Column) -> Any:
    if column.text:
        return str(column.points[0]) if column.points else "text"
    numbers = [float(point) for point in column.points if np.isfinite(point)]
    return round(float(np.median(numbers)), 4) if numbers else 0.0


def _learn(steps: Sequence[Any], columns: list[Column]) -> None:
    """Walks from the last step to the first, taking points back through each transformer."""
    width = _width(steps[-1], len(columns))
    inner = [Column(allow_nan=_tolerates_nan(steps[-1])) for _ in range(width)]
    _own_points(steps[-1], inner)
    for step in reversed(steps[:-1]):
        inner = _back(step, inner)
    if len(inner) == len(columns):
        for column, learnt in zip(columns, inner, strict=True):
            column.text, column.allow_nan, column.unknown = learnt.text, learnt.allow_nan, learnt.unknown
            column.points, column.used = learnt.points, learnt.used


def _width(step: Any, fallback: int) -> int:
    try:
        return int(getattr(step, "n_features_in_", 0) or fallback)
    except Exception:  # noqa: BLE001 - a property of a foreign library
        return fallback


def _tolerates_nan(step: Any) -> bool:
    if type(step).__module__.startswith(("sklearn.tree", "sklearn.ensemble._forest", "sklearn.ensemble._gb")):
        # These take NaN at any time, but follow a rule of thumb unless they were trained with some.
        return any(_trained_with_missing(tree) for tree in _trees(step))
    try:
        return bool(step.__sklearn_tags__().input_tags.allow_nan)
    except Exception:  # noqa: BLE001 - older and foreign estimators have no tags; no is the careful answer
        return False


def _back(step: Any, outer: list[Column]) -> list[Column]:
    """Columns before a transformer, from the columns after it."""
    if _is_column_transformer(step):
        return _back_through_columns(step, outer)
    count = _width(step, len(outer))
    before = [Column(allow_nan=_passes_nan(step, outer)) for _ in range(count)]
    same_width = len(outer) == count
    if hasattr(step, "categories_"):
        _categories(step, before)
        return before
    if same_width and hasattr(step, "statistics_") and any(column.text for column in outer):
        return [msgspec.structs.replace(column, allow_nan=True) for column in outer]
    if same_width and hasattr(step, "inverse_transform") and not hasattr(step, "components_"):
        _inverse(step, outer, before)
    elif same_width:
        for column, after in zip(before, outer, strict=True):
            column.points = list(after.points)
    elif hasattr(step, "get_support"):
        for after, position in zip(outer, np.flatnonzero(step.get_support()), strict=False):
            before[position].points = list(after.points)
    _own_points(step, before)
    return before


def _passes_nan(step: Any, outer: list[Column]) -> bool:
    if hasattr(step, "statistics_") or type(step).__name__ in ("KNNImputer", "IterativeImputer"):
        return True
    return _tolerates_nan(step) and bool(outer) and all(column.allow_nan for column in outer)


def _categories(step: Any, before: list[Column]) -> None:
    unknown = getattr(step, "handle_unknown", "ignore") != "error"
    for column, categories in zip(before, step.categories_, strict=False):
        column.points = list(categories[:_POINTS])
        column.text = any(isinstance(category, str) for category in column.points)
        column.points = [c for c in column.points if isinstance(c, str) or not column.text]
        column.allow_nan = not column.text and any(c != c for c in column.points)
        column.unknown = unknown


def _inverse(step: Any, outer: list[Column], before: list[Column]) -> None:
    longest = max((len(column.points) for column in outer), default=0)
    if not longest:
        return
    table = np.zeros((longest, len(outer)))
    for position, column in enumerate(outer):
        if column.points:
            table[:, position] = np.resize(np.array(column.points, float), longest)
    try:
        table = np.asarray(step.inverse_transform(table))
    except Exception:  # noqa: BLE001 - points are only hints; the rows made without them still count
        return
    for position, column in enumerate(before):
        if outer[position].points:
            column.points = table[: len(outer[position].points), position].tolist()


def _back_through_columns(step: Any, outer: list[Column]) -> list[Column]:
    names = [str(name) for name in getattr(step, "feature_names_in_", ())]
    before = [Column(used=False) for _ in range(step.n_features_in_)]
    for name, transformer, chosen in step.transformers_:
        positions = _positions(chosen, names, step.n_features_in_)
        if isinstance(transformer, str) and transformer == "drop":
            continue
        span = step.output_indices_.get(name, slice(0, 0))
        inner = outer[span]
        if not isinstance(transformer, str):
            parts = flatten(transformer)
            if _is_vectorizer(parts[0]):
                inner = [Column(text=True, points=list(getattr(parts[0], "vocabulary_", {}))[:50])]
            else:
                for part in reversed(parts):
                    inner = _back(part, inner)
        for position, column in zip(positions, inner, strict=False):
            before[position] = msgspec.structs.replace(column, used=True)
    return before


def _positions(chosen: Any, names: Sequence[str], count: int) -> list[int]:
    """Column positions from what a ColumnTransformer stores: names, numbers, masks or a slice."""
    if isinstance(chosen, str):
        return [names.index(chosen)]
    if isinstance(chosen, slice):
        if isinstance(chosen.start, str) or isinstance(chosen.stop, str):
            first = names.index(chosen.start) if chosen.start is not None else 0
            last = names.index(chosen.stop) if chosen.stop is not None else count - 1
            return list(range(first, last + 1))
        return list(range(count))[chosen]
    if isinstance(chosen, int | np.integer):
        return [int(chosen)]
    listed = list(chosen)
    if listed and isinstance(listed[0], bool | np.bool_):
        return [position for position, taken in enumerate(listed) if taken]
    return [names.index(item) if isinstance(item, str) else int(item) for item in listed]


def _own_points(step: Any, columns: list[Column]) -> None:
    """Points that the step itself has stored, added to the columns before it."""
    for mean, spread in _centres(step, len(columns)):
        for position, column in enumerate(columns):
            column.points.extend(mean[position] + spread[position] * step_ for step_ in (-2.0, -0.5, 0.0, 0.5, 2.0))
    thresholds: list[list[float]] = [[] for _ in columns]
    for feature, threshold in _thresholds(step):
        if 0 <= feature < len(columns):
            thresholds[feature].append(threshold)
    for column, found in zip(columns, thresholds, strict=True):
        distinct = np.unique(np.array(found, float))
        if len(distinct) > _POINTS:
            distinct = distinct[np.linspace(0, len(distinct) - 1, _POINTS).astype(int)]
        column.points.extend(distinct.tolist())


def _centres(step: Any, count: int) -> Iterator[tuple[Array, Array]]:
    pairs = (
        ("mean_", "scale_"), ("center_", "scale_"), ("data_min_", "data_range_"), ("max_abs_", "max_abs_"),
        ("statistics_", "statistics_"), ("mean_", "mean_"),
    )  # fmt: skip
    for centre_name, spread_name in pairs:
        centre, spread = getattr(step, centre_name, None), getattr(step, spread_name, None)
        if centre is None or spread is None:
            continue
        centre, spread = np.asarray(centre), np.asarray(spread)
        if centre.shape == spread.shape == (count,) and centre.dtype.kind in "fiu" and spread.dtype.kind in "fiu":
            yield np.nan_to_num(centre.astype(float)), np.abs(np.nan_to_num(spread.astype(float)))
            return
    for name, wide in (("theta_", "var_"), ("cluster_centers_", "cluster_centers_")):
        centres, spreads = getattr(step, name, None), getattr(step, wide, None)
        if isinstance(centres, np.ndarray) and isinstance(spreads, np.ndarray) and centres.shape[1:] == (count,):
            for centre, spread in zip(centres[:20], spreads[:20], strict=True):
                yield centre, np.sqrt(np.abs(spread))


def _thresholds(model: Any) -> Iterator[tuple[int, float]]:
    """(feature, threshold) of every split of every tree."""
    tree = getattr(model, "tree_", None)
    if tree is not None:
        splits = tree.children_left >= 0
        yield from zip(tree.feature[splits].tolist(), tree.threshold[splits].tolist(), strict=True)
        return
    for group in getattr(model, "_predictors", ()):
        for predictor in group:
            nodes = predictor.nodes[predictor.nodes["is_leaf"] == 0]
            yield from zip(nodes["feature_idx"].tolist(), nodes["num_threshold"].tolist(), strict=True)
    if type(model).__module__.startswith(("xgboost", "lightgbm", "tidegate")):
        from tidegate.serving.runtimes.boosters import thresholds

        yield from thresholds(model)
        return
    members = getattr(model, "estimators_", None)
    if members is not None:
        for member in np.asarray(members, dtype=object).reshape(-1):
            yield from _thresholds(flatten(member)[-1])
    for calibrated in getattr(model, "calibrated_classifiers_", ()):
        yield from _thresholds(flatten(calibrated.estimator)[-1])


def _trees(model: Any) -> Iterator[Any]:
    if hasattr(model, "tree_"):
        yield model.tree_
    members = getattr(model, "estimators_", None)
    if members is not None:
        for member in np.asarray(members, dtype=object).reshape(-1)[:20]:
            yield from _trees(member)


def _trained_with_missing(tree: Any) -> bool:
    """Without missing values in training, every split sends them to its larger side; a learnt one need not."""
    nodes = tree.__getstate__()["nodes"]
    if "missing_go_to_left" not in (nodes.dtype.names or ()):
        return False
    splits = nodes[nodes["left_child"] >= 0]
    samples = nodes["n_node_samples"]
    larger_left = samples[splits["left_child"]] > samples[splits["right_child"]]
    return bool((splits["missing_go_to_left"].astype(bool) != larger_left).any())


def _kept_rows(steps: Sequence[Any], count: int) -> Array | None:
    """Training rows inside the model (neighbours, support vectors), when they are in the space of the inputs."""
    if len(steps) != 1:
        return None
    for name in ("_fit_X", "support_vectors_"):
        rows = getattr(steps[0], name, None)
        if isinstance(rows, np.ndarray) and rows.ndim == 2 and rows.shape[1] == count:
            return rows[:400]
    return None


def numeric_points(column: Column) -> Array:
    """Sorted finite points; a usual spread when the model tells none."""
    numbers = np.array([p for p in column.points if not isinstance(p, str)], float)
    numbers = np.unique(numbers[np.isfinite(numbers)])
    return numbers if len(numbers) else np.array(_NO_POINTS)
