"""Profiles: what a table looks like, in a few kilobytes that add up. The reference's freezes the bins; a window's has
counts in them, and two windows of one reference are one window of all their rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tidegate.control.monitoring import bins, blocks, columns, repeats, texts
from tidegate.control.monitoring.columns import Column
from tidegate.control.monitoring.records import Kind
from tidegate.control.monitoring.repeats import Repeats
from tidegate.control.monitoring.rows import Rows, Table, Values, derived, flat, rows_in
from tidegate.errors import Conflict, InvalidInput

BLOCK = 1 << 16
"""Rows that are looked at in one go: their values stay in the processor's cache."""
FROZEN_FROM = 100_000
"""Rows of a reference that its bins are made of; all are counted."""
MOST_NAMES = 50
MOST_COUNT = 1 << 53
"""Of rows: more than there will be, and exact as a number with a fraction."""
MOST_COLUMNS = 10_000
MOST_PLACES = 1000
MOST_REST = 10_000
"""What is decoded may have so many; what is made here has fewer by far."""
VERSION = 1


class Profile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``reference`` is the digest of the profile whose bins a window's counts are in; empty for a reference itself."""

    version: int = VERSION
    rows: int = 0
    unreadable: int = 0
    """Rows of events without a text that can be read; they are in no column."""
    columns: Mapping[str, Column] = {}
    extra: tuple[str, ...] = ()
    """Columns of a window that the reference has not; at most ``MOST_NAMES``."""
    repeats: Repeats = Repeats()
    reference: str = ""
    names: Mapping[str, tuple[str, ...]] = {}
    """Of the columns of matrices, by input."""
    vocabularies: Mapping[str, tuple[int, ...]] = {}
    """Hashes of the words of free texts, by column."""
    sample: Mapping[str, tuple[Any, ...]] = {}
    """Some of the reference's rows, as columns."""


def make_profile(
    table: Table,
    *,
    kinds: Mapping[str, str] | None = None,
    names: Mapping[str, Sequence[str]] | None = None,
    sample: int = 1000,
    seed: int = 0,
) -> Profile:
    """A reference. ``kinds`` overrules what columns seem to be: number, category or text. The same table, kinds and seed
    give the same bytes."""
    kinds, own = dict(kinds or {}), {name: tuple(of) for name, of in (names or {}).items()}
    if unknown := set(kinds.values()) - {"number", "category", "text"}:
        raise InvalidInput(f"kind {min(unknown)!r} of a column: it is number, category or text")
    rows = rows_in(table)
    raw = flat(table, own)
    if missing := set(kinds) - set(raw):
        raise InvalidInput(f"no column {min(missing)!r}, whose kind is given; there are {', '.join(sorted(raw))}")
    rng = np.random.default_rng(seed)
    frozen_from = np.sort(rng.choice(rows, FROZEN_FROM, replace=False)) if rows > FROZEN_FROM else None
    ready, vocabularies = _measured_texts(raw, kinds)
    empty = {name: _freeze(values, kinds.get(name), frozen_from) for name, values in ready.items()}
    found = Profile(columns=empty, names=own, vocabularies=vocabularies)
    total = counted(found, ready, rows)
    kept = np.sort(rng.choice(rows, sample, replace=False)) if rows > sample else np.arange(rows)
    picked = {name: _sampled(_taken(values, kept), empty[name].kind) for name, values in ready.items()}
    return msgspec.structs.replace(
        found,
        rows=rows,
        unreadable=table.unreadable if isinstance(table, Rows) else 0,
        columns={name: columns.merged(empty[name], total.columns[name]) for name in empty},
        repeats=total.repeats,
        sample=picked,
    )


def _measured_texts(
    raw: Mapping[str, Values], kinds: Mapping[str, str]
) -> tuple[dict[str, Values], dict[str, tuple[int, ...]]]:
    """A word of the reference counts as known where another text has it too: as it will for texts to come."""
    ready: dict[str, Values] = {}
    vocabularies: dict[str, tuple[int, ...]] = {}
    for name, values in raw.items():
        kind = kinds.get(name)
        if isinstance(values, np.ndarray) and values.dtype.kind not in "OUS":
            ready[name] = values
            continue
        listed: Sequence[Any] = values.tolist() if isinstance(values, np.ndarray) else values
        if kind != "text" and (kind is not None or not texts.is_text(listed[:1000])):
            ready[name] = values
            continue
        counted = texts.count_words(listed)
        vocabularies[name] = texts.vocabulary_of(counted)
        twice = frozenset(word for word in vocabularies[name] if counted[word] > 1)
        ready |= {f"{name}.{key}": column for key, column in texts.measured(listed, twice).items()}
    return ready, vocabularies


