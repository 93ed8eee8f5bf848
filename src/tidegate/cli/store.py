"""``tidegate store``: the tables of the store, and what is old in it."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from tidegate.apps.extras import need_store
from tidegate.config import discover, load_settings, sqlite_url
from tidegate.errors import ConfigError, StoreAway, UserError
from tidegate.settings import Store as StoreSettings

if TYPE_CHECKING:
    from tidegate.storage.store import Store


EMBEDDED = Path("run") / "tidegate.db"
"""What ``tidegate up`` keeps beside tidegate.yaml when no store is configured."""


@click.group()
def app() -> None:
    """Migrate, look at and clean up the store."""


def _store_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command gets the settings of the store, with the URL that was given instead of the configured one."""

    @click.option("--config", type=click.Path(path_type=Path), help="Configuration file; ./tidegate.yaml by default.")
    @click.option("--url", help="sqlite:///file or postgresql://…; store.url by default, else run/tidegate.db.")
    @functools.wraps(command)
    def wrapped(config: Path | None, url: str | None, **given: Any) -> None:
        path, dotenv = discover(config, os.environ)
        overrides = {} if url is None else {"store.url": url}
        loaded = load_settings(path, environment=os.environ, overrides=overrides, dotenv=dotenv)
        settings, embedded = loaded.settings.store, (loaded.base / EMBEDDED).absolute()
        if not settings.url and embedded.exists():
            settings = replace(settings, url=sqlite_url(embedded))
        need_store()
        if not settings.url:
            raise ConfigError("no store is configured: set store.url, or give --url")
        command(settings, **given)

    return wrapped


@app.command()
@_store_options
def migrate(settings: StoreSettings) -> None:
    """Make the tables, or bring them up to date; does nothing when they are. Others may use the store meanwhile."""
    from tidegate.storage import schema

    with _opened(settings.url, migrate=True) as store, store.read() as unit:
        found = schema.status(unit.connection)
        click.echo(f"the store is at version {found.version}" + _newer(found.state))


@app.command()
@_store_options
def status(settings: StoreSettings) -> None:
    """Print the version of the tables and how much is in them. Exit code 2 when they must be migrated."""
    from sqlalchemy import func, select

    from tidegate.storage import schema
    from tidegate.storage.tables import metadata

    with _opened(settings.url) as store, store.read() as unit:
        found = schema.status(unit.connection)
        click.echo(f"version {found.version}{_newer(found.state)}")
        for table in metadata.sorted_tables:
            count = unit.connection.execute(select(func.count()).select_from(table)).scalar_one()
            click.echo(f"{table.name:<20} {count:>12,}")


@app.command()
@_store_options
def purge(settings: StoreSettings) -> None:
    """Delete what is older than store.retention says; the control plane does it by itself every hour."""
    from tidegate.storage.retention import purge as purge_store

    with _opened(settings.url) as store:
        deleted = purge_store(store, settings.retention, time.time())
    for name, count in deleted.items():
        if count:
            click.echo(f"{name:<20} {count:>12,}")
    click.echo(f"{sum(deleted.values()):,} rows deleted")


@contextlib.contextmanager
def _opened(url: str, migrate: bool = False) -> Iterator[Store]:
    """A store that is away is an operator's matter here: one line, with the database's own words."""
    from tidegate.storage.store import open_store

    try:
        store = open_store(url, migrate=migrate)
        try:
            yield store
        finally:
            store.close()
    except StoreAway as error:
        cause = getattr(error.__cause__, "orig", None)
        words = f": {' '.join(str(cause).split())}" if cause is not None else ""
        raise UserError(f"{error}{words}") from error


def _newer(state: str) -> str:
    return ", newer than this version of Tidegate" if state == "newer" else ""
