"""Options that several commands have in the same words, and JSON as they print it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

F = TypeVar("F", bound=Callable[..., Any])

reason_option = click.option("--reason", default="", help="Why; kept in the audit log.")
json_option = click.option("--json", "as_json", is_flag=True, help="JSON for programs.")


def limit_option(usual: int) -> Callable[[F], F]:
    return click.option("--limit", type=click.IntRange(1, 1000), default=usual, help="Most that are shown.")


def print_json(value: Any) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
