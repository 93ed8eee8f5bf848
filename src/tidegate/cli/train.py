"""``tidegate train``."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tidegate.cli.options import print_json
from tidegate.cli.registered import one_line

if TYPE_CHECKING:
    from tidegate.control.training.fit import Telling
    from tidegate.control.training.result import Trained

REFUSED = 1


@click.command()
@click.argument("training", type=click.Path(path_type=Path))
@click.option("--no-register", is_flag=True, help="Train, measure and compare, but leave the registry as it is.")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="Folder of its files; run/training/<id> by default."
)
@click.option("--config", type=click.Path(path_type=Path), help="Configuration file; ./tidegate.yaml when it is there.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
def train(training: Path, no_register: bool, output: Path | None, config: Path | None, as_json: bool) -> None:
    """Train by the file TRAINING, compare with the champion, and register what is good enough.

    Exit code 1 means that the new model was refused; its report says why.
    """
    from tidegate.apps.training import FOLDER, parts_of, read_config
    from tidegate.config import discover, load_settings
    from tidegate.control.registry.base import open_registry
    from tidegate.control.training.champion import champion_of
    from tidegate.control.training.train import train as run

    file, dotenv = discover(config, os.environ)
    loaded = load_settings(file, environment=os.environ, dotenv=dotenv)
    plan = read_config(training)
    key = f"t-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    registry = open_registry(loaded.settings.registry, loaded.settings.trust, base=loaded.base)
    folder = output.absolute() if output is not None else loaded.base / FOLDER / key
    with one_line(), _shown(as_json) as tell:
        parts = parts_of(loaded, registry, training, folder, tell=tell)
        trained = run(plan, parts, key=key, champion=champion_of(registry, plan.name), register=not no_register)
    _print(trained, as_json)
    if not trained.accepted:
        raise SystemExit(REFUSED)


@contextlib.contextmanager
def _shown(as_json: bool) -> Iterator[Telling]:
    """A bar on the screen, on standard error; nothing where nobody looks."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False, markup=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=as_json or not console.is_terminal) as bar:
        task = bar.add_task("training")
        yield lambda done, total, text: bar.update(task, completed=done, total=total, description=text)


def _print(trained: Trained, as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from tidegate.control.training.report import tables, verdict

    if as_json:
        print_json(trained)
        return
    console = Console(highlight=False, markup=False)
    for title, head, rows in list(tables(trained))[:3]:
        table = Table(*head, title=title, title_justify="left", box=None, pad_edge=False)
        for row in rows:
            table.add_row(*row)
        console.print(table)
        console.print()
    console.print(verdict(trained), soft_wrap=True)
    console.print(f"served as ONNX: {'yes' if trained.compiled else 'no'}; {trained.compile_note}", soft_wrap=True)
    console.print(f"report: {trained.folder}/report.html", soft_wrap=True)
    if trained.version:
        console.print(f"registered as {trained.uri}; serve it with: tidegate serve {trained.uri}", soft_wrap=True)
