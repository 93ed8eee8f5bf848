"""What the types in ``settings.py`` say about each field: its kind, what it allows, its default, its help."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from tidegate.section import Section

Kind = Literal["value", "section", "optional section", "sections", "free"]
"""``sections`` maps names to sections; ``free`` maps names to anything."""


class Field(msgspec.Struct, frozen=True):
    name: str
    type: Any
    kind: Kind
    section: type[Section] | None
    help: str
    allowed: str
    default: Any
    """``msgspec.NODEFAULT`` when the field must be given."""

    @property
    def required(self) -> bool:
        return self.default is msgspec.NODEFAULT

    @property
    def text(self) -> bool:
        return base_type(self.type) is str

    @property
    def optional(self) -> bool:
        return type(None) in get_args(base_type(self.type))


@cache
def fields_of(section: type[Section]) -> Mapping[str, Field]:
    hints = typing.get_type_hints(section, include_extras=True)
    found: dict[str, Field] = {}
    for raw in msgspec.structs.fields(section):
        annotated = hints[raw.name]
        default = raw.default if raw.default_factory is msgspec.NODEFAULT else raw.default_factory()
        kind, inner = _kind(base_type(annotated))
        found[raw.name] = Field(raw.name, annotated, kind, inner, _help(annotated), allowed(annotated), default)
    return found


def base_type(annotated: Any) -> Any:
    """The type without its ``Annotated`` wrapping."""
    return get_args(annotated)[0] if get_origin(annotated) is Annotated else annotated


def allowed(annotated: Any) -> str:
    """What a person may write for a value of this type."""
    base = base_type(annotated)
    origin, args = get_origin(base), get_args(base)
    if origin in (types.UnionType, typing.Union):
        rest = [arg for arg in args if arg is not type(None)]
        return f"{_with_bounds(rest[0], base_type(rest[0]))}, or empty"
    if origin is Literal:
        return "one of: " + ", ".join(str(arg) for arg in args)
    if origin is tuple:
        return "a list of texts"
    return _with_bounds(annotated, base)


def _with_bounds(annotated: Any, base: Any) -> str:
    if isinstance(base, type) and issubclass(base, Section):
        return "a section with the keys " + ", ".join(raw.name for raw in msgspec.structs.fields(base))
    word = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}.get(base, "a table of keys")
    low, high, above = _bound(annotated, "ge"), _bound(annotated, "le"), _bound(annotated, "gt")
    if low is not None and high is not None:
        return f"{word} from {low} to {high}"
    if low is not None:
        return f"{word} of at least {low}"
    return f"{word} greater than {above}" if above is not None else word


def _metas(annotated: Any) -> list[Meta]:
    return [part for part in get_args(annotated)[1:] if isinstance(part, Meta)] if get_origin(annotated) else []


def _bound(annotated: Any, name: str) -> float | None:
    return next((value for meta in _metas(annotated) if (value := getattr(meta, name)) is not None), None)


def _help(annotated: Any) -> str:
    return next((meta.description for meta in _metas(annotated) if meta.description), "")


def _kind(base: Any) -> tuple[Kind, type[Section] | None]:
    if isinstance(base, type) and issubclass(base, Section):
        return "section", base
    args = get_args(base)
    if get_origin(base) in (types.UnionType, typing.Union):
        inner = next(arg for arg in args if arg is not type(None))
        if isinstance(inner, type) and issubclass(inner, Section):
            return "optional section", inner
        return ("free", None) if get_origin(inner) is Mapping else ("value", None)
    if get_origin(base) is Mapping:
        if isinstance(args[1], type) and issubclass(args[1], Section):
            return "sections", args[1]
        return "free", None
    return "value", None
