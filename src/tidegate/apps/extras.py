"""Whether the packages that a plane is built from are installed; asked before any of them is imported."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from tidegate.errors import MissingExtra

STORE = ("sqlalchemy", "alembic")
CONTROL = ("fastapi", "jinja2", "scipy", "limits", *STORE)


def need_store(url: str = "") -> None:
    """What the store at ``url`` needs, or any. Raises MissingExtra, and ConfigError for a URL that names no store."""
    _need("store", "a store", STORE)
    if url:
        from tidegate.storage.kinds import kind_of

        if kind_of(url) == "postgresql":
            _need("postgres", "a store in PostgreSQL", ("psycopg",))


def need_control() -> None:
    """Raises MissingExtra."""
    _need("control", "the control plane", CONTROL)


def _need(extra: str, purpose: str, packages: Sequence[str]) -> None:
    if any(find_spec(package) is None for package in packages):
        raise MissingExtra(extra, purpose)
