"""What batch predictions use of Arrow: whole pieces of CSV and Parquet as columns, and columns as CSV and Parquet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from tidegate.control.jobs.task import Kind
from tidegate.errors import MissingExtra

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]


def need_arrow() -> Any:
    """The library. Raises MissingExtra."""
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtra("arrow", "batch predictions from and to Parquet") from error
    return pyarrow


def csv_reader(
    names: Sequence[str], wanted: Sequence[str], kinds: Sequence[Kind], missing: Sequence[str]
) -> Callable[[bytes], list[Any] | None]:
    """Reads a piece without a header into the columns ``wanted``; None where a line does not fit. Raises MissingExtra."""
    pa = need_arrow()
    from pyarrow import csv

    types = {"number": pa.float64(), "whole": pa.int64(), "boolean": pa.bool_(), "text": pa.string()}
    convert = csv.ConvertOptions(
        column_types={name: types[kind] for name, kind in zip(wanted, kinds, strict=True)},
        include_columns=list(wanted),
        null_values=list(missing),
        strings_can_be_null=False,
    )

    def read(block: bytes) -> list[Any] | None:
        try:
            table = csv.read_csv(
                pa.BufferReader(block),
                read_options=csv.ReadOptions(column_names=list(names), block_size=max(len(block) + 1, 4096)),
                parse_options=csv.ParseOptions(newlines_in_values=b'"' in block),
                convert_options=convert,
            )
        except pa.ArrowInvalid:
            return None
        return [column_of(column) for column in table.columns]

    return read


def columns_of(batch: pa.RecordBatch) -> list[Any]:
    return [column_of(column) for column in batch.columns]


def column_of(column: Any) -> Any:
    """An array where all of it is one type, missing numbers as NaN; else a list."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_floating(kind) or (pa.types.is_integer(kind) and not column.null_count):
        return column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy()
    if pa.types.is_boolean(kind) and not column.null_count:
        return column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy()
    return column.to_pylist()


class Same(NamedTuple):
    """A column that has one value in all its rows."""

    value: str
    rows: int


def table_of(columns: Mapping[str, Any]) -> pa.Table:
    import pyarrow as pa

    return pa.table({name: _array(values) for name, values in columns.items()})


def _array(values: Any) -> Any:
    import numpy as np
    import pyarrow as pa

    if isinstance(values, Same):
        return pa.repeat(pa.scalar(values.value), values.rows)
    if isinstance(values, range):
        values = np.arange(values.start, values.stop, dtype=np.int64)
    if isinstance(values, np.ndarray) and (values.dtype.kind == "O" or values.ndim > 1):
        values = values.tolist()
    try:
        made = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # values of several kinds, as JSON may have them
        texts = [value if isinstance(value, str | None) else msgspec.json.encode(value).decode() for value in values]
        made = pa.array(texts, pa.string())
    return made.cast(pa.string()) if pa.types.is_null(made.type) else made