def _freeze(values: Values, kind: str | None, places: NDArray[np.intp] | None) -> Column:
    seen: Kind = kind if kind in ("number", "category") else blocks.kind_of(values)  # type: ignore[assignment]
    if seen == "number":
        return bins.frozen_numbers(blocks.numbers_of(values if places is None else _taken(values, places)).values)
    found: dict[str, int] = {}
    for start in range(0, len(values), BLOCK):
        for text, count in blocks.categories_of(values[start : start + BLOCK]).found.items():
            found[text] = found.get(text, 0) + count
    return bins.frozen_categories(found, len(values))


def _taken(values: Values, places: NDArray[np.intp]) -> Values:
    if isinstance(values, np.ndarray):
        return values[places]
    return [values[place] for place in places.tolist()]


def _sampled(values: Values, kind: Kind) -> tuple[Any, ...]:
    if kind == "number":
        exact = blocks.numbers_of(values).values
        return tuple(float(f"{value:.9g}") if np.isfinite(value) else None for value in exact.tolist())
    block = blocks.categories_of(values)
    found = list(block.found)
    return tuple(found[place] if place >= 0 else None for place in block.places.tolist())


def fold(reference: Profile, window: Profile | None, table: Table) -> Profile:
    """The window with the table's rows in it too. The table is as ``rows.table_of`` gives it, or as the reference's was."""
    rows = rows_in(table)
    ready = aligned(reference, table)
    found = counted(reference, ready, rows)
    found = msgspec.structs.replace(
        found,
        unreadable=table.unreadable if isinstance(table, Rows) else 0,
        reference=digest(reference),
        extra=tuple(sorted(name[:256] for name in set(ready) - set(reference.columns))[:MOST_NAMES]),
    )
    return found if window is None else merge(window, found)


def aligned(reference: Profile, table: Table) -> Mapping[str, Values]:
    """The table's columns as the reference has them: matrices by column, free texts by their measures."""
    return derived(table, reference.names, reference.vocabularies)


def counted(reference: Profile, ready: Mapping[str, Values], rows: int) -> Profile:
    """Counts of all rows in the reference's bins."""
    present = {name: of for name, of in reference.columns.items() if name in ready}
    tools = {name: _Counter(of) for name, of in present.items()}
    total: dict[str, Column] = {}
    seen = Repeats()
    for start in range(0, rows, BLOCK):
        length = min(BLOCK, rows - start)
        hashes = repeats.begin(length)
        for name in sorted(reference.columns):
            if name not in tools:  # as if all were missing
                repeats.mix(hashes, repeats.nothing(reference.columns[name].kind == "number", length))
                continue
            column, bits = tools[name].count(ready[name][start : start + length])
            repeats.mix(hashes, bits)
            total[name] = columns.merged(total[name], column) if name in total else column
        seen = repeats.merged(seen, repeats.of(hashes))
    for name in present:
        total.setdefault(name, Column(kind=present[name].kind, counts=(0,) * len(present[name].counts)))
    return Profile(rows=rows, columns=total, repeats=seen)


class _Counter:
    """Counts blocks of one column; what it looks up is made once."""

    def __init__(self, reference: Column) -> None:
        self._reference = reference
        self._edges = np.array(reference.edges, np.float64)
        self._known = {text: place for place, text in enumerate(reference.categories)}
        self._rest = frozenset(reference.rest)

    def count(self, values: Values) -> tuple[Column, NDArray[np.uint64]]:
        if self._reference.kind == "number":
            block = blocks.numbers_of(values)
            return bins.count_numbers(self._reference, self._edges, block), repeats.bits_of_numbers(block.values)
        found = blocks.categories_of(values)
        column = bins.count_categories(self._reference, self._known, self._rest, found)
        return column, repeats.bits_of_texts(list(found.found), found.places)


