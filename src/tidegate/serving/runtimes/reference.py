"""Rows on which a compiled model is compared with its original."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tidegate.errors import ModelError
from tidegate.serving.runtimes.signatures import rows_of
from tidegate.serving.runtimes.structure import Column, Layout, numeric_points
from tidegate.types import Array, Signature, Tensors

ROWS = 512
_ODD_TEXTS = (
    "", " ", "a", "I", "UPPER lower", "two  spaces", "hyphen-ated it's e.g. 3.14 a_b", "tab\tand\nline",
    "naïve café über straße", "ÀÉÎ ÖÜ", "日本語 текст", "12 345", "!!! ???", "x" * 300,
)  # fmt: skip
_SPLITS = 0.5
"""Share of values drawn on or right beside a point, where float32 and float64 may fall on different sides."""


def reference_rows(layout: Layout, signature: Signature, rows: int = ROWS) -> Tensors:
    """Rows made from the model's own structure, the same ones each time."""
    random = np.random.default_rng(20_240_229)
    if layout.documents:
        spec = signature.inputs[0]
        return {spec.name: _documents(layout.documents, rows, random)}
    drawn = [_draw(column, rows, random) for column in layout.columns]
    if signature.is_table and len(signature.inputs) == len(drawn):
        return {
            spec.name: rows_of(spec, _whole(values, spec.datatype).tolist())
            for spec, values in zip(signature.inputs, drawn, strict=True)
        }
    spec = signature.inputs[0]
    if spec.datatype == "BYTES":
        return {spec.name: np.column_stack([np.asarray(values, object) for values in drawn])}
    matrix = np.column_stack(drawn).astype(float)
    if layout.rows is not None:
        kept = layout.rows[: rows // 2]
        noise = random.normal(0, 0.05, kept.shape) * (kept.std(axis=0) + 1e-9)
        matrix[: len(kept)] = kept + noise * (random.random(len(kept)) < 0.5)[:, None]
    return {spec.name: matrix}


def _whole(values: Array, datatype: str) -> Array:
    return np.round(np.nan_to_num(values.astype(float))) if "INT" in datatype else values


def _draw(column: Column, rows: int, random: np.random.Generator) -> Array:
    if column.text:
        known = [str(point) for point in column.points if point] or ["text"]
        values = random.choice(np.array(known, object), rows)
        if column.unknown:
            values[random.random(rows) < 0.05] = "never seen in training"
        return values
    points = numeric_points(column)
    if not column.unknown:
        return random.choice(points, rows)
    low, high = points[0], points[-1]
    pad = (high - low) * 0.1 or abs(low) * 0.1 or 1.0
    values = random.uniform(low - pad, high + pad, rows)
    on_point = random.random(rows) < _SPLITS
    values[on_point] = _beside(random.choice(points, int(on_point.sum())), random)
    if column.allow_nan:
        values[random.random(rows) < 0.05] = np.nan
    return values


def _beside(points: Array, random: np.random.Generator) -> Array:
    """The point itself, its neighbours in float64, and its neighbours in float32."""
    single = points.astype(np.float32)
    choices = np.stack(
        [
            points,
            np.nextafter(points, np.inf),
            np.nextafter(points, -np.inf),
            single.astype(float),
            np.nextafter(single, np.float32(np.inf)).astype(float),
            np.nextafter(single, np.float32(-np.inf)).astype(float),
        ]
    )
    picked: Array = choices[random.integers(0, len(choices), len(points)), np.arange(len(points))]
    return picked


def _documents(words: tuple[str, ...], rows: int, random: np.random.Generator) -> Array:
    texts = np.empty(rows, object)
    vocabulary = np.array(words, object)
    for row in range(rows):
        chosen = random.choice(vocabulary, int(random.integers(1, 30))).tolist()
        if row % 7 == 0:
            chosen.append("unheardof")
        if row % 5 == 0:
            chosen = [word.upper() for word in chosen]
        texts[row] = (", " if row % 3 == 0 else " ").join(chosen)
    texts[: len(_ODD_TEXTS)] = _ODD_TEXTS
    for row, odd in enumerate(_ODD_TEXTS):
        texts[len(_ODD_TEXTS) + row] = f"{random.choice(vocabulary)} {odd} {random.choice(vocabulary)}"
    return texts


def stored_rows(beside: Path, signature: Signature, options: Mapping[str, Any]) -> Tensors | None:
    """Rows from ``options.reference`` or from ``<model>.reference.csv|.json|.npy`` beside the model, at most 5000.

    CSV has a header with the columns' names; JSON is a list of objects, or of rows; .npy is a matrix.
    """
    folder = beside if beside.is_dir() else beside.parent
    stem = "reference" if beside.is_dir() else f"{beside.stem}.reference"
    named = options.get("reference")
    candidates = [folder / str(named)] if named else [folder / f"{stem}.{kind}" for kind in ("csv", "json", "npy")]
    for file in candidates:
        if file.is_file():
            try:
                return _read(file, signature)
            except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
                raise ModelError(f"reference rows in {file.name} do not fit the model's inputs: {error}") from error
    if named:
        raise ModelError(f"reference rows: no file {named} beside the model")
    return None


def _read(file: Path, signature: Signature) -> Tensors:
    if file.suffix == ".npy":
        return {signature.inputs[0].name: np.load(file, allow_pickle=False)[:5000].astype(float)}
    records: list[Any]
    if file.suffix == ".json":
        records = json.loads(file.read_text())[:5000]
    else:
        with file.open(newline="") as text:
            records = list(csv.DictReader(text))[:5000]
    spec = signature.inputs[0]
    if signature.is_matrix:
        columns = spec.columns or (tuple(records[0]) if isinstance(records[0], dict) else ())
        rows = [[row[c] for c in columns] if isinstance(row, dict) else row for row in records]
        return {spec.name: np.array(rows, float).reshape(len(rows), -1)}
    tensors = {}
    for spec in signature.inputs:
        values = [row[spec.name] for row in records]
        if spec.datatype != "BYTES":
            values = [float("nan") if value in ("", None) else float(value) for value in values]
        tensors[spec.name] = rows_of(spec, values)
    return tensors


def take(inputs: Tensors, rows: slice) -> dict[str, Array]:
    return {name: array[rows] for name, array in inputs.items()}
