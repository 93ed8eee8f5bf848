"""``tidegate serve`` and ``tidegate reload``."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tidegate.errors import ConfigError, UserError

RELOAD_SECONDS = 120.0


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--name", multiple=True, help="Name of the endpoint; once for each model.")
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="HTTP port; 0 takes a free one.")
@click.option("--grpc-port", type=int, help="gRPC port; gRPC is off without it.")
@click.option("--workers", type=int, help="Serving processes behind the one port.")
@click.option("--store", help="Store that is shared with the control plane: sqlite:///file or postgresql://…")
@click.option("--config", type=click.Path(path_type=Path), help="Configuration file; ./tidegate.yaml when it is there.")
def serve(
    models: tuple[str, ...],
    name: tuple[str, ...],
    host: str | None,
    port: int | None,
    grpc_port: int | None,
    workers: int | None,
    store: str | None,
    config: Path | None,
) -> None:
    """Serve models: a file, a folder, or all endpoints of tidegate.yaml.

    A model that is named here is trusted; one that is only named in the configuration must be below one of trust.pickles
    when its format can run code.
    """
    from tidegate.apps.serve import serve as run
    from tidegate.config import Loaded, load_settings
    from tidegate.serving.snapshots.file import with_trust

    overrides = _overrides(list(models), list(name), host=host, port=port, grpc_port=grpc_port, workers=workers)
    if store is not None:
        overrides["store"] = {"url": store}
    typed = [Path(model).absolute() for model in models if os.path.exists(model)]  # noqa: PTH110 - Path raises for long names
    find = finder(config)

    def read() -> Loaded:
        file, dotenv = find()
        if models and config is None:
            file = None  # a model was named: the folder's configuration is not meant
        loaded = load_settings(file, environment=os.environ, overrides=overrides, dotenv=dotenv)
        return Loaded(
            settings=with_trust(loaded.settings, typed),
            origins=loaded.origins,
            base=loaded.base,
            file=loaded.file,
        )

    run(read(), read)


@click.command()
@click.option("--port", type=int, default=8000, help="HTTP port of the server.")
def reload(port: int) -> None:
    """Make a running server read its configuration again, and say how it went."""
    from tidegate.apps.owner import StateFile

    state = StateFile(port)
    before = state.read()
    if not hasattr(signal, "SIGHUP"):
        raise UserError("this system has no SIGHUP; set server.watch, or call POST /v2/repository/models/NAME/load")
    written = state.path.stat().st_mtime_ns
    try:
        os.kill(int(before["pid"]), signal.SIGHUP)
    except ProcessLookupError:
        raise UserError(f"the server on port {port} is not running any more") from None
    deadline = time.monotonic() + RELOAD_SECONDS
    while state.path.stat().st_mtime_ns == written:
        if time.monotonic() > deadline:
            raise UserError(f"no answer within {RELOAD_SECONDS:.0f} s; look into the server's log")
        time.sleep(0.05)
    after = state.read()
    if after["error"]:
        raise UserError(f"not reloaded, the previous state stays in force: {after['error']}")
    click.echo(f"reloaded: snapshot {after['number']} is in force")


def finder(config: Path | None) -> Callable[[], tuple[Path | None, Path | None]]:
    """Finds the configuration and the ``.env`` again, also after a model has changed the current folder."""
    from tidegate.config import discover

    home = Path.cwd()
    file, dotenv = discover(config, os.environ)
    found = (file and file.absolute(), dotenv and dotenv.absolute())

    def find() -> tuple[Path | None, Path | None]:
        try:
            here = Path.cwd() == home
        except OSError:  # the current folder is gone
            here = False
        return discover(config, os.environ) if here else found

    return find


def _overrides(models: list[str], names: list[str], **server: Any) -> dict[str, Any]:
    if names and len(names) != len(models):
        raise ConfigError(f"{len(names)} names for {len(models)} models; give --name once for each model")
    overrides: dict[str, Any] = {}
    given = {key: value for key, value in server.items() if value is not None}
    if given:
        overrides["server"] = given
    endpoints: dict[str, Any] = {}
    for number, model in enumerate(models):
        endpoint = names[number] if names else name_of(model)
        if endpoint in endpoints:
            raise ConfigError(f"two models would be called {endpoint!r}; give each a --name")
        endpoints[endpoint] = {
            "model": model if ":/" in model or model.startswith("fake:") else str(Path(model).absolute())
        }
    if endpoints:
        overrides["endpoints"] = endpoints
    return overrides


def name_of(model: str) -> str:
    """``./models/forest.joblib`` is served as ``forest``, ``models:/iris@champion`` as ``iris``."""
    plain = model.split("@")[0].rstrip("/")
    if plain.startswith("models:/"):
        return plain.removeprefix("models:/").split("/")[0]
    # os.path, since Path raises for a name that is too long.
    stem = Path(plain).name if os.path.isdir(plain) else Path(plain).stem  # noqa: PTH112
    if plain.startswith("fake:"):
        stem = "fake"
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-") or "model"
