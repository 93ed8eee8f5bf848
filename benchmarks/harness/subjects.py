"""Our own server and the floor as subjects."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import models
from benchmarks.harness.machine import ROOT, SERVER_CORE
from benchmarks.harness.request import Request
from benchmarks.harness.server import Server, free_port

TIDEGATE = str(Path(sys.executable).parent / "tidegate")
PREDICT = Request("/predict", models.document())


@contextlib.contextmanager
def floor(model: Path | None = None, *, core: int = SERVER_CORE) -> Iterator[Server]:
    """Without a model: the fixed answer."""
    port = free_port()
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "floor" / "app.py"),
        str(port),
        *([str(model)] if model else []),
    ]
    with Server("floor", command, port, PREDICT, cores=(core,)) as server:
        yield server


def configuration(port: int, endpoints: Mapping[str, Any], sections: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A whole tidegate.yaml as data; ``sections`` adds to, or replaces, the defaults of a benchmark."""
    whole: dict[str, Any] = {
        "endpoints": dict(endpoints),
        "server": {"port": port},
        "trust": {"pickles": [str(models.FOLDER)]},
        "logs": {"level": "warning"},
    }
    for name, section in (sections or {}).items():
        whole[name] = {**whole.get(name, {}), **section}
    return whole


def write(folder: Path, document: Mapping[str, Any]) -> Path:
    """YAML reads JSON."""
    path = folder / "tidegate.yaml"
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return path


@contextlib.contextmanager
def tidegate(
    endpoints: Mapping[str, Any],
    sections: Mapping[str, Any] | None = None,
    *,
    probe: Request = PREDICT,
    cores: Sequence[int] = (SERVER_CORE,),
    name: str = "tidegate",
) -> Iterator[Server]:
    """``tidegate serve`` on a configuration of its own; ``server.folder`` holds its tidegate.yaml."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), configuration(port, endpoints, sections))
        command = [TIDEGATE, "serve", "--config", str(path)]
        with Server(name, command, port, probe, folder=Path(folder), cores=cores) as server:
            yield server


@contextlib.contextmanager
def tidegate_file(model: Path) -> Iterator[Server]:
    """``tidegate serve MODEL --port PORT``, as a person types it."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [TIDEGATE, "serve", str(model), "--port", str(port)]
        with Server("tidegate", command, port, PREDICT, folder=Path(folder)) as server:
            yield server
