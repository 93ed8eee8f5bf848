"""``tidegate control``."""

from __future__ import annotations

import os
from pathlib import Path

import click


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="Configuration file; ./tidegate.yaml when it is there.")
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="Port of the control API and the console; 0 takes a free one.")
def control(config: Path | None, host: str | None, port: int | None) -> None:
    """Run the control plane alone: releases, experiments, control API and console on port 8001."""
    from tidegate.apps.extras import need_control

    need_control()
    from tidegate.apps.control import control as run
    from tidegate.config import discover, load_settings

    file, dotenv = discover(config, os.environ)
    given = {name: value for name, value in {"host": host, "port": port}.items() if value is not None}
    overrides = {"control": given} if given else {}
    run(load_settings(file, environment=os.environ, overrides=overrides, dotenv=dotenv))
