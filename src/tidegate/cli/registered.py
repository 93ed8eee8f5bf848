"""``tidegate model register|list|alias``: versions and aliases in the registry that the configuration names."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from tidegate.cli.options import json_option
from tidegate.errors import Refused, RequestError, UserError
from tidegate.types import Signature

if TYPE_CHECKING:
    from tidegate.control.registry.base import ModelVersion, Registry

_config_option = click.option(
    "--config", type=click.Path(path_type=Path), help="Configuration file; ./tidegate.yaml when it is there."
)


@click.command()
@click.argument("name")
@click.argument("source")
@click.option("--alias", "aliases", multiple=True, help="Alias to point at it, such as champion; may be repeated.")
@click.option("--meta", multiple=True, metavar="KEY=VALUE", help="What to note about it; may be repeated.")
@click.option("--profile", help="File or URI of the reference profile that the training left.")
@click.option("--options", default="{}", help="The endpoint's options as a JSON object, such as a declared signature.")
@click.option("--unchecked", is_flag=True, help="Register it without loading it first; its signature stays unknown.")
@_config_option
@json_option
def register(
    name: str,
    source: str,
    aliases: tuple[str, ...],
    meta: tuple[str, ...],
    profile: str | None,
    options: str,
    unchecked: bool,
    config: Path | None,
    as_json: bool,
) -> None:
    """Keep a model as the next version of NAME.

    SOURCE is a file or folder, of which the registry keeps a copy, or with MLflow also runs:/… and other URIs. It is
    loaded first, as a server does, so that what cannot serve is not registered; naming it here trusts it.
    """
    from tidegate.registry_files import scheme_of

    registry = _registry(config)
    metadata = _metadata(meta)
    where = source if scheme_of(source) else str(Path(source).expanduser().absolute())
    told = profile if profile is None or scheme_of(profile) else str(Path(profile).expanduser().absolute())
    signature = None if unchecked else _signature(where, options)
    with one_line():
        made = registry.register(name, where, metadata=metadata, aliases=aliases, profile=told, signature=signature)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(made), indent=2, ensure_ascii=False))
        return
    pointing = f"; {', '.join(made.aliases)} points to it" if made.aliases else ""
    click.echo(f"{made.name} version {made.version} is registered, {made.digest[:19] or 'digest unknown'}{pointing}")
    click.echo(f"serve it as models:/{made.name}{'@' + made.aliases[0] if made.aliases else '/' + made.version}")


@click.command("list")
@click.argument("name", required=False, default="")
@_config_option
@json_option
def list_(name: str, config: Path | None, as_json: bool) -> None:
    """List the versions of NAME, or the newest version of every model."""
    registry = _registry(config)
    with one_line():
        there = registry.versions(name)
    if as_json:
        click.echo(json.dumps([msgspec.to_builtins(version) for version in there], indent=2, ensure_ascii=False))
    elif there:
        _show(there)
    else:
        click.echo("nothing is registered yet; tidegate model register NAME PATH --alias champion")


@click.command()
@click.argument("name")
@click.argument("alias")
@click.argument("version", required=False)
@click.option("--remove", is_flag=True, help="Remove the alias.")
@_config_option
def alias(name: str, alias: str, version: str | None, remove: bool, config: Path | None) -> None:
    """Point ALIAS of NAME at VERSION, a number or another alias.

    Moving champion by hand is noticed by a running control plane, which does what registry.on_alias_moved says.
    """
    if remove == (version is not None):
        raise UserError("give a version, or --remove")
    registry = _registry(config)
    with one_line():
        number = registry.get(name, version).version if version else None
        registry.set_alias(name, alias, number)
    click.echo(f"{alias} of {name} is removed" if number is None else f"{alias} of {name} points to version {number}")


def _registry(config: Path | None) -> Registry:
    from tidegate.config import discover, load_settings
    from tidegate.control.registry.base import open_registry

    file, dotenv = discover(config, os.environ)
    loaded = load_settings(file, environment=os.environ, dotenv=dotenv)
    return open_registry(loaded.settings.registry, loaded.settings.trust, base=loaded.base)


def _signature(source: str, options: str) -> Signature:
    from tidegate.cli.model import parse_options, reference_to, trust_typed
    from tidegate.serving.runtimes.load import load_model, release

    loaded = load_model(reference_to(source, parse_options(options)), trust_typed(source))
    try:
        return loaded.signature
    finally:
        release(loaded)


def _metadata(pairs: tuple[str, ...]) -> Mapping[str, str]:
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise UserError(f"--meta {pair}: write KEY=VALUE")
        found[key] = value
    return found


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """What a server would answer with is a user's mistake here, or a reason to try again."""
    try:
        yield
    except RequestError as error:
        raise UserError(str(error)) from error
    except Refused as error:
        raise UserError(f"{error}; try again") from error


def _show(there: list[ModelVersion]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("model", "version", "aliases", "registered", "takes", "digest"):
        table.add_column(title, no_wrap=title != "model", overflow="fold")
    table.add_column("notes", overflow="fold")
    for version in there:
        created = datetime.datetime.fromtimestamp(version.created).astimezone()
        pointing = [*version.aliases, *([f"stage {version.stage}"] if version.stage else [])]
        table.add_row(
            version.name,
            version.version,
            ", ".join(pointing),
            f"{created:%Y-%m-%d %H:%M}",
            _takes(version.signature),
            version.digest.removeprefix("sha256:")[:8],
            ", ".join(f"{key}={value}" for key, value in version.metadata.items()),
        )
    Console(highlight=False, markup=False).print(table)


def _takes(signature: Signature | None) -> Any:
    if signature is None:
        return ""
    if signature.is_matrix:
        columns = signature.inputs[0].shape[1]
        return "any columns" if columns < 0 else f"{columns} column{'' if columns == 1 else 's'}"
    shown = ", ".join(spec.name for spec in signature.inputs[:4])
    return shown + (", …" if len(signature.inputs) > 4 else "")
