"""``tidegate up``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from tidegate.errors import ConfigError


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="Configuration file; ./tidegate.yaml when it is there.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=None,
    show_default="run/ beside tidegate.yaml",
    help="Where the embedded store and registry are kept, unless the configuration names others.",
)
def up(config: Path | None, folder: Path | None) -> None:
    """Run both planes on this machine: predictions on port 8000, control API and console on port 8001."""
    from tidegate.apps.extras import need_control
    from tidegate.apps.up import FOLDER
    from tidegate.apps.up import up as run
    from tidegate.config import discover, load_settings

    need_control()
    file, dotenv = discover(config, os.environ)
    if file is None:
        raise ConfigError("there is no tidegate.yaml here; name one with --config, or try: tidegate demo")
    loaded = load_settings(file, environment=os.environ, dotenv=dotenv)
    raise SystemExit(run(loaded, file.absolute(), folder or loaded.base / FOLDER))
