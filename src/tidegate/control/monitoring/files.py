"""Tables of files: CSV, JSON lines, Parquet; one list of values for each column."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec
import numpy as np

from tidegate.control.monitoring import profiles
from tidegate.control.monitoring.rows import Values
from tidegate.errors import MissingExtra, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tidegate.control.monitoring.profiles import Profile

SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet", ".pq")
MOST_ROWS = 1_000_000
MOST_COLUMNS = 10_000
LONGEST_LINE = 16 * 1024 * 1024
MISSING = frozenset({"", "NA", "NaN", "nan", "null", "NULL"})
"""Cells of CSV that hold nothing."""
BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
"""As booleans are written by whatever wrote the CSV; in Parquet and in requests they are none of these words."""


def profile_of_file(path: Path) -> Profile:
    """Raises UserError for what is no table, MissingExtra for Parquet without pyarrow."""
    return profiles.make_profile(table_of_file(path))


def table_of_file(path: Path, most_rows: int = MOST_ROWS) -> dict[str, Values]:
    """All columns; numbers where every value of a CSV column is one. Raises UserError, MissingExtra."""
    name = path.name.lower()
    suffix = Path(name.removesuffix(".gz")).suffix
    if suffix not in SUFFIXES:
        raise UserError(f"{path}: expected a file that ends with {', '.join(SUFFIXES)}")
    if suffix in (".parquet", ".pq"):
        table = _parquet(path, most_rows)
    else:
        with _opened(path) as file:
            text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
            try:
                table = _csv(path, text, most_rows) if suffix == ".csv" else _jsonl(path, text, most_rows)
            except UnicodeDecodeError as error:
                raise UserError(f"{path}: not UTF-8: {error.reason}") from None
    if not table or not len(next(iter(table.values()))):
        raise UserError(f"{path}: no rows")
    return table


def columns_of(records: Iterable[Mapping[str, Any]]) -> dict[str, Values]:
    """Rows turned into columns; what a row does not have is None in it."""
    columns: dict[str, list[Any]] = {}
    for number, record in enumerate(records):
        for name, value in record.items():
            if name not in columns:
                if len(columns) >= MOST_COLUMNS:
                    raise UserError(f"more than {MOST_COLUMNS} columns")
                columns[name] = [None] * number
            columns[name].append(value)
        for column in columns.values():
            if len(column) <= number:
                column.append(None)
    return dict(columns)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield file  # type: ignore[misc]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, EOFError) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _csv(path: Path, text: io.TextIOWrapper, most_rows: int) -> dict[str, Values]:
    reader = csv.reader(text)
    header: list[str] = []
    cells: list[list[str]] = []
    try:
        for row in reader:
            if not row:
                continue
            if not header:
                header = [name.strip() for name in row]
                if len(set(header)) < len(header) or len(header) > MOST_COLUMNS:
                    raise UserError(f"{path}: the first line names columns, each once, at most {MOST_COLUMNS}")
                cells = [[] for _ in header]
                continue
            if len(row) != len(header):
                raise UserError(f"{path}, line {reader.line_num}: {len(row)} values, the header has {len(header)}")
            for column, value in zip(cells, row, strict=True):
                column.append(value)
            if len(cells[0]) > most_rows:
                raise UserError(f"{path}: more than {most_rows} rows; take a sample")
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not valid CSV: {error}") from None
    return {name: _typed(column) for name, column in zip(header, cells, strict=True)}


def _typed(column: Sequence[str]) -> Values:
    """Numbers or booleans if all that is there is one or the other, or else texts."""
    try:
        return np.array([np.nan if cell.strip() in MISSING else float(cell) for cell in column])
    except ValueError:
        found = [None if cell.strip() in MISSING else cell for cell in column]
    if {cell.strip() for cell in found if cell is not None} <= BOOLEANS.keys():
        return [None if cell is None else BOOLEANS[cell.strip()] for cell in found]
    return found


def _jsonl(path: Path, text: io.TextIOWrapper, most_rows: int) -> dict[str, Values]:
    decoder = msgspec.json.Decoder(dict[str, Any])

    def records() -> Iterator[dict[str, Any]]:
        number = line = 0
        while content := text.readline(LONGEST_LINE + 1):
            line += 1
            if len(content) > LONGEST_LINE:
                raise UserError(f"{path}, line {line}: longer than {LONGEST_LINE >> 20} MiB")
            if not content.strip():
                continue
            number += 1
            if number > most_rows:
                raise UserError(f"{path}: more than {most_rows} rows; take a sample")
            try:
                yield decoder.decode(content)
            except (msgspec.DecodeError, RecursionError) as error:
                raise UserError(f"{path}, line {line}: not a JSON object: {error}") from None

    return columns_of(records())


def _parquet(path: Path, most_rows: int) -> dict[str, Values]:
    try:
        import pyarrow  # type: ignore[import-untyped]
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ImportError:
        raise MissingExtra("arrow", "Parquet files") from None
    try:
        file = pyarrow.parquet.ParquetFile(path)
        if file.metadata.num_rows > most_rows:
            raise UserError(f"{path}: more than {most_rows} rows; take a sample")
        table = file.read()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a readable Parquet file: {error}") from None
    return {name: _values(table.column(name)) for name in table.column_names}


def _values(column: Any) -> Values:
    import pyarrow

    kind = column.type
    if pyarrow.types.is_floating(kind) or pyarrow.types.is_integer(kind):
        found: Values = column.to_numpy(zero_copy_only=False) if column.null_count == 0 else column.to_pylist()
        return found
    if pyarrow.types.is_temporal(kind) or pyarrow.types.is_decimal(kind):
        return [None if value is None else str(value) for value in column.to_pylist()]
    listed: list[Any] = column.to_pylist()
    return listed
