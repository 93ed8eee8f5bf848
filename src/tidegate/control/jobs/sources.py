"""JSON lines and Parquet in pieces; CSV has a file of its own. And which files may be read at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from tidegate.control.jobs.arrow import columns_of, need_arrow
from tidegate.control.jobs.csv_source import BOM, CsvSource
from tidegate.control.jobs.pieces import Bad, Format, Piece, Position, Source, Table
from tidegate.control.jobs.task import Kind
from tidegate.errors import InvalidInput, NotAllowed

JSON_BYTES = 4 << 20
LONGEST_LINE = 16 << 20
PARQUET_ROWS = 262_144
"""Of a piece, or fewer where rows have many columns, or the file has smaller groups."""
PARQUET_CELLS = 4_000_000
LISTS = ("features", "instances")
"""Under these names a row may bring all its values as one list."""


def open_source(
    path: Path, form: Format, kinds: Mapping[str, Kind], keep: Sequence[str], matrix: bool, optional: Sequence[str] = ()
) -> Source:
    """``kinds`` of the columns that the model takes by name; without any, all but ``keep`` are its. Raises InvalidInput for a file that is not of its format, MissingExtra."""
    try:
        if form == "csv":
            texts: dict[str, Kind] = dict.fromkeys(keep, "text")
            default: Kind = "number" if matrix and not kinds else "text"
            return CsvSource(path, {**texts, **kinds}, default, only={*kinds, *keep} if kinds else None)
        if form == "jsonl":
            return JsonSource(path, kinds, keep, optional)
        return ParquetSource(path, (*kinds, *keep) if kinds else None)
    except OSError as error:
        raise InvalidInput(f"the input cannot be read: {error.strerror or error}") from None


class JsonSource:
    """One JSON object a line."""

    def __init__(
        self,
        path: Path,
        kinds: Mapping[str, Kind],
        keep: Sequence[str],
        optional: Sequence[str] = (),
        piece_bytes: int = JSON_BYTES,
    ) -> None:
        self.header: tuple[str, ...] = ()
        self._path = path
        self._names = tuple(kinds)
        self._keep = tuple(keep)
        self._optional = frozenset(optional)
        self._piece_bytes = piece_bytes
        self._decode = msgspec.json.Decoder().decode
        self._decode_all = msgspec.json.Decoder().decode_lines

    def count(self) -> int:
        lines, last = 0, b"\n"
        with self._path.open("rb") as file:
            while block := file.read(1 << 20):
                lines, last = lines + block.count(b"\n"), block[-1:]
        return lines + (last != b"\n")

    def pieces(self, start: Position) -> Iterator[Piece]:
        row, offset = start.row, start.offset
        with self._path.open("rb") as file:
            file.seek(offset)
            rest = b""
            while True:
                size = self._piece_bytes
                data = file.read(size - len(rest) if len(rest) < size else size)
                block = rest + data
                end = block.rfind(b"\n") + 1 if data else len(block)
                if end == 0 and data and len(block) < LONGEST_LINE:
                    rest = block
                    continue
                end = end or len(block)
                if not block:
                    return
                tables: list[Table] = []
                bad: list[Bad] = []
                lines = block[:end].removeprefix(BOM) if offset == 0 else block[:end]
                row = self._read(lines, row, tables, bad)
                offset, rest = offset + end, block[end:]
                yield Piece(tables, bad, Position(row, offset))

    def _read(self, block: bytes, row: int, tables: list[Table], bad: list[Bad]) -> int:
        lines = [line for line in block.split(b"\n") if line.strip()]
        try:
            rows = self._decode_all(block)
            if len(rows) != len(lines):
                raise msgspec.DecodeError
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            rows = [self._one(line) for line in lines]
        group: list[tuple[int, dict[str, Any]]] = []
        names: tuple[str, ...] = ()
        for value in rows:
            row += 1
            if not isinstance(value, dict):
                reason = value.reason if isinstance(value, _Wrong) else "expected an object with one value per column"
                bad.append(Bad(row, reason))
                continue
            mine = self._names_of(value)
            missing = [name for name in mine if name not in value]
            if missing:
                bad.append(Bad(row, f'the column "{missing[0]}" is missing'))
                continue
            if mine != names and group:
                tables.append(_table(group, names))
                group = []
            names = mine
            group.append((row, value))
        if group:
            tables.append(_table(group, names))
        return row

    def _names_of(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        for name in LISTS:
            if name in row and name not in self._names:
                return (name, *self._keep)
        if self._names:
            named = [name for name in self._names if name in row or name not in self._optional]
            return (*named, *(name for name in self._keep if name not in named))
        return tuple(row)

    def _one(self, line: bytes) -> Any:
        try:
            return self._decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return _Wrong(f"not JSON: {error}")


class _Wrong:
    def __init__(self, reason: str) -> None:
        self.reason = reason


def _table(group: Sequence[tuple[int, dict[str, Any]]], names: tuple[str, ...]) -> Table:
    return Table([number for number, _ in group], names, [[row[name] for _, row in group] for name in names])


class ParquetSource:
    """Only the columns ``wanted`` are read; all when None."""

    def __init__(self, path: Path, wanted: Sequence[str] | None = None, rows_at_once: int = PARQUET_ROWS) -> None:
        pa = need_arrow()
        from pyarrow import parquet  # type: ignore[import-untyped]

        try:
            self._file = parquet.ParquetFile(path)
        except (pa.ArrowInvalid, pa.ArrowException) as error:
            raise InvalidInput(f"the input is not Parquet: {str(error).splitlines()[0][:200]}") from None
        names = self._file.schema_arrow.names
        self.header = tuple(names if wanted is None else (name for name in names if name in wanted))
        twice = [name for name, count in Counter(self.header).items() if count > 1]
        if twice:
            raise InvalidInput(f"the column {twice[0][:80]!r} is there twice")
        self._rows_at_once = max(1, min(rows_at_once, PARQUET_CELLS // max(len(self.header), 1)))

    def count(self) -> int:
        return int(self._file.metadata.num_rows)

    def pieces(self, start: Position) -> Iterator[Piece]:
        row = 0
        for index in range(self._file.metadata.num_row_groups):
            rows = self._file.metadata.row_group(index).num_rows
            if row + rows <= start.row:
                row += rows
                continue
            for batch in self._batches(index):
                begin, row = row, row + batch.num_rows
                if row <= start.row:
                    continue
                columns = dict(zip(batch.schema.names, columns_of(batch), strict=True))
                table = Table(range(begin + 1, row + 1), self.header, [columns[name] for name in self.header])
                yield Piece([table], [], Position(row))

    def _batches(self, index: int) -> Iterator[Any]:
        import pyarrow as pa

        try:
            yield from self._file.iter_batches(self._rows_at_once, row_groups=[index], columns=list(self.header))
        except (pa.ArrowException, OSError) as error:
            raise InvalidInput(f"the input is damaged: {str(error).splitlines()[0][:200]}") from None


def allowed_source(uri: str, sources: Sequence[str]) -> str:
    """What a person over HTTP names, made canonical: a path below one of the allowed folders, or an address below one of
    the allowed prefixes. Raises NotAllowed for any other."""
    refused = NotAllowed(
        "this input is not below one of jobs.sources; upload it, or have its folder or address added there"
    )
    try:
        parts = urlsplit(uri) if "://" in uri else None
    except ValueError:
        raise refused from None
    if parts is not None and parts.scheme in ("http", "https"):
        if any(_below(uri, prefix) for prefix in sources if "://" in prefix):
            return uri
        raise refused
    if parts is not None and parts.scheme != "file":
        raise NotAllowed(f"inputs may come from a path, http: or https:, not {parts.scheme[:30]}:")
    if "\0" in uri:
        raise refused
    path = Path(unquote(parts.path) if parts is not None else uri)
    if not path.is_absolute():
        raise refused
    try:
        found = path.resolve()
        folders = [Path(folder).expanduser().resolve() for folder in sources if "://" not in folder]
    except (OSError, RuntimeError):
        raise refused from None
    if not any(found != folder and found.is_relative_to(folder) for folder in folders):
        raise refused
    return str(found)


def _below(uri: str, prefix: str) -> bool:
    """Both as the server will read them: same scheme, host and port, and a path that stays below."""
    try:
        one, other = urlsplit(uri), urlsplit(prefix)
        same = (one.scheme, one.hostname, one.port) == (other.scheme, other.hostname, other.port)
    except ValueError:
        return False
    path = unquote(one.path)
    climbs = ".." in path.split("/") or "\\" in path or "%" in path
    top = other.path.rstrip("/") + "/"
    return same and not climbs and not one.username and not one.password and path.startswith(top)
