"""Reads rows from CSV, JSON, JSON lines or Parquet, a few at a time, each with its place in the file."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal

import msgspec

from tidegate.errors import MissingExtra, UserError

Format = Literal["csv", "json", "jsonl", "parquet"]

CHUNK = 1 << 16
LONGEST_VALUE = 64 << 20
"""Characters of one JSON value; a longer one is refused rather than held in memory."""

_SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
Convert = Callable[[dict[str, str] | list[str]], tuple[Any, str]]
"""Makes a row's value and unit of CSV texts; raises ValueError for what it cannot take."""

_FORMS = ("features", "records", "texts", "instances", "dataframe_records")


class Row(msgspec.Struct, frozen=True):
    """``line`` is the line of text, or else the number of the value, from 1. ``error`` replaces the value."""

    line: int
    value: Any = None
    error: str = ""
    unit: str = ""


def format_of(path: Path | None, given: str | None) -> Format:
    if given is not None:
        if given not in {*_SUFFIXES.values()}:
            raise UserError(f"--format {given}: expected csv, json, jsonl or parquet")
        return given
    if path is None:
        return "jsonl"
    name = path.name.lower().removesuffix(".gz")
    found = _SUFFIXES.get(Path(name).suffix)
    if found is None:
        raise UserError(f"{path}: the format cannot be told from the name; give --format csv, json, jsonl or parquet")
    return found


def open_input(path: Path | None, stdin: IO[bytes]) -> IO[bytes]:
    if path is None:
        return stdin
    try:
        if path.suffix == ".gz":
            return gzip.open(path)  # type: ignore[return-value]
        return path.open("rb")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def read_rows(file: IO[bytes], form: Format, convert: Convert, unit: str = "") -> Iterator[Row]:
    """``unit`` is the column that is taken out of rows that are objects."""
    rows = _read(file, form, convert)
    if not unit:
        return rows
    return (_with_unit(row, unit) if isinstance(row.value, dict) and unit in row.value else row for row in rows)


def _with_unit(row: Row, unit: str) -> Row:
    rest = {name: item for name, item in row.value.items() if name != unit}
    return Row(row.line, rest, row.error, str(row.value[unit]))


def _read(file: IO[bytes], form: Format, convert: Convert) -> Iterator[Row]:
    if form == "parquet":
        yield from _parquet(file)
        return
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="" if form == "csv" else None)
    try:
        yield from _csv(text, convert) if form == "csv" else _jsonl(text) if form == "jsonl" else _json(text)
    finally:
        text.detach()


def _csv(text: IO[str], convert: Convert) -> Iterator[Row]:
    reader = csv.reader(text)
    header: list[str] | None = None
    first = True
    try:
        for cells in reader:
            line = reader.line_num
            if not cells:
                continue
            if first:
                first = False
                if not all(is_number(cell) for cell in cells):
                    header = [cell.strip() for cell in cells]
                    continue
            if header is not None and len(cells) != len(header):
                yield Row(line, error=f"expected {len(header)} values, as in the header, got {len(cells)}")
                continue
            try:
                value, unit = convert(cells if header is None else dict(zip(header, cells, strict=True)))
                yield Row(line, value, unit=unit)
            except ValueError as error:
                yield Row(line, error=str(error))
    except csv.Error as error:
        yield Row(reader.line_num, error=f"not valid CSV: {error}")


def _jsonl(text: IO[str]) -> Iterator[Row]:
    for line, content in enumerate(text, 1):
        if not content.strip():
            continue
        try:
            yield Row(line, _strict(content))
        except (ValueError, RecursionError) as error:
            yield Row(line, error=f"not valid JSON: {error}")


def _json(text: IO[str]) -> Iterator[Row]:
    """One array of rows, read value by value; or a request body such as ``{"features": [...]}``."""
    start = text.read(CHUNK)
    while start and not start.strip():
        start = text.read(CHUNK)
    if start.lstrip().startswith("["):
        yield from _array(text, start.lstrip()[1:])
        return
    content = start + text.read(LONGEST_VALUE)
    try:
        body = _strict(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"not valid JSON: {error}; for one value per line, give --format jsonl") from None
    rows = next((body[form] for form in _FORMS if form in body), None) if isinstance(body, dict) else None
    if not isinstance(rows, list):
        raise UserError("expected a JSON array of rows, or an object with one of " + ", ".join(_FORMS))
    for number, value in enumerate(rows, 1):
        yield Row(number, value)


def _array(text: IO[str], buffer: str) -> Iterator[Row]:
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    number = 0
    ended = False
    while True:
        buffer = buffer.lstrip()
        if number and buffer.startswith(","):
            buffer = buffer[1:].lstrip()
        if buffer.startswith("]"):
            return
        try:
            value, end = decoder.raw_decode(buffer)
            # A number at the very end may go on in the next chunk.
            if end == len(buffer) and not ended:
                raise json.JSONDecodeError("unfinished", buffer, end)
        except (ValueError, RecursionError) as error:
            if ended or len(buffer) > LONGEST_VALUE:
                raise UserError(f"row {number + 1}: not valid JSON: {error}") from None
            more = text.read(max(CHUNK, len(buffer)))
            ended = not more
            buffer += more
            continue
        number += 1
        yield Row(number, value)
        buffer = buffer[end:]


def _parquet(file: IO[bytes]) -> Iterator[Row]:
    try:
        import pyarrow  # type: ignore[import-untyped]
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ImportError:
        raise MissingExtra("arrow", "Parquet files") from None
    if not file.seekable():
        raise UserError("Parquet cannot be read from a pipe; give the file's name")
    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=1024):
            for value in batch.to_pylist():
                number += 1
                yield Row(number, value)
    except pyarrow.ArrowException as error:
        raise UserError(f"not a readable Parquet file: {error}") from None


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _strict(content: str) -> Any:
    return json.loads(content, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")
