"""``tidegate config``: shows and checks what is configured."""

from __future__ import annotations

import functools
import json
import operator
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from tidegate.config import CONFIG_NAME, Loaded, discover, load_settings
from tidegate.errors import ConfigError
from tidegate.settings import SECRETS

MASK = "********"


@click.group()
def app() -> None:
    """Show and check the configuration."""


@app.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--changed", is_flag=True, help="Leave out what has its default value.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: settings and origins.")
def show(file: Path | None, changed: bool, as_json: bool) -> None:
    """Print the merged settings, each with the place it comes from; secrets are masked."""
    path, dotenv = discover(file, os.environ)
    loaded = load_settings(path, environment=os.environ, dotenv=dotenv)
    values = masked(loaded)
    if as_json:
        click.echo(json.dumps({"settings": values, "origins": dict(loaded.origins)}, indent=2, ensure_ascii=False))
        return
    rows = [
        (f"{key} = {_text(value)}", loaded.origins.get(key, "default"))
        for key, value in flat(values, loaded.origins)
        if not changed or loaded.origins.get(key, "default") != "default"
    ]
    width = min(max((len(left) for left, _ in rows), default=0), 72)
    for left, origin in rows:
        click.echo(f"{left:<{width}}  # {origin}")


@app.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--environment/--no-environment", default=True, help="Also apply .env and the environment.")
def check(file: Path | None, environment: bool) -> None:
    """Check a configuration file: exit code 2, and a line for each mistake, when it is wrong."""
    path, dotenv = discover(file, os.environ)
    if path is None:
        raise ConfigError(f"no file given, and no {CONFIG_NAME} here")
    loaded = load_settings(path, environment=os.environ if environment else {}, dotenv=dotenv if environment else None)
    count = len(loaded.settings.endpoints)
    click.echo(f"{path}: good; {count} endpoint{'' if count == 1 else 's'}, profile {loaded.settings.profile}")


def masked(loaded: Loaded) -> dict[str, Any]:
    """The settings as plain values without secrets; also masks what looks secret in free options and URIs."""
    values = msgspec.to_builtins(loaded.settings)
    for key in SECRETS:
        *path, name = key.split(".")
        section = functools.reduce(operator.getitem, path, values)
        if section[name]:
            section[name] = MASK
    cleaned: dict[str, Any] = _clean(values)
    return cleaned


_SECRET_NAME = re.compile(r"password|passwd|secret|token|api_?key|credential", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def _clean(value: Any, name: str = "") -> Any:
    if isinstance(value, Mapping):
        return {key: _clean(below, key) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(below, name) for below in value]
    if isinstance(value, str) and value:
        return MASK if _SECRET_NAME.search(name) else _CREDENTIALS.sub(MASK, value)
    return value


def flat(values: Mapping[str, Any], origins: Mapping[str, str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Pairs of dotted key and value; a key that has an origin of its own is not taken apart."""
    for name, value in values.items():
        key = prefix + name
        if isinstance(value, Mapping) and value and key not in origins:
            yield from flat(value, origins, key + ".")
        else:
            yield key, value


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if value is not None else "(empty)"
