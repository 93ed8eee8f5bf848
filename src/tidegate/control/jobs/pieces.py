"""What passes between the parts of a batch prediction: pieces of a file on their way to the model, and what comes back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import msgspec
import numpy as np

from tidegate.errors import ContractError, InvalidInput, ModelFailed
from tidegate.types import Tensors

Format = Literal["csv", "jsonl", "parquet"]

MOST_REASON = 500
FEW = 8
"""So many rows are tried one by one."""


class Position(msgspec.Struct, frozen=True):
    """Between two pieces: rows that lie before, and the offset in bytes where the format has one."""

    row: int = 0
    offset: int = 0


class Table(NamedTuple):
    """Rows that could be read. ``numbers`` count all rows of the file from 1; columns are arrays or lists."""

    numbers: Sequence[int]
    header: tuple[str, ...]
    columns: Sequence[Any]


class Bad(NamedTuple):
    """A row that gives no result, and why."""

    number: int
    reason: str


class Piece(NamedTuple):
    """Rows of the file up to ``end``, in order."""

    tables: Sequence[Table]
    bad: Sequence[Bad]
    end: Position


class Source(Protocol):
    """A file of rows, read from any position that it gave before: always cut into the same pieces."""

    header: tuple[str, ...]
    """Empty where each row brings its own names."""

    def pieces(self, start: Position) -> Iterator[Piece]: ...

    def count(self) -> int:
        """Rows, as near as a quick look tells."""


class Scored(NamedTuple):
    """Answers for rows in order; ``kept`` are columns of the input that go into the result."""

    numbers: Sequence[int]
    kept: Sequence[Any]
    columns: dict[str, Any]


class Ready(NamedTuple):
    """Rows that fit the model."""

    numbers: Any
    kept: Sequence[Any]
    inputs: Tensors

    def part(self, begin: int, end: int) -> Ready:
        inputs = {name: array[begin:end] for name, array in self.inputs.items()}
        return Ready(self.numbers[begin:end], [column[begin:end] for column in self.kept], inputs)


class Scores(Protocol):
    kinds: Mapping[str, Any]

    def inputs(self, header: Sequence[str], columns: Sequence[Any]) -> Tensors: ...

    def predict(self, inputs: Tensors) -> dict[str, Any]: ...


def score(piece: Piece, model: Scores, keep: Sequence[str]) -> tuple[list[Scored], list[Bad]]:
    """Every row of the piece is in exactly one of both, in the order of the file."""
    ready: list[Ready] = []
    parts: list[Scored] = []
    bad = list(piece.bad)
    for table in piece.tables:
        _fit(table, model, keep, ready, bad)
    for one in joined(ready):  # few bad rows must not make the model's batches small
        _predict(one, model, parts, bad)
    bad.sort()
    return parts, bad


def _fit(table: Table, model: Scores, keep: Sequence[str], ready: list[Ready], bad: list[Bad]) -> None:
    """A part that does not fit is halved, until the rows that do not stand alone."""
    rows = len(table.numbers)
    if not rows:
        return
    given = [index for index, name in enumerate(table.header) if name not in keep or name in model.kinds]
    try:
        inputs = model.inputs([table.header[i] for i in given], [table.columns[i] for i in given])
    except InvalidInput as error:
        if rows == 1:
            bad.append(Bad(int(table.numbers[0]), str(error)[:MOST_REASON]))
            return
        for begin, end in _halves(rows):
            part = Table(table.numbers[begin:end], table.header, [column[begin:end] for column in table.columns])
            _fit(part, model, keep, ready, bad)
        return
    ready.append(Ready(table.numbers, [table.columns[table.header.index(name)] for name in keep], inputs))


def _predict(ready: Ready, model: Scores, parts: list[Scored], bad: list[Bad]) -> None:
    """The same for rows that the model fails on."""
    rows = len(ready.numbers)
    try:
        answers = model.predict(ready.inputs)
    except (ModelFailed, ContractError) as error:
        if rows == 1:
            bad.append(Bad(int(ready.numbers[0]), str(error)[:MOST_REASON]))
            return
        for begin, end in _halves(rows):
            _predict(ready.part(begin, end), model, parts, bad)
        return
    parts.append(Scored(ready.numbers, ready.kept, answers))


def _halves(rows: int) -> Iterator[tuple[int, int]]:
    return itertools.pairwise(range(rows + 1) if rows <= FEW else (0, rows // 2, rows))


def joined(parts: Sequence[Ready]) -> Iterator[Ready]:
    """As few as can be: neighbours whose arrays have the same names and kinds become one."""
    for _, group in itertools.groupby(parts, _kind):
        some = list(group)
        if len(some) == 1:
            yield some[0]
            continue
        numbers = np.concatenate([np.asarray(one.numbers) for one in some])
        kept = [_in_one([one.kept[index] for one in some]) for index in range(len(some[0].kept))]
        yield Ready(
            numbers, kept, {name: np.concatenate([one.inputs[name] for one in some]) for name in some[0].inputs}
        )


def _kind(ready: Ready) -> list[tuple[str, Any, Any]]:
    return [(name, array.dtype, array.shape[1:]) for name, array in ready.inputs.items()]


def _in_one(columns: Sequence[Any]) -> Any:
    if all(isinstance(column, np.ndarray) for column in columns):
        return np.concatenate(columns)
    plain = (column.tolist() if isinstance(column, np.ndarray) else column for column in columns)
    return list(itertools.chain.from_iterable(plain))
