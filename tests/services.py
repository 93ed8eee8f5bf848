"""Real services for tests and for trying things out: each starts from a folder and a port, and tells when it is ready.

``python -m tests.services start mlflow`` (or ``scripts/services``) runs one until ``stop``. Tests use ``running`` for one
of their own, or ``shared``, which all processes of one test run use together.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

import msgspec
import psutil  # type: ignore[import-untyped]
from filelock import FileLock

from tests import postgres
from tests.process import free_port, until

START_SECONDS = 120.0
_STARTED: list[subprocess.Popen[bytes]] = []
"""Kept until this process ends: Python warns when it forgets a child that still runs."""


class Service(NamedTuple):
    """``start`` gives the command and what it adds to the environment; ``url`` is what clients are given."""

    start: Callable[[Path, int], tuple[list[str], Mapping[str, str]]]
    ready: Callable[[Path, int], bool]
    url: Callable[[Path, int], str]
    port: int
    """Where ``scripts/services`` starts it."""
    stop: signal.Signals = signal.SIGTERM
    clean: Callable[[Path], None] = lambda folder: None
    """Takes away what a test's service keeps outside of its folder."""


class Running(msgspec.Struct):
    """Kept beside the service, so that another process can stop it."""

    url: str
    pid: int
    users: int = 0


def _mlflow(folder: Path, port: int) -> tuple[list[str], Mapping[str, str]]:
    """On SQLite, or on the database whose URL is in the file ``database`` of the folder."""
    named = folder / "database"
    database = named.read_text() if named.exists() else f"sqlite:///{folder / 'mlflow.db'}"
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", database, "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    environment = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # Webhooks may go to a listener on this machine, and new ones are seen at once.
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_WEBHOOK_CACHE_TTL": "0",
    }
    return command, environment


def _mlflow_ready(folder: Path, port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


SERVICES: dict[str, Service] = {
    "mlflow": Service(_mlflow, _mlflow_ready, lambda folder, port: f"http://127.0.0.1:{port}", 5000),
    "postgresql": Service(
        postgres.command, postgres.answers, postgres.url, 5433, stop=signal.SIGINT, clean=postgres.clean
    ),
}


def launch(name: str, folder: Path, port: int = 0) -> Running:
    """Starts a service in ``folder`` and waits until it answers; its log is ``<name>.log`` there."""
    service = SERVICES[name]
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command, added = service.start(folder, port)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("TIDEGATE_", "OTEL_", "MLFLOW_"))}
    log_file = folder / f"{name}.log"
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**kept, **added},
            cwd=folder,
            start_new_session=True,
        )
    _STARTED.append(process)

    def ready() -> bool:
        assert process.poll() is None, f"{name} ended with {process.returncode}:\n{log_file.read_text()[-4000:]}"
        return service.ready(folder, port)

    try:
        until(ready, f"{name} answers; its log is {log_file}", START_SECONDS)
    except BaseException:
        halt(name, process.pid)
        raise
    return Running(service.url(folder, port), process.pid)


def halt(name: str, pid: int, patience: float = 20.0) -> None:
    """Asks the service to end, and kills what is left of it with all its children."""
    try:
        own = psutil.Process(pid)
        tree = [own, *own.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        own.resume()  # a test may have paused it
        own.send_signal(SERVICES[name].stop)
    with contextlib.suppress(AssertionError):
        until(lambda: not any(map(_lives, tree)), f"{name} ends", patience)
    for process in filter(_lives, tree):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@contextlib.contextmanager
def paused(pid: int) -> Iterator[None]:
    """The process and all its children hang; one that ends by itself at this moment is no matter."""
    own = psutil.Process(pid)
    tree = [own, *own.children(recursive=True)]
    try:
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        yield
    finally:
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


def _lives(process: psutil.Process) -> bool:
    """Not ended; one that only waits for its parent to notice has."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


@contextlib.contextmanager
def running(name: str, folder: Path) -> Iterator[Running]:
    """A service of one's own, to be broken at will."""
    started = launch(name, folder)
    try:
        yield started
    finally:
        halt(name, started.pid)
        SERVICES[name].clean(folder)


@contextlib.contextmanager
def shared(name: str, folder: Path) -> Iterator[str]:
    """The address of a service that every process with this ``folder`` uses: the first starts it, the last stops it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock, state = FileLock(folder / f"{name}.lock"), folder / f"{name}.json"
    with lock:
        found = msgspec.json.decode(state.read_bytes(), type=Running) if state.exists() else launch(name, folder)
        found.users += 1
        state.write_bytes(msgspec.json.encode(found))
    try:
        yield found.url
    finally:
        with lock:
            found = msgspec.json.decode(state.read_bytes(), type=Running)
            found.users -= 1
            state.write_bytes(msgspec.json.encode(found))
            if not found.users:
                halt(name, found.pid)
                SERVICES[name].clean(folder)
                state.unlink()


def shared_folder(factory: Any) -> Path:
    """A folder that all pytest-xdist workers of one run see; ``factory`` is pytest's ``tmp_path_factory``."""
    base: Path = factory.getbasetemp()
    return (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "services"


def main(arguments: list[str], folder: Path) -> int:
    action, names = (arguments[0] if arguments else "status"), arguments[1:] or list(SERVICES)
    if action not in ("start", "stop", "status") or set(names) - set(SERVICES):
        print(f"usage: services start|stop|status [{'|'.join(SERVICES)}]...", file=sys.stderr)
        return 2
    for name in names:
        state = folder / f"{name}.json"
        known = msgspec.json.decode(state.read_bytes(), type=Running) if state.exists() else None
        if known is not None and not psutil.pid_exists(known.pid):
            state.unlink()
            known = None
        if action == "start" and known is None:
            known = launch(name, folder / name, SERVICES[name].port)
            state.write_bytes(msgspec.json.encode(known))
        elif action == "stop" and known is not None:
            halt(name, known.pid)
            state.unlink()
            known = None
        print(f"{name:12} {known.url if known else 'not running'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path("run/services").resolve()))
