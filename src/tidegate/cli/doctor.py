"""``tidegate doctor``: what this machine has, what it lacks, and the command that helps."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import click
import msgspec

from tidegate import __version__
from tidegate.config import Loaded, discover, load_settings
from tidegate.errors import StoreAway, UserError
from tidegate.registry_files import is_mlflow, registry_folder

State = Literal["good", "note", "broken"]
MARKS: Mapping[State, str] = {"good": "ok", "note": "--", "broken": "!!"}
FEW_FILES = 4096
CONNECT_SECONDS = 2.0

Extras = Mapping[str, tuple[str, str]]
EXTRAS: Extras = {
    "sklearn": ("scikit-learn", "scikit-learn models"),
    "boosting": ("xgboost", "XGBoost and LightGBM models"),
    "grpc": ("grpcio", "the gRPC port"),
    "mlflow": ("mlflow", "an MLflow registry"),
    "arrow": ("pyarrow", "Arrow bodies and Parquet files"),
    "vision": ("pillow", "images"),
    "otel": ("opentelemetry-sdk", "traces"),
    "store": ("sqlalchemy", "a store: following releases and experiments"),
    "postgres": ("psycopg", "a store on PostgreSQL"),
    "control": ("fastapi", "the control plane and the console"),
}
"""Extra, the package that shows that it is installed, and what it is for."""


class Finding(msgspec.Struct, frozen=True):
    name: str
    state: State
    text: str
    advice: str = ""


@click.command()
@click.option("--config", "-c", type=click.Path(path_type=Path), help="Configuration file to look into.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each finding, in a list.")
def doctor(config: Path | None, as_json: bool) -> None:
    """Find out what is missing on this machine. Exit code 1 when something that is needed is broken."""
    findings = list(examine(config, os.environ))
    if as_json:
        click.echo(json.dumps([msgspec.to_builtins(finding) for finding in findings], indent=2, ensure_ascii=False))
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            click.echo(f"{MARKS[finding.state]}  {finding.name:<{width}}  {finding.text}")
            if finding.advice:
                click.echo(f"    {'':<{width}}  {finding.advice}")
    if any(finding.state == "broken" for finding in findings):
        raise SystemExit(1)


def examine(config: Path | None, environment: Mapping[str, str], extras: Extras = EXTRAS) -> Iterator[Finding]:
    yield Finding("tidegate", "good", __version__)
    yield Finding("python", "good", f"{platform.python_version()} ({sys.executable})")
    yield Finding("platform", "good", f"{platform.system()} {platform.release()} {platform.machine()}")
    yield from _packages(extras)
    yield from _machine()
    try:
        path, dotenv = discover(config, environment)
        loaded = load_settings(path, environment=environment, dotenv=dotenv)
    except UserError as error:
        yield Finding("configuration", "broken", str(error).splitlines()[0], "tidegate config check shows all mistakes")
        return
    count = len(loaded.settings.endpoints)
    text = f"{loaded.file}: {count} endpoint{'' if count == 1 else 's'}" if loaded.file else "no file; defaults"
    yield Finding("configuration", "good", f"{text}, profile {loaded.settings.profile}")
    yield from _models(loaded)
    yield from _needs(loaded, extras)
    yield from _ports(loaded)
    yield from _store(loaded)
    yield from _registry(loaded)
    yield from _services(loaded, environment)


def _packages(extras: Extras) -> Iterator[Finding]:
    for name in core_requirements():
        version = installed(name)
        if version is None:
            yield Finding(name, "broken", "not installed", "pip install --upgrade tidegate")
    versions = [f"{name} {installed(name)}" for name in ("uvicorn", "numpy", "onnxruntime", "msgspec")]
    yield Finding("packages", "good", ", ".join(versions))
    if sys.platform == "win32":
        yield Finding("uvloop", "note", "not for Windows; asyncio's own loop serves")
    for extra, (package, purpose) in extras.items():
        version = installed(package)
        if version is None:
            yield Finding(f"[{extra}]", "note", f"not installed; for {purpose}", f'pip install "tidegate[{extra}]"')
        else:
            yield Finding(f"[{extra}]", "good", f"{package} {version}")


def core_requirements() -> list[str]:
    """Names of the packages that Tidegate always needs on this platform."""
    try:
        lines = importlib.metadata.requires("tidegate") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    names: list[str] = []
    for line in lines:
        requirement, _, marker = line.partition(";")
        if "extra ==" in marker or ("win32" in marker and sys.platform == "win32"):
            continue
        names.append(re.split(r"[\s<>=!~\[]", requirement.strip(), maxsplit=1)[0])
    return names


def installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _machine() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Finding("cores", "good", str(cores))
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        few = 0 <= soft < FEW_FILES
        advice = f"ulimit -n {min(hard, 65536) if hard > 0 else 65536}: every connection is an open file" if few else ""
        yield Finding("open files", "note" if few else "good", f"at most {soft}", advice)


def _models(loaded: Loaded) -> Iterator[Finding]:
    for name, endpoint in loaded.settings.endpoints.items():
        models = {name: endpoint.model} | {
            f"{name}/{variant}": settings.model for variant, settings in endpoint.variants.items()
        }
        for label, uri in models.items():
            yield _model(f"model {label}", uri, loaded)


def _model(label: str, uri: str, loaded: Loaded) -> Finding:
    scheme, separator, rest = uri.partition(":")
    if separator and len(scheme) > 1:
        if scheme in ("http", "https"):
            return Finding(label, "note", f"{uri}: upstream; not called here")
        if scheme not in loaded.settings.trust.schemes:
            return Finding(label, "broken", f"{uri}: the scheme is not trusted", f'add "{scheme}" to trust.schemes')
        if scheme != "file":
            return Finding(label, "note", f"{uri}: looked up when it is served")
    path = loaded.base / (rest.removeprefix("//") if separator and scheme == "file" else uri)
    if not path.exists():
        return Finding(label, "broken", f"{uri}: no such file or folder", f"looked for {path}")
    if runs_code(path):
        trusted = [(loaded.base / folder).resolve() for folder in loaded.settings.trust.pickles]
        if not any(path.resolve().is_relative_to(folder) for folder in trusted):
            advice = "add its folder to trust.pickles when you trust who made it"
            return Finding(label, "broken", f"{uri}: can run code, and is not trusted", advice)
    return Finding(label, "good", uri)


def runs_code(path: Path) -> bool:
    """Formats that run code when they are loaded, by name; the server looks at the bytes."""
    names = [path.name] if path.is_file() else [entry.name for entry in path.iterdir()]
    return any(name.endswith((".pkl", ".pickle", ".joblib", ".mar")) or name == "model.py" for name in names)


def _needs(loaded: Loaded, extras: Extras) -> Iterator[Finding]:
    """Extras that the configuration cannot do without."""
    settings = loaded.settings
    models = [
        model
        for endpoint in settings.endpoints.values()
        for model in (endpoint.model, *(variant.model for variant in endpoint.variants.values()))
    ]
    wanted = {
        "grpc": settings.server.grpc_port is not None,
        "otel": bool(settings.tracing.endpoint),
        "mlflow": is_mlflow(settings.registry) or any(model.startswith("runs:") for model in models),
        "store": bool(settings.store.url),
        "postgres": settings.store.url.startswith("postgres"),
        "sklearn": any(model.endswith((".joblib", ".skops")) for model in models),
    }
    for extra, needed in wanted.items():
        if needed and installed(extras[extra][0]) is None:
            text = f"the configuration needs it, for {extras[extra][1]}"
            yield Finding(f"[{extra}]", "broken", text, f'pip install "tidegate[{extra}]"')


def _ports(loaded: Loaded) -> Iterator[Finding]:
    server, control = loaded.settings.server, loaded.settings.control
    for label, port in (("HTTP port", server.port), ("gRPC port", server.grpc_port)):
        if port:
            yield _port(label, server.host, port, "broken", "end what listens there")
    if control.port:  # whoever only serves needs none
        advice = "is a control plane running? control.port names another port"
        yield _port("control port", control.host, control.port, "note", advice)


def _port(label: str, host: str, port: int, taken: State, advice: str) -> Finding:
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            if sys.platform != "win32":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return Finding(label, taken, f"{host}:{port}: {error.strerror}", advice)
    return Finding(label, "good", f"{host}:{port} is free")


def _store(loaded: Loaded) -> Iterator[Finding]:
    url = loaded.settings.store.url
    if not url:
        yield Finding("store", "note", "none: serve follows the configuration alone, up keeps a file in run/")
        return
    if installed("sqlalchemy") is None:
        return  # told already, as an extra that is needed
    from tidegate.storage import schema
    from tidegate.storage.faults import MIGRATE
    from tidegate.storage.store import open_store

    try:
        store = open_store(url)
        try:
            with store.read() as unit:
                found = schema.status(unit.connection)
        finally:
            store.close()
    except StoreAway as error:
        advice = "predictions go on without it; releases and feedback wait"
        yield Finding("store", "note", str(error), advice)
    except UserError as error:
        text = str(error)
        advice = "the control plane does it when it starts" if MIGRATE in text else ""
        yield Finding("store", "note" if advice else "broken", text, advice)
    else:
        yield Finding("store", "good", f"answers; tables of version {found.version}")


def _registry(loaded: Loaded) -> Iterator[Finding]:
    registry = loaded.settings.registry
    if is_mlflow(registry):
        return  # its address is looked at with the other services
    folder = registry_folder(registry, loaded.base)
    count = len(list(folder.glob("*/*/version.json"))) if folder.is_dir() else 0
    versions = f"{count} version{'' if count == 1 else 's'}"
    yield Finding("registry", "good" if count else "note", f"{folder}: {versions}")


def _services(loaded: Loaded, environment: Mapping[str, str]) -> Iterator[Finding]:
    mlflow = loaded.settings.registry.uri or environment.get("MLFLOW_TRACKING_URI", "")
    addresses = {"traces": loaded.settings.tracing.endpoint, "MLflow": mlflow}
    for label, address in addresses.items():
        if address.startswith(("http://", "https://")):
            yield _reachable(label, address, socket.create_connection)


def _reachable(label: str, address: str, connect: Callable[..., socket.socket]) -> Finding:
    parts = urlsplit(address)
    shown = f"{parts.scheme}://{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    try:
        connect((parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)), CONNECT_SECONDS).close()
    except OSError as error:
        advice = "predictions go on without it; see whether it runs and may be reached from here"
        return Finding(label, "note", f"{shown}: {error.strerror or error}", advice)
    return Finding(label, "good", f"{shown} answers")
