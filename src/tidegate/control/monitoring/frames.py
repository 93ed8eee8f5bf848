"""Tables made ready for a report: one kind a column, the same in both tables, and nothing that breaks the pages that are
made of them. What was changed or left out on the way is said in notes, which the report shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from tidegate.control.monitoring.blocks import Floats, categories_of, kind_of, numbers_of
from tidegate.control.monitoring.records import Kind
from tidegate.errors import UserError

Table = Mapping[str, Sequence[Any] | NDArray[Any]]
Which = Literal["reference", "production"]

MOST_ROWS = 50_000
MOST_COLUMNS = 200
MOST_CATEGORIES = 40
LONGEST_NAME = 100
LARGEST = 1e100
"""Larger numbers have no histogram."""
FEWEST_ROWS = 2
"""For a comparison."""
_REST = "(all others)"


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """``reference`` is empty where there is none. Numbers are 64-bit with NaN for missing, categories texts or None."""

    reference: dict[str, Any] = {}
    production: dict[str, Any]
    kinds: dict[str, Kind]
    notes: tuple[str, ...] = ()
    rows: dict[str, int] = {}
    """Rows that were given, by table; fewer may be shown."""


def prepare(
    reference: Table | None, production: Table, *, most_rows: int = MOST_ROWS, seed: int = 0, whole: bool = False
) -> Prepared:
    """``whole`` keeps columns that only one table has, or that are all missing: for a look at each by itself.

    Raises UserError when nothing is left to look at.
    """
    notes: list[str] = []
    tables: dict[Which, Table] = {"production": production} if reference is None else {
        "reference": reference, "production": production,
    }  # fmt: skip
    rows = {which: _rows_of(table, which) for which, table in tables.items()}
    if reference is not None and not whole:
        for which, count in rows.items():
            if count < FEWEST_ROWS:
                raise UserError(
                    f"{which}: {count} row; a comparison needs {FEWEST_ROWS} at least, and hundreds to mean much"
                )
    names = _names(tables, notes)
    tables = {
        which: _sampled(table, names, rows[which], which, most_rows, seed, notes) for which, table in tables.items()
    }
    made: dict[Which, dict[str, Any]] = {which: {} for which in tables}
    kinds: dict[str, Kind] = {}
    for name in names:
        given = {which: table[name] for which, table in tables.items()}
        found = _column(name, given, notes, whole)
        if found is None:
            continue
        shown, kind, columns = found
        while shown in kinds:  # two names that look alike once they are safe
            shown += "'"
        kinds[shown] = kind
        for which, column in columns.items():
            made[which][shown] = column
    if not kinds:
        raise UserError("no column is left to report on: " + "; ".join(notes[-3:]))
    return Prepared(
        reference=made.get("reference", {}),
        production=made["production"],
        kinds=kinds,
        notes=tuple(notes),
        rows={str(which): count for which, count in rows.items()},
    )


def numbers_among(table: Table) -> dict[str, Sequence[Any] | NDArray[Any]]:
    """The table with texts of which most are numbers as numbers, so that one wrong cell does not make a column of texts."""
    return {name: _parsed(values) for name, values in table.items()}


def safe(text: str) -> str:
    """Without what pages would take for markup or for the end of a script, and at most ``LONGEST_NAME`` characters."""
    text = "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
    text = text.replace("<", "\u2039").replace(">", "\u203a").encode("utf-8", "replace").decode()
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"


def _rows_of(table: Table, which: Which) -> int:
    lengths = {len(column) for column in table.values()}
    if not lengths or not max(lengths):
        raise UserError(f"{which}: no rows")
    if len(lengths) > 1:
        raise UserError(f"{which}: columns of different lengths, from {min(lengths)} to {max(lengths)} rows")
    return lengths.pop()


def _names(tables: Mapping[Which, Table], notes: list[str]) -> list[str]:
    """Columns that all tables have, in the order of production's."""
    production = tables["production"]
    names = list(production)
    if "reference" in tables:
        reference = tables["reference"]
        names = [name for name in production if name in reference]
        if not names:
            raise UserError(
                f"the tables have no column in common: the reference has {_some(reference)}, production has {_some(production)}"
            )
        for which, there, other in (("production", reference, production), ("the reference", production, reference)):
            absent = [name for name in there if name not in other]
            if absent:
                notes.append(f"not in {which}, and so left out: {_some(absent)}")
    if len(names) > MOST_COLUMNS:
        notes.append(f"the first {MOST_COLUMNS} of {len(names)} columns are shown")
        names = names[:MOST_COLUMNS]
    return names


