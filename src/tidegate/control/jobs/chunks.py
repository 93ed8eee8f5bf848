"""Results of a batch prediction, piece by piece: a file of answers, a file of rows without one, and a note that both are
whole. A note is written last, so what it speaks of is there once and for all, whoever is killed when."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from tidegate.control.jobs.arrow import Same, need_arrow, table_of
from tidegate.control.jobs.pieces import Bad, Format, Position, Scored
from tidegate.errors import MissingExtra, UserError

ROW, VERSION = "row", "model_version"
SUFFIXES: Mapping[Format, str] = {"csv": "csv", "jsonl": "jsonl", "parquet": "parquet"}


class Note(msgspec.Struct, frozen=True):
    """What a finished piece holds, and where in the input the next one begins."""

    end: Position
    written: int
    failed: int
    header: tuple[str, ...] = ()


class Chunks:
    """In ``folder``; results carry ``version`` and the kept columns ``keep``."""

    def __init__(self, folder: Path, form: Format, keep: Sequence[str], version: str) -> None:
        self._folder = folder
        self._form = form
        self._keep = tuple(keep)
        self._version = version
        self._growing = _Growing(folder) if form == "parquet" else None

    def finished(self) -> list[Note]:
        """Of the pieces that are there, from the first without a gap."""
        found: list[Note] = []
        while (note := self._note(len(found))) is not None:
            found.append(note)
        return found

    def write(self, index: int, parts: Sequence[Scored], bad: Sequence[Bad], end: Position) -> Note:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        columns = [self._columns(part) for part in parts]
        header = tuple(columns[0]) if columns else ()
        tables = [table_of(part) for part in columns] if self._growing is not None else []
        with _whole(self._path(index, "part")) as file:
            if self._growing is not None:
                _write_arrow(file, tables)
            else:
                _write_text(file, self._form, columns, header)
        if self._growing is not None:
            self._growing.add(index, tables)
        if bad:
            with _whole(self._path(index, "bad")) as file:
                file.writelines(b'{"row":%d,"reason":%s}\n' % (one.number, _encode(one.reason)) for one in bad)
        note = Note(end, sum(len(part.numbers) for part in parts), len(bad), header)
        with _whole(self._path(index, "note"), to_disk=False) as file:  # one that a crash left empty is none
            file.write(msgspec.json.encode(note))
        return note

    def join(self, results: Path, errors: Path) -> None:
        """One file of each; whoever was there before is replaced."""
        notes = self.finished()
        header = next((note.header for note in notes if note.header), (ROW, *self._keep, VERSION))
        parts = [self._path(index, "part") for index, note in enumerate(notes) if note.written]
        if self._growing is None or not self._growing.end(len(notes), results):
            with _whole(results) as file:
                if self._form == "parquet":
                    _join_parquet(file, parts, header)
                else:
                    if self._form == "csv":
                        file.write(_csv_line(header))
                    _append(file, parts)
        with _whole(errors) as file:
            _append(file, [self._path(index, "bad") for index, note in enumerate(notes) if note.failed])

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _columns(self, part: Scored) -> dict[str, Any]:
        columns: dict[str, Any] = {ROW: part.numbers}
        columns |= dict(zip(self._keep, part.kept, strict=True))
        if twice := columns.keys() & part.columns.keys():
            raise UserError(f"keep: the results have a column {min(twice)!r} of their own; keep it under another name")
        columns |= part.columns
        return columns | {VERSION: Same(self._version, len(part.numbers))}

    def _note(self, index: int) -> Note | None:
        try:
            return msgspec.json.decode(self._path(index, "note").read_bytes(), type=Note)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def _path(self, index: int, kind: str) -> Path:
        return self._folder / f"{index:08d}.{kind}"


class _Growing:
    """All pieces in one Parquet file, as they come: where no try was cut off there is nothing left to join, and what is
    costly was done while the next piece was read."""

    def __init__(self, folder: Path) -> None:
        need_arrow()
        self._path = folder / f"whole.{os.getpid()}.new"
        self._pieces = 0
        self._writer: Any = None

    def add(self, index: int, tables: Sequence[Any]) -> None:
        if index != self._pieces:
            return  # another try wrote the ones before
        for table in tables:
            self._writer = self._writer or _parquet_writer(self._path, table.schema)
            self._writer.write_table(_as(table, self._writer.schema))
        self._pieces += 1

    def end(self, pieces: int, results: Path) -> bool:
        """Whether all pieces are in it; then it is the results."""
        writer, self._writer = self._writer, None
        if writer is None:
            return False
        writer.close()
        if self._pieces != pieces:
            self._path.unlink(missing_ok=True)
            return False
        with self._path.open("rb") as file:
            os.fsync(file.fileno())
        self._path.replace(results)
        return True


class _whole:  # noqa: N801 - reads as a function
    """A file that is there once it is whole and on the disk, under a name of its own until then."""

    def __init__(self, path: Path, *, to_disk: bool = True) -> None:
        self._path = path
        self._to_disk = to_disk
        self._fresh = path.with_name(f"{path.name}.{os.getpid()}.new")

    def __enter__(self) -> IO[bytes]:
        self._file = self._fresh.open("wb")
        return self._file

    def __exit__(self, kind: object, *_: object) -> None:
        with self._file as file:
            if kind is None:
                file.flush()
                if self._to_disk:
                    os.fsync(file.fileno())
        if kind is None:
            self._fresh.replace(self._path)
        else:
            self._fresh.unlink(missing_ok=True)


_encode = msgspec.json.encode


def _write_text(file: IO[bytes], form: Format, parts: Sequence[Mapping[str, Any]], header: Sequence[str]) -> None:
    for part in parts:
        if form == "csv":
            _write_csv(file, part)
        else:
            rows = zip(*(_plain(part[name]) for name in header), strict=True)
            file.write(msgspec.json.Encoder().encode_lines([dict(zip(header, row, strict=True)) for row in rows]))


def _write_csv(file: IO[bytes], part: Mapping[str, Any]) -> None:
    try:
        need_arrow()
    except MissingExtra:
        import io

        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(zip(*map(_plain, part.values()), strict=True))
        file.write(text.getvalue().encode())
        return
    from pyarrow import csv as arrow_csv  # type: ignore[import-untyped]

    flat = {name: _flat(values) for name, values in part.items()}
    arrow_csv.write_csv(table_of(flat), file, arrow_csv.WriteOptions(include_header=False))


def _write_arrow(file: IO[bytes], tables: Sequence[Any]) -> None:
    """As Arrow's own file, which costs little: what is joined in the end is Parquet."""
    from pyarrow import ipc

    if not tables:
        return
    with ipc.new_file(file, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(_as(table, tables[0].schema))


def _join_parquet(file: IO[bytes], parts: Sequence[Path], header: Sequence[str]) -> None:
    import pyarrow as pa
    from pyarrow import ipc, parquet

    if not parts:
        parquet.write_table(pa.table({name: pa.array([], pa.string()) for name in header}), file)
        return
    schema = ipc.open_file(parts[0].read_bytes()).schema
    with _parquet_writer(file, schema) as writer:
        for part in parts:
            with pa.memory_map(str(part)) as mapped:
                writer.write_table(_as(ipc.open_file(mapped).read_all(), schema))


def _parquet_writer(file: Path | IO[bytes], schema: Any) -> Any:
    """With a dictionary where values come again: scores and the numbers of rows hardly do, and trying takes longer than all
    the rest."""
    import pyarrow as pa
    from pyarrow import parquet

    again = [field.name for field in schema if field.name != ROW and not pa.types.is_floating(field.type)]
    return parquet.ParquetWriter(file, schema, use_dictionary=again)


def _as(table: Any, schema: Any) -> Any:
    import pyarrow as pa

    try:
        return table.cast(schema)
    except pa.ArrowException as error:
        raise UserError(f"a kept column changes its type within the file: {error}; write csv or jsonl") from None


def _append(file: IO[bytes], parts: Sequence[Path]) -> None:
    for part in parts:
        with part.open("rb") as piece:
            file.flush()
            with contextlib.suppress(OSError, AttributeError):  # not on every system, nor every kind of disk
                while os.copy_file_range(piece.fileno(), file.fileno(), 1 << 30):
                    pass
            shutil.copyfileobj(piece, file, 1 << 20)  # what is left: all, or nothing


def _csv_line(names: Sequence[str]) -> bytes:
    import io

    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(names)
    return text.getvalue().encode()


def _plain(values: Any) -> Any:
    if isinstance(values, Same):
        return [values.value] * values.rows
    return values.tolist() if hasattr(values, "tolist") else values


def _flat(values: Any) -> Any:
    """A cell of CSV is one value: lists become JSON text."""
    if getattr(values, "ndim", 1) > 1 or (isinstance(values, list) and any(isinstance(v, list | dict) for v in values)):
        return [_encode(value).decode() for value in _plain(values)]
    return values
