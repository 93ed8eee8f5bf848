"""The processes of this example: a real MLflow server and Tidegate's planes, each with its log in ``run/``."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx

START_SECONDS = 180.0
STOP_SECONDS = 30.0
MLFLOW = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    # Its webhooks may go to this machine; in production they go to a public https address.
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_WEBHOOK_CACHE_TTL": "0",
}


@contextlib.contextmanager
def running(
    command: list[str], log: Path, ready: Callable[[], bool], environment: Mapping[str, str], folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own session, so that Ctrl-C reaches this program alone, which then ends it in order."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=folder,
            env={**os.environ, **environment}, start_new_session=True,
        )  # fmt: skip
    try:
        end = time.monotonic() + START_SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > end:
                tail = "\n".join(log.read_text("utf-8", "replace").splitlines()[-5:])
                raise SystemExit(f"{command[3]} does not answer; {log} ends with:\n{tail}")
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise SystemExit(f"error: port {port} is in use; choose others: make run PORT={port + 10}") from None


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=20).status_code == 200
    except httpx.HTTPError:
        return False


@contextlib.contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[str]:
    address = f"http://127.0.0.1:{port}"
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{(folder / 'mlflow.db').as_posix()}",
        "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    # Its first question takes much longer than its health.
    question = f"{address}/api/2.0/mlflow/registered-models/search?max_results=1"
    with running(command, folder / "mlflow.log", lambda: answers(question), MLFLOW, folder):
        yield address


@contextlib.contextmanager
def planes(config: Path, folder: Path, port: int, environment: Mapping[str, str]) -> Iterator[str]:
    """Both planes and their worker; the address of the predictions. The control port is the next one."""
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "tidegate", "up", "--config", str(config), "--folder", str(folder)]
    ports = {"TIDEGATE_SERVER__PORT": str(port), "TIDEGATE_CONTROL__PORT": str(port + 1)}

    def ready() -> bool:
        return answers(f"{address}/readyz") and answers(f"http://127.0.0.1:{port + 1}/readyz")

    with running(command, folder / "tidegate.log", ready, {**environment, **ports}, folder):
        yield address


def tidegate(*arguments: str, environment: Mapping[str, str], folder: Path) -> str:
    """Runs a command of Tidegate to its end; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "tidegate", *arguments], cwd=folder, env={**os.environ, **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"tidegate {' '.join(arguments)}:\n{done.stdout}{done.stderr}")
    return done.stdout
