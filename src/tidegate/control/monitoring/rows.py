"""Tables: one list or array a column, one value a row. Made of prediction events, of files, of what a model was trained on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tidegate.control.monitoring import texts
from tidegate.images import MEASURES, measure
from tidegate.observations import PredictionEvent

Values = Sequence[Any] | NDArray[Any]
Table = Mapping[str, Values]

MOST_COLUMNS = 1000
MOST_WIDTH = 256
"""A wider matrix, such as an embedding, is watched by the mean and the deviation of each row."""

_COMPOUND = {list, tuple, dict, bytes, bytearray, np.ndarray}
_decode = msgspec.json.Decoder(dict[str, list[Any]]).decode


class Rows(dict[str, Values]):
    """A table of ``rows`` rows; ``unreadable`` ones had no text, or one that is no object of lists of one length."""

    rows: int = 0
    unreadable: int = 0


def rows_in(table: Table) -> int:
    if isinstance(table, Rows):
        return table.rows
    lengths = {name: len(values) for name, values in table.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns of one table have one length; here are {lengths}")
    return next(iter(lengths.values()), 0)


def table_of(events: Iterable[PredictionEvent], names: Mapping[str, Sequence[str]] | None = None) -> Rows:
    """Inputs and outputs of all events. ``names`` are those of a matrix's columns, by input; without one they are
    ``x[0]``, ``x[1]`` …. Outputs become ``prediction`` (a label where the model has labels) and ``score`` (the largest);
    blobs ``<name>.bytes``, ``<name>.width`` …."""
    raw: dict[str, list[Any]] = {}
    rows = unreadable = 0
    for event in events:
        found = _columns(event)
        if found is None:
            unreadable += event.rows
            continue
        for name, values in found.items():
            column = raw.get(name)
            if column is None:
                if len(raw) >= MOST_COLUMNS:
                    continue
                column = raw[name] = [None] * rows
            column += values
        rows += event.rows
        for column in raw.values():
            if len(column) < rows:
                column += [None] * (rows - len(column))
    table = Rows(flat(raw, names or {}))
    table.rows, table.unreadable = rows, unreadable
    return table


def joined(parts: Iterable[Table]) -> Rows:
    """One table below the other; a column that a part does not have is None in its rows."""
    raw: dict[str, list[Any]] = {}
    rows = unreadable = 0
    for part in parts:
        count = rows_in(part)
        for name, values in part.items():
            if name in raw or len(raw) < MOST_COLUMNS:
                raw.setdefault(name, [None] * rows).extend(values)
        rows += count
        unreadable += part.unreadable if isinstance(part, Rows) else 0
        for column in raw.values():
            column += [None] * (rows - len(column))
    table = Rows(raw)
    table.rows, table.unreadable = rows, unreadable
    return table


def _columns(event: PredictionEvent) -> dict[str, list[Any]] | None:
    try:
        inputs, outputs = _decode(event.inputs), _decode(event.outputs)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if any(len(values) != event.rows for part in (inputs, outputs) for values in part.values()):
        return None
    found = dict(inputs)
    for name, values in _answers(outputs).items():
        found[f"output.{name}" if name in inputs else name] = values
    return found


def _answers(outputs: dict[str, list[Any]]) -> dict[str, list[Any]]:
    found = dict(outputs)
    predictions = found.pop("predictions", None)
    labels = found.pop("labels", None)
    scores = found.pop("scores", None)
    if labels is not None or predictions is not None:
        found["prediction"] = labels if labels is not None else predictions or []
    elif len(found) == 1:
        found = {"prediction": next(iter(found.values()))}
    if scores is not None:
        found["score"] = [_largest(value) for value in scores]
    return found


def _largest(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    numbers = [one for one in value if isinstance(one, int | float)]
    return max(numbers) if numbers else None


def flat(table: Table, names: Mapping[str, Sequence[str]]) -> dict[str, Values]:
    """Matrices by column, images and other blobs by what is measured of them; the rest as it is."""
    found: dict[str, Values] = {}
    for name, values in table.items():
        for own, column in _flat(name, values, tuple(names.get(name, ()))).items():
            if len(found) < MOST_COLUMNS:
                found[own] = column
    return found


def _flat(name: str, values: Values, names: tuple[str, ...]) -> dict[str, Values]:
    if hasattr(values, "to_numpy"):  # a column of pandas or the like
        values = values.to_numpy()
    if isinstance(values, np.ndarray) and values.ndim > 1:
        return _matrix(name, values, names)
    if isinstance(values, np.ndarray) and values.dtype.kind != "O":
        return {name: values}
    return _spread(name, values, names) if set(map(type, values)) & _COMPOUND else {name: values}


def _matrix(name: str, values: NDArray[Any], names: tuple[str, ...]) -> dict[str, Values]:
    width = values.shape[1]
    if values.ndim == 2 and width <= MOST_WIDTH:
        return {own: values[:, place] for place, own in enumerate(_names(name, width, names))}
    if values.dtype.kind not in "iufb":
        return {}
    exact = values.reshape(len(values), -1)
    return {
        f"{name}.mean": exact.mean(axis=1, dtype=np.float64),
        f"{name}.deviation": exact.std(axis=1, dtype=np.float64),
    }


def _spread(name: str, values: Values, names: tuple[str, ...]) -> dict[str, Values]:
    """Value by value, so that what becomes of one does not hang on the others: a hostile one makes columns of its own."""
    found: dict[str, list[Any]] = {}
    for row, value in enumerate(values):
        for own, part in _parts(name, value, names):
            column = found.get(own)
            if column is None:
                if len(found) >= MOST_COLUMNS:
                    continue
                column = found[own] = [None] * len(values)
            column[row] = part
    return dict(found)


def _parts(name: str, value: Any, names: tuple[str, ...]) -> Iterable[tuple[str, Any]]:
    if isinstance(value, bytes | bytearray):
        value = measure(bytes(value))
    if isinstance(value, dict) and isinstance(value.get("bytes"), int):
        return [(f"{name}.{key}", value[key]) for key in MEASURES if key in value]
    if not isinstance(value, list | tuple | np.ndarray) or not len(value):
        return [(name, value)]
    if len(value) <= MOST_WIDTH and not any(isinstance(one, list | tuple | np.ndarray | dict) for one in value):
        return zip(_names(name, len(value), names), value, strict=True)
    mean, deviation = _moments(value)
    return [(f"{name}.mean", mean), (f"{name}.deviation", deviation)]


def _moments(value: Any) -> tuple[float | None, float | None]:
    try:
        exact = np.asarray(value, np.float64).ravel()
    except (ValueError, TypeError, OverflowError):
        return None, None
    with np.errstate(all="ignore"):
        return (float(exact.mean()), float(exact.std())) if len(exact) else (None, None)


def _names(name: str, width: int, names: tuple[str, ...]) -> list[str]:
    if len(names) == width:
        return list(names)
    return [name] if width == 1 else [f"{name}[{place}]" for place in range(width)]


def derived(
    table: Table, names: Mapping[str, Sequence[str]], vocabularies: Mapping[str, Collection[int]]
) -> dict[str, Values]:
    """The columns as a reference has them: flat, and free texts by their measures."""
    found: dict[str, Values] = {}
    for name, values in flat(table, names).items():
        if name in vocabularies:
            listed = values.tolist() if isinstance(values, np.ndarray) else values
            known = frozenset(vocabularies[name])
            found.update({f"{name}.{key}": column for key, column in texts.measured(listed, known).items()})
        else:
            found[name] = values
    return found