def merge(one: Profile, two: Profile) -> Profile:
    """Two windows of one reference. The order and grouping of merges makes no difference."""
    if one.reference != two.reference or not one.reference:
        raise Conflict("profiles of different references cannot be one: their bins differ")
    found: dict[str, Column] = {}
    for name in sorted({*one.columns, *two.columns}):
        first, second = one.columns.get(name), two.columns.get(name)
        # Rows of a window that has not the column at all are missing in it.
        first = first or _absent(second, one.rows)
        second = second or _absent(first, two.rows)
        found[name] = columns.merged(first, second)
    return Profile(
        rows=one.rows + two.rows,
        unreadable=one.unreadable + two.unreadable,
        columns=found,
        extra=tuple(sorted({*one.extra, *two.extra})[:MOST_NAMES]),
        repeats=repeats.merged(one.repeats, two.repeats),
        reference=one.reference,
    )


def _absent(like: Column | None, rows: int) -> Column:
    kind: Kind = "number" if like is None else like.kind
    return Column(kind=kind, rows=rows, missing=rows, counts=(0,) * len(like.counts if like else ()))


_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(Profile)


def encode(profile: Profile) -> bytes:
    """JSON, the same bytes for the same profile."""
    return _encoder.encode(profile)


def decode(text: bytes | str) -> Profile:
    """Raises InvalidInput for what is no profile of this version."""
    try:
        found = _decoder.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InvalidInput(f"no profile: {error}") from None
    if found.version != VERSION:
        raise InvalidInput(f"a profile of version {found.version}; this Tidegate reads version {VERSION}")
    _check(found)
    return found


def _check(profile: Profile) -> None:
    """Whatever is decoded may have been sent by anybody: what is computed from it later must not fail."""
    if len(profile.columns) > MOST_COLUMNS:
        raise InvalidInput(f"no profile: {len(profile.columns)} columns; there are {MOST_COLUMNS} at most")
    for name, one in profile.columns.items():
        wrong = _wrong(one, not profile.reference)
        if wrong:
            raise InvalidInput(f"no profile: column {name[:80]!r} has {wrong}")
    if len({len(values) for values in profile.sample.values()}) > 1:
        raise InvalidInput("no profile: the columns of the sample have different lengths")
    repeats_ = profile.repeats
    if (
        len(repeats_.hashes) % 8
        or len(repeats_.times) not in (0, repeats_.distinct)
        or min(repeats_.times, default=1) < 1
    ):
        raise InvalidInput("no profile: the times of repeated rows do not fit their hashes")


def _wrong(one: Column, reference: bool) -> str:
    """What a column has that none can have; empty when it is right."""
    counts = (one.rows, one.missing, one.wrong, one.other, one.unseen, one.outside, one.finite, one.once, *one.counts)
    if min(counts) < 0:
        return "negative counts"
    if max(counts) > MOST_COUNT or one.missing + one.wrong > one.rows or one.finite > one.valid:
        return "counts that do not fit its rows"
    if not 0 <= one.m2 <= columns.LARGEST:
        return "a deviation that is none"
    if max(len(one.edges), len(one.categories)) > MOST_PLACES or len(one.rest) > MOST_REST:
        return f"more than {MOST_PLACES} places, or {MOST_REST} further categories"
    if list(one.edges) != sorted(set(one.edges)):
        return "edges that do not ascend"
    if len(set(one.categories)) < len(one.categories):
        return "a category twice"
    if reference and len(one.counts) != _places(one):
        return f"{len(one.counts)} counts for {_places(one)} places"
    if reference and one.kind == "number" and len(one.centers) != len(one.counts):
        return f"{len(one.centers)} centers for {len(one.counts)} places"
    return ""


def _places(one: Column) -> int:
    return len(one.edges) + 1 if one.kind == "number" else len(one.categories)


def digest(profile: Profile) -> str:
    return "sha256:" + hashlib.sha256(encode(profile)).hexdigest()


def sample_rows(profile: Profile) -> Iterator[dict[str, Any]]:
    """The reference's sample, row by row."""
    names = list(profile.sample)
    for values in zip(*profile.sample.values(), strict=True):
        yield dict(zip(names, values, strict=True))
