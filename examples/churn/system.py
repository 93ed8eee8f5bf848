"""Everything that runs, as processes: both planes and a worker (``tidegate up``), and the survey. Ended in order."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from churn.project import Project, ProjectFault
from tidegate.cli.control import ControlClient

HOST = "127.0.0.1"
START_SECONDS = 120.0
STOP_SECONDS = 90.0
"""``tidegate up`` gives its parts 50."""
T = TypeVar("T")


class Ports(NamedTuple):
    data: int
    control: int
    survey: int


class System:
    """``control`` and the keys are there once it has started."""

    def __init__(self, project: Project, ports: Ports) -> None:
        self.project = project
        self.ports = ports
        self._control: ControlClient | None = None
        self.predict_key = ""
        self.operate_key = ""
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []
        project.environment |= {
            "TIDEGATE_SERVER__PORT": str(ports.data),
            "TIDEGATE_CONTROL__PORT": str(ports.control),
            "TIDEGATE_CONTROL": f"http://{HOST}:{ports.control}",
            "TIDEGATE_URL": f"http://{HOST}:{ports.data}",
        }

    @property
    def control(self) -> ControlClient:
        assert self._control is not None, "it has not started"
        return self._control

    def __enter__(self) -> System:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Until all of it is ready; ProjectFault when a part ends, or is not."""
        for port in self.ports:
            check_free(port)
        self._start("tidegate", sys.executable, "-m", "tidegate", "up", "--config", "tidegate.yaml")
        self.wait(lambda: ready(self.ports.control, "/readyz"), "the control plane is ready")
        admin = (self.project.run / "admin.key").read_text("utf-8").split()[0]
        self._control = ControlClient(f"http://{HOST}:{self.ports.control}", admin)
        self.predict_key = self.control.post("/api-keys", {"name": "survey", "roles": ["predict"]})["key"]
        self.operate_key = self.control.post("/api-keys", {"name": "workflows", "roles": ["operate"]})["key"]
        self.wait(lambda: ready(self.ports.data, "/readyz"), "the data plane is ready")
        self.project.environment["TIDEGATE_KEY"] = self.operate_key
        server = ("-m", "uvicorn", "churn.survey:app", "--port", str(self.ports.survey), "--log-level", "warning")
        versions = {"CHURN_DATA": str(self.project.home), "CHURN_CONTROL_KEY": self.operate_key}
        self._start("survey", sys.executable, *server, TIDEGATE_KEY=self.predict_key, **versions)
        self.wait(lambda: ready(self.ports.survey, "/healthz"), "the survey is ready")

    def stop(self) -> None:
        for _, process in reversed(self._running):
            process.terminate()
        for _, process in reversed(self._running):
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()
        if self._control is not None:
            self._control.close()

    def wait(self, condition: Callable[[], T], what: str, seconds: float = START_SECONDS) -> T:
        """The first true value; ProjectFault naming ``what`` when it does not come, or when a part has ended."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            self.check()
            if time.monotonic() > deadline:
                raise ProjectFault(f"not within {seconds:g} s: {what}; logs are in {self.project.run}")
            time.sleep(0.1)
        return found

    def check(self) -> None:
        for name, process in self._running:
            if process.poll() is not None:
                raise ProjectFault(f"{name} ended with {process.returncode}; {name}.log ends with:\n{self.log(name)}")

    def log(self, name: str, lines: int = 12) -> str:
        file = self.project.run / f"{name}.log"
        return "\n".join(file.read_text("utf-8", "replace").splitlines()[-lines:])

    def _start(self, name: str, *command: str, **environment: str) -> None:
        # For its owner alone: the control plane prints the administrator's key there.
        opened = os.open(self.project.run / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(opened, "wb") as log:
            process = subprocess.Popen(
                command,
                cwd=self.project.home,
                env={**self.project.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the story alone, which then ends the parts in order
            )
        self._running.append((name, process))


def check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise ProjectFault(f"port {port} is in use; choose others: make run PORT={port + 10}") from None


def ready(port: int, path: str) -> bool:
    try:
        return call(port, "GET", path)[0] == 200
    except OSError:
        return False


def call(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    """Status and body. Names of headers have ``_`` for ``-``."""
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, path, body or None, {"Content-Type": "application/json", **named})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def fast(folder: Path) -> dict[str, Any]:
    """The environment that ``fast.env`` describes."""
    lines = (folder / "fast.env").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
