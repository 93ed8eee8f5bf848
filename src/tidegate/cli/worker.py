"""``tidegate worker``."""

from __future__ import annotations

import os
from pathlib import Path

import click


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="Configuration file; ./tidegate.yaml when it is there.")
@click.option("--kind", "kinds", multiple=True, help="Take only jobs of this kind; may be given several times.")
@click.option("--jobs", type=click.IntRange(1, 64), help="Jobs side by side; jobs.workers when not given.")
def worker(config: Path | None, kinds: tuple[str, ...], jobs: int | None) -> None:
    """Run jobs from the store until told to end. Any number of workers may share a store."""
    from tidegate.apps.extras import need_store
    from tidegate.apps.worker import worker as run
    from tidegate.config import discover, load_settings

    file, dotenv = discover(config, os.environ)
    loaded = load_settings(file, environment=os.environ, dotenv=dotenv)
    need_store(loaded.settings.store.url)
    raise SystemExit(run(loaded, kinds=kinds, slots=jobs or 0))
