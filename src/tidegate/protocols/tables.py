"""CSV text to the columns of a signature."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from tidegate.errors import InvalidInput, MalformedBody
from tidegate.protocols import examples, tensors
from tidegate.types import NUMPY_DTYPES, Signature, Tensors, TensorSpec

_MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL"})
_BOOLEANS: Mapping[str, bool] = {
    "true": True, "True": True, "TRUE": True, "1": True, "false": False, "False": False, "FALSE": False, "0": False,
}  # fmt: skip


def read_csv(body: bytes, signature: Signature, max_rows: int) -> Tensors:
    """Tensors of a CSV file whose first line names the columns; a first column without a name is an index, left out."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise MalformedBody("the body is not UTF-8 text") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        rows = [row for row in islice(reader, max_rows + 1) if row]
    except csv.Error as error:
        raise MalformedBody(f"line {reader.line_num}: not CSV: {error}") from None
    if not header:
        raise MalformedBody("the body is empty; send CSV whose first line names the columns")
    tensors.limit_rows(len(rows), max_rows)
    for number, row in enumerate(rows):
        if len(row) != len(header):
            what = f"row {number}: expected {len(header)} values, one per column, got {len(row)}"
            raise InvalidInput(f"{what}. {examples.accepted(signature)}", ("csv", number))
    if header[0] == "" and len(header) > 1:
        header = header[1:]
        rows = [row[1:] for row in rows]
    specs = _specs(signature, header)
    columns = [
        _typed(list(values), specs.get(name)) for name, values in zip(header, zip(*rows, strict=True), strict=True)
    ]
    data = [list(values) for values in zip(*columns, strict=True)]
    return tensors.from_frame(list(header), data, signature, form="csv", max_rows=max_rows)


def _specs(signature: Signature, header: list[str]) -> Mapping[str, TensorSpec]:
    if not signature.is_matrix:
        return {spec.name: spec for spec in signature.inputs}
    return dict.fromkeys(signature.columns or header, signature.inputs[0])


def _typed(values: list[str], spec: TensorSpec | None) -> list[Any]:
    """Cells as the spec wants them; one that does not fit stays text, and is refused by name later."""
    if spec is None:
        return list(values)
    kind = NUMPY_DTYPES[spec.datatype].kind
    if kind == "O":
        return [None if value == "" and spec.allow_nan else value for value in values]
    read: Callable[[str], Any] = _boolean if kind == "b" else _whole if kind in "iu" else _number
    return [read(value) for value in values]


def _number(text: str) -> Any:
    text = text.strip()
    if text in _MISSING:
        return None
    if "_" in text:  # a separator in Python's eyes only
        return text
    try:
        return float(text)
    except ValueError:
        # In CSV nothing else tells what a model was trained on that takes 1 and 0 for it.
        return float(_BOOLEANS[text]) if text in _BOOLEANS else text


def _whole(text: str) -> Any:
    try:
        return int(text) if "_" not in text else text
    except ValueError:
        return _number(text)


def _boolean(text: str) -> Any:
    text = text.strip()
    return None if text in _MISSING else _BOOLEANS.get(text, text)
