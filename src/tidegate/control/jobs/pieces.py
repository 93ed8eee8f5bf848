"""What passes between the parts of a batch prediction: pieces of a file on their way to the model, and what comes back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from tidegate.errors import ContractError, InvalidInput, ModelFailed

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


class Scores(Protocol):
    kinds: Mapping[str, Any]

    def score(self, header: Sequence[str], columns: Sequence[Any]) -> dict[str, Any]: ...


def score(piece: Piece, model: Scores, keep: Sequence[str]) -> tuple[list[Scored], list[Bad]]:
    """Every row of the piece is in exactly one of both, in the order of the file."""
    parts: list[Scored] = []
    bad = list(piece.bad)
    for table in piece.tables:
        _score(table, model, keep, parts, bad)
    bad.sort()
    return parts, bad


def _score(table: Table, model: Scores, keep: Sequence[str], parts: list[Scored], bad: list[Bad]) -> None:
    """A part that fails is halved, so that rows that do not fit, or that the model fails on, fail alone."""
    rows = len(table.numbers)
    if not rows:
        return
    given = [index for index, name in enumerate(table.header) if name not in keep or name in model.kinds]
    try:
        answers = model.score([table.header[i] for i in given], [table.columns[i] for i in given])
    except (InvalidInput, ModelFailed, ContractError) as error:
        if rows == 1:
            bad.append(Bad(int(table.numbers[0]), str(error)[:MOST_REASON]))
            return
        cuts = list(range(rows + 1)) if rows <= FEW else [0, rows // 2, rows]
        for begin, end in itertools.pairwise(cuts):
            part = Table(table.numbers[begin:end], table.header, [column[begin:end] for column in table.columns])
            _score(part, model, keep, parts, bad)
        return
    kept = [table.columns[table.header.index(name)] for name in keep]
    parts.append(Scored(table.numbers, kept, answers))
