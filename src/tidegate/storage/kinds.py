"""Which databases a store may be in, told by its URL before any of their libraries is loaded."""

from __future__ import annotations

from tidegate.errors import ConfigError

_KINDS = {"sqlite": "sqlite", "postgresql": "postgresql", "postgres": "postgresql"}


def kind_of(url: str) -> str:
    """``sqlite`` or ``postgresql``. Raises ConfigError for a URL that names no store."""
    scheme, mark, _ = url.partition("://")
    if not mark:
        raise ConfigError("store.url: expected sqlite:///file or postgresql://user@host/database")
    kind = _KINDS.get(scheme.partition("+")[0])
    if kind is None:
        raise ConfigError(f"store.url: no store of kind {scheme}; expected sqlite:///file or postgresql://…")
    return kind
