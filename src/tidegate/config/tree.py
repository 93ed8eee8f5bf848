"""Settings on their way: tables of leaves, each of which knows where it was written."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from typing import Any, get_args, get_origin

import msgspec

from tidegate.config.fields import Field, base_type, fields_of
from tidegate.section import Section
from tidegate.settings import SECRETS

Path = tuple[str, ...]

_CREDENTIALS = re.compile(r"(?<=://)\S*@")


class Leaf(msgspec.Struct, frozen=True):
    """``text`` is the value as it was written; with ``lax``, it is all there is (environment, command line)."""

    value: Any
    origin: str
    text: str | None = None
    lax: bool = False


class Table(msgspec.Struct):
    origin: str
    items: dict[str, Table | Leaf]


class Problem(msgspec.Struct, frozen=True):
    """One mistake: where it was written, the dotted key, and what is wrong with it."""

    origin: str
    key: str
    text: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.origin, _CREDENTIALS.sub("…@", self.key), self.text) if part)


def dotted(path: Iterable[str]) -> str:
    return ".".join(path)


def merge(low: Table, high: Table) -> Table:
    items = dict(low.items)
    for name, node in high.items.items():
        below = items.get(name)
        items[name] = merge(below, node) if isinstance(below, Table) and isinstance(node, Table) else node
    return Table(high.origin if high.items else low.origin, items)


def put(table: Table, path: Path, leaf: Table | Leaf) -> None:
    """Writes one leaf at a path, making the tables on the way."""
    for name in path[:-1]:
        below = table.items.get(name)
        if not isinstance(below, Table):
            below = table.items[name] = Table(leaf.origin, {})
        table = below
    table.items[path[-1]] = leaf


def plain(node: Table | Leaf) -> Any:
    return node.value if isinstance(node, Leaf) else {name: plain(below) for name, below in node.items.items()}


def unknown_key(name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f'unknown key; did you mean "{near[0]}"?' if near else f"unknown key; known: {', '.join(known)}"


def shape(table: Table, section: type[Section], problems: list[Problem], path: Path = ()) -> Table:
    """The table with every leaf converted to its field's type; what cannot be is added to the problems."""
    fields = fields_of(section)
    items: dict[str, Table | Leaf] = {}
    for name, node in table.items.items():
        here = (*path, name)
        field = fields.get(name)
        if field is None:
            problems.append(Problem(node.origin, dotted(here), unknown_key(name, fields)))
            continue
        shaped = _shape_field(node, field, problems, here)
        if shaped is not None:
            items[name] = shaped
    return Table(table.origin, items)


def _shape_field(node: Table | Leaf, field: Field, problems: list[Problem], path: Path) -> Table | Leaf | None:
    if field.kind == "value":
        return _value(node, field, problems, path)
    if isinstance(node, Leaf) and node.lax and node.text is not None and node.text.lstrip().startswith("{"):
        node = _from_json(node, problems, path) or Table(node.origin, {})
    if isinstance(node, Leaf):
        if node.value is None or (node.lax and not node.text):
            empty = field.kind == "optional section" or field.optional
            return Leaf(None, node.origin) if empty else None
        problems.append(Problem(node.origin, dotted(path), f"got {_show(node, path)}; allowed: {field.allowed}"))
        return None
    if field.kind == "free":
        return node
    assert field.section is not None
    if field.kind != "sections":
        return shape(node, field.section, problems, path)
    entries: dict[str, Table | Leaf] = {}
    for name, entry in node.items.items():
        here = (*path, name)
        if isinstance(entry, Table):
            entries[name] = shape(entry, field.section, problems, here)
        else:
            names = ", ".join(fields_of(field.section))
            problems.append(
                Problem(
                    entry.origin, dotted(here), f"got {_show(entry, here)}; allowed: a section with the keys {names}"
                )
            )
    return Table(node.origin, entries)


def _value(node: Table | Leaf, field: Field, problems: list[Problem], path: Path) -> Leaf | None:
    if isinstance(node, Table):
        problems.append(Problem(node.origin, dotted(path), f"got a table; allowed: {field.allowed}"))
        return None
    value: Any = node.value
    if node.lax and node.text is not None:
        if not node.text and not field.text:
            return Leaf(None, node.origin) if field.optional else None
        value = _from_text(node.text, field)
    elif field.text and node.text is not None:
        value = node.text
    elif field.text and value is None:
        value = ""
    try:
        return Leaf(msgspec.convert(value, field.type, strict=not node.lax), node.origin)
    except msgspec.ValidationError:
        problems.append(Problem(node.origin, dotted(path), f"got {_show(node, path)}; allowed: {field.allowed}"))
        return None


def _from_text(text: str, field: Field) -> Any:
    base = base_type(field.type)
    if get_origin(base) is tuple:
        if text.lstrip().startswith("["):
            try:
                return json.loads(text)
            except ValueError:
                return text
        return [part.strip() for part in text.split(",") if part.strip()]
    for choice in get_args(base):
        if isinstance(choice, str) and choice.lower() == text.strip().lower():
            return choice
    return text if field.text else text.strip()


def _from_json(leaf: Leaf, problems: list[Problem], path: Path) -> Table | None:
    try:
        value = json.loads(leaf.text or "")
    except (ValueError, RecursionError) as error:
        problems.append(Problem(leaf.origin, dotted(path), f"not valid JSON: {error}"))
        return None
    return from_plain(value, leaf.origin)


def from_plain(value: dict[str, Any], origin: str) -> Table:
    """A table of values that are already typed."""
    items: dict[str, Table | Leaf] = {}
    for name, below in value.items():
        items[str(name)] = from_plain(below, origin) if isinstance(below, dict) else Leaf(below, origin)
    return Table(origin, items)


def _show(leaf: Leaf, path: Path) -> str:
    if dotted(path) in SECRETS:
        return "a secret (not shown)"
    text = leaf.text if leaf.lax else leaf.value
    try:
        shown = json.dumps(text, ensure_ascii=False)
    except (TypeError, ValueError):
        shown = str(text)
    shown = _CREDENTIALS.sub("…@", shown)  # of an address in a wrong place
    return shown if len(shown) <= 80 else shown[:77] + "..."