def _sampled(
    table: Table, names: Sequence[str], rows: int, which: Which, most: int, seed: int, notes: list[str]
) -> dict[str, Sequence[Any] | NDArray[Any]]:
    if rows <= most:
        return {name: table[name] for name in names}
    notes.append(f"{which}: a random sample of {most:,} of {rows:,} rows (seed {seed})")
    chosen = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    return {
        name: column[chosen] if isinstance(column := table[name], np.ndarray) else [column[at] for at in chosen]
        for name in names
    }


def _column(
    name: str, given: Mapping[Which, Sequence[Any] | NDArray[Any]], notes: list[str], whole: bool
) -> tuple[str, Kind, dict[Which, Any]] | None:
    shown = safe(name)
    kind = kind_of(next(iter(given.values())))
    columns: dict[Which, Any] = {}
    for which, values in given.items():
        if kind == "number":
            columns[which] = _numbers(shown, which, values, notes)
        else:
            columns[which] = _texts(values)
            if _is_mixed(values):
                notes.append(f"{shown}: numbers and texts are mixed in {which}; they are compared as categories")
    gone = [which for which, column in columns.items() if _empty(column)]
    if gone and not whole:
        notes.append(f"{shown}: no values in {' and '.join(gone)}, and so left out")
        return None
    if kind == "category":
        if _is_prose(next(iter(columns.values()))):
            notes.append(f"{shown}: nearly every value is another; lengths of the texts are compared")
            lengths = {which: _lengths(column) for which, column in columns.items()}
            return f"{shown}.length", "number", lengths
        _few(shown, columns, notes)
    return shown, kind, columns


def _parsed(values: Sequence[Any] | NDArray[Any]) -> Sequence[Any] | NDArray[Any]:
    """Texts of which most are numbers, as numbers; those that are none stay texts."""
    if isinstance(values, np.ndarray) or not any(isinstance(value, str) for value in values[:1000]):
        return values
    found = [_number(value) if isinstance(value, str) else value for value in values]
    present = [value for value in found if value is not None]
    numbers = sum(1 for value in present if not isinstance(value, str | bool))
    return found if 2 * numbers > len(present) else values


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _numbers(name: str, which: Which, values: Sequence[Any] | NDArray[Any], notes: list[str]) -> Floats:
    block = numbers_of(values)
    if block.wrong:
        notes.append(
            f"{name}: {block.wrong:,} of {len(block.values):,} values in {which} are no numbers; they count as missing"
        )
    exact = block.values.astype(np.float64, copy=True)
    large = np.abs(exact) > LARGEST
    if large.any():
        notes.append(f"{name}: {int(large.sum()):,} values in {which} are infinite or huge; they count as missing")
        exact[large] = np.nan
    return exact


def _texts(values: Sequence[Any] | NDArray[Any]) -> list[str | None]:
    block = categories_of(values)
    texts = [safe(text) for text in block.found]
    return [texts[place] if place >= 0 else (None if place == -1 else "(no text)") for place in block.places.tolist()]


def _is_mixed(values: Sequence[Any] | NDArray[Any]) -> bool:
    types = {type(value) for value in (values.tolist() if isinstance(values, np.ndarray) else values)}
    return str in types and bool(types & {int, float}) and not _only_nan(values, types)


def _only_nan(values: Any, types: set[type]) -> bool:
    """A float may stand for a missing text."""
    return int not in types and all(value != value for value in values if isinstance(value, float))


def _empty(column: Any) -> bool:
    return bool(np.isnan(column).all()) if isinstance(column, np.ndarray) else all(value is None for value in column)


def _is_prose(column: Sequence[str | None]) -> bool:
    present = [value for value in column if value is not None]
    return len(set(present)) > max(MOST_CATEGORIES, len(present) // 2)


def _lengths(column: Sequence[str | None]) -> Floats:
    return np.array([np.nan if value is None else float(len(value)) for value in column])


def _few(name: str, columns: dict[Which, Any], notes: list[str]) -> None:
    """Keeps the most frequent categories; a plot of thousands shows nothing."""
    counts: Counter[str] = Counter(value for column in columns.values() for value in column if value is not None)
    if len(counts) <= MOST_CATEGORIES:
        return
    kept = {value for value, _ in sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:MOST_CATEGORIES]}
    notes.append(
        f"{name}: the {MOST_CATEGORIES} most frequent of {len(counts):,} categories are shown, the others as one"
    )
    for which, column in columns.items():
        columns[which] = [value if value is None or value in kept else _REST for value in column]


def _some(names: Any) -> str:
    shown = [safe(name) for name in list(names)[:5]]
    return ", ".join(shown) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
