"""Whether the packages that a plane is built from are installed; asked before any of them is imported."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from tidegate.errors import MissingExtra

STORE = ("sqlalchemy", "alembic")
CONTROL = ("fastapi", "jinja2", "scipy", "limits", *STORE)


def need_store() -> None:
    """Raises MissingExtra."""
    _need("store", "a store", STORE)


def need_control() -> None:
    """Raises MissingExtra."""
    _need("control", "the control plane", CONTROL)


def _need(extra: str, purpose: str, packages: Sequence[str]) -> None:
    if any(find_spec(package) is None for package in packages):
        raise MissingExtra(extra, purpose)
