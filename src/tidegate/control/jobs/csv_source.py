"""CSV in pieces of some megabytes. A piece is read by Arrow at once where that can be done; one with a line that is not
right is halved again and again, and the few lines around it are read one by one."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from tidegate.control.jobs.arrow import csv_reader
from tidegate.control.jobs.pieces import Bad, Piece, Position, Table
from tidegate.control.jobs.task import Kind
from tidegate.errors import InvalidInput, MissingExtra

PIECE_BYTES = 4 << 20
LONGEST_RECORD = 1 << 20
"""Bytes of one row; a quoted value that goes on for longer was never closed."""
MOST_LINES = 100
"""Lines of one row, where a value has line breaks in quotes."""
SMALL_BYTES = 1 << 15
"""A piece with a bad line is not halved below this, but read line by line."""
BOM = b"\xef\xbb\xbf"
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
"""As the prediction API takes them in CSV."""
WORDS = {"true": 1.0, "True": 1.0, "TRUE": 1.0, "false": 0.0, "False": 0.0, "FALSE": 0.0}
"""Numbers where a model was trained on booleans."""
BOOLEANS = {word: bool(value) for word, value in WORDS.items()} | {"1": True, "0": False}


class CsvSource:
    """``kinds`` says what the columns hold, ``default`` what those hold that it does not name; ``only`` these are read. Raises InvalidInput for a
    file without a header."""

    def __init__(
        self,
        path: Path,
        kinds: Mapping[str, Kind],
        default: Kind,
        only: Collection[str] | None = None,
        piece_bytes: int = PIECE_BYTES,
    ) -> None:
        self._path = path
        self._piece_bytes = piece_bytes
        with path.open("rb") as file:
            first = file.read(LONGEST_RECORD)
        skip = len(BOM) if first.startswith(BOM) else 0
        end = cut(first, skip, skip) or len(first)
        if end == LONGEST_RECORD and first[-1:] != b"\n":
            raise InvalidInput(f"the first line names the columns; this one is longer than {LONGEST_RECORD >> 20} MiB")
        try:
            lines = csv.reader(io.StringIO(first[skip:end].decode(), newline=""))
            names = next(lines, [])
            if next(lines, None):
                raise InvalidInput("its lines end with a carriage return alone; end them with a line feed")
        except (UnicodeDecodeError, csv.Error) as error:
            raise InvalidInput(f"the first line does not name the columns: {error}") from None
        if not any(name.strip() for name in names):
            raise InvalidInput("the file is empty; the first line names the columns")
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise InvalidInput(f"the column {twice[0][:80]!r} is named twice")
        self._start = end
        self._names = names
        index = names[0] == "" and len(names) > 1  # as pandas writes it: no column of anybody's
        self._wanted = [
            at for at, name in enumerate(names) if not (index and at == 0) and (only is None or name in only)
        ]
        self.header = tuple(names[at] for at in self._wanted)
        self._kinds: list[Kind] = [kinds.get(name, default) for name in self.header]
        self._arrow = _reader(names, self.header, self._kinds, self._first_row(first[end:]))

    def _first_row(self, data: bytes) -> list[str]:
        values = next(records(data[: cut(data, 0, 0) or len(data)], len(self._names)), "")
        whole = isinstance(values, list) and len(values) == len(self._names)
        return [values[at] for at in self._wanted] if whole else []

    def count(self) -> int:
        lines = 0
        with self._path.open("rb") as file:
            file.seek(self._start)
            last = b"\n"
            while block := file.read(1 << 20):
                lines, last = lines + block.count(b"\n"), block[-1:]
        return lines + (last != b"\n")

    def pieces(self, start: Position) -> Iterator[Piece]:
        row, offset = start.row, max(start.offset, self._start)
        with self._path.open("rb") as file:
            file.seek(offset)
            for block in blocks(file, self._piece_bytes):
                tables: list[Table] = []
                bad: list[Bad] = []
                row = self._read(block, row, tables, bad)
                offset += len(block)
                yield Piece(tables, bad, Position(row, offset))

    def _read(self, block: bytes, row: int, tables: list[Table], bad: list[Bad]) -> int:
        """The number of the last row."""
        if self._arrow is not None and block.count(b'"') % 2 == 0:
            columns = self._arrow(block)
            if columns is not None:
                rows = len(columns[0]) if columns else 0
                if rows:
                    tables.append(Table(range(row + 1, row + 1 + rows), self.header, columns))
                return row + rows
        if self._arrow is not None and len(block) > SMALL_BYTES:
            middle = cut(block, 0, len(block) // 2)
            if 0 < middle < len(block):
                row = self._read(block[:middle], row, tables, bad)
                return self._read(block[middle:], row, tables, bad)
        return self._read_lines(block, row, tables, bad)

    def _read_lines(self, block: bytes, row: int, tables: list[Table], bad: list[Bad]) -> int:
        numbers: list[int] = []
        rows: list[list[str]] = []
        width = len(self._names)
        for values in records(block, width):
            row += 1
            if isinstance(values, str):
                bad.append(Bad(row, values))
            elif len(values) != width:
                bad.append(Bad(row, f"expected {width} values, one per column, got {len(values)}"))
            else:
                numbers.append(row)
                rows.append([values[at] for at in self._wanted])
        if rows:
            texts = zip(*rows, strict=True)
            columns = [typed(column, kind) for column, kind in zip(texts, self._kinds, strict=True)]
            tables.append(Table(numbers, self.header, columns))
        return row


def _reader(names: Sequence[str], wanted: Sequence[str], kinds: Sequence[Kind], first: Sequence[str]) -> Any:
    """None without Arrow: then every line is read one by one. Arrow reads no "True" as a number: columns of numbers that
    begin with one, by the ``first`` row, are read as what they are."""
    words = {at for at, one in enumerate(first) if one in WORDS and kinds[at] in ("number", "whole")}
    try:
        read = csv_reader(names, wanted, ["boolean" if at in words else kind for at, kind in enumerate(kinds)], MISSING)
    except MissingExtra:
        return None
    if not words:
        return read

    def with_numbers(block: bytes) -> list[Any] | None:
        columns = read(block)
        return columns and [
            np.array(column, np.float64) if at in words else column for at, column in enumerate(columns)
        ]

    return with_numbers


def blocks(file: IO[bytes], size: int) -> Iterator[bytes]:
    """Whole rows, at most ``size`` bytes at a time unless one is longer. From where a block began, the same ones again."""
    rest = b""
    while True:
        data = file.read(size - len(rest) if len(rest) < size else size)
        block = rest + data
        if not data:
            if block:
                yield block
            return
        end = cut(block, 0, len(block), backwards=True)
        if end <= 0 and len(block) < max(LONGEST_RECORD, 2 * size):
            rest = block
            continue
        if end <= 0:  # quotes that do not fit: any line will do, or all of it
            end = block.rfind(b"\n") + 1 or len(block)
        yield block[:end]
        rest = block[end:]


def cut(block: bytes, start: int, near: int, *, backwards: bool = False) -> int:
    """Just after a line break that is not inside quotes, at ``near`` or after it (before it with ``backwards``); 0 when
    there is none. ``start`` is the beginning of a row."""
    quotes = block.find(b'"', start) >= 0
    at = near
    for _ in range(MOST_LINES):
        at = block.rfind(b"\n", start, at) if backwards else block.find(b"\n", at)
        if at < 0:
            return 0
        if not quotes or block.count(b'"', start, at) % 2 == 0:
            return at + 1
        at += 0 if backwards else 1
    return 0


def records(block: bytes, width: int) -> Iterator[list[str] | str]:
    """The values of each row, or why it has none. A quoted value may have line breaks, but where that does not give a row
    of the right width, the line stands alone."""
    lines = block.split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
    at = 0
    while at < len(lines):
        line = lines[at]
        if not line.strip(b"\r"):
            at += 1
            continue
        taken = 1
        found = _values(line)
        if line.count(b'"') % 2:
            found = "a quote is not closed"
            joined = _joined(lines, at)
            more = _values(b"\n".join(lines[at : at + joined])) if joined else ""
            if isinstance(more, list) and len(more) == width:
                found, taken = more, joined
        at += taken
        yield found


def _joined(lines: Sequence[bytes], at: int) -> int:
    """How many lines it takes until the quotes are closed; 0 when they are not."""
    odd, size = True, len(lines[at])
    for more in range(1, min(MOST_LINES, len(lines) - at)):
        size += len(lines[at + more])
        if size > LONGEST_RECORD:
            return 0
        odd ^= bool(lines[at + more].count(b'"') % 2)
        if not odd:
            return more + 1
    return 0


def _values(record: bytes) -> list[str] | str:
    try:
        text = record.decode().rstrip("\r")
    except UnicodeDecodeError:
        return "not UTF-8 text"
    try:
        return next(csv.reader(io.StringIO(text, newline=""), strict=True), [])
    except csv.Error as error:
        return f"not CSV: {error}"


def typed(texts: Sequence[str], kind: Kind) -> list[Any]:
    """What does not fit stays text, and is refused by name later."""
    if kind == "text":
        return list(texts)
    read = {"number": _number, "whole": _whole, "boolean": _boolean}[kind]
    return [read(text.strip()) for text in texts]


def _number(text: str) -> Any:
    if text in MISSING:
        return None
    if text in WORDS:
        return WORDS[text]
    try:
        return float(text) if "_" not in text else text
    except ValueError:
        return text


def _whole(text: str) -> Any:
    try:
        return int(text) if "_" not in text else text
    except ValueError:
        return _number(text)


def _boolean(text: str) -> Any:
    return None if text in MISSING else BOOLEANS.get(text, text)
