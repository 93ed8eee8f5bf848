"""A real ``tidegate serve`` for tests: started with a configuration, watched, stopped. Only loopback addresses."""

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
from typing import Any

import psutil  # type: ignore[import-untyped]
import yaml

from tests.caller import Answer, Caller

START_SECONDS = 60.0
_LOOK_SECONDS = 0.02


def until(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    """The first true value of ``condition``; AssertionError naming ``what`` when it does not come."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(_LOOK_SECONDS)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


class Server:
    """One server, with all its processes. Its log is a file; its temporary files stay in ``folder``."""

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        *,
        workers: int = 1,
        environment: Mapping[str, str] | None = None,
        prefix: tuple[str, ...] = (),
        port: int = 0,
    ) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.config_file = folder / "tidegate.yaml"
        self.log_file = folder / "server.log"
        temporary = folder / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("TIDEGATE_", "OTEL_"))},
            "TMPDIR": str(temporary),
            **(environment or {}),
        }
        self.configure(config)
        command = (
            *prefix, sys.executable, "-m", "tidegate", "serve", "--config", str(self.config_file),
            "--port", str(self.port), "--workers", str(workers),
        )  # fmt: skip
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment, cwd=folder
            )

    def configure(self, config: Mapping[str, Any]) -> None:
        """Writes tidegate.yaml in one step, as a careful editor does."""
        fresh = self.config_file.with_suffix(".new")
        fresh.write_text(yaml.safe_dump(dict(config), sort_keys=False))
        fresh.replace(self.config_file)

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def caller(self, timeout: float = 30.0) -> Caller:
        return Caller(self.port, timeout)

    def call(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """One request on a connection of its own."""
        with self.caller() as caller:
            return caller.call(method, path, body, headers)

    def predict(self, row: list[float], path: str = "/predict", **headers: str) -> Answer:
        """``headers`` are written with underscores: ``x_canary``."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.call("POST", path, {"features": [row]}, named)

    def is_ready(self) -> bool:
        assert self.process.poll() is None, f"the server ended with {self.process.returncode}:\n{self.log[-4000:]}"
        try:
            return self.call("GET", "/readyz").status == 200
        except OSError:
            return False

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        until(self.is_ready, "ready", seconds)

    def wait_logged(self, text: str, times: int = 1, seconds: float = 20.0) -> None:
        until(lambda: self.log.count(text) >= times, f"{times} x {text!r} in the log:\n{self.log[-3000:]}", seconds)

    def workers(self) -> list[psutil.Process]:
        """The serving processes of a supervisor, or the single process."""
        own = psutil.Process(self.process.pid)
        serving = [child for child in own.children() if _serves(child)]
        return serving or [own]

    def resident(self) -> int:
        """Bytes held by the server and all its children."""
        total = 0
        own = psutil.Process(self.process.pid)
        for process in [own, *own.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total

    def metrics(self) -> dict[str, float]:
        """Every sample of ``/metrics``, by its name with labels, as written there."""
        text = self.call("GET", "/metrics").body.decode()
        samples = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def counted(self, metric: str, **labels: str) -> float:
        """Sum of the samples of a metric that have these labels."""
        wanted = [f'{name}="{value}"' for name, value in labels.items()]
        return sum(
            value
            for name, value in self.metrics().items()
            if name.partition("{")[0] == metric and all(label in name for label in wanted)
        )

    def reload(self) -> subprocess.CompletedProcess[str]:
        """``tidegate reload``, as an operator types it."""
        return subprocess.run(
            [sys.executable, "-m", "tidegate", "reload", "--port", str(self.port)],
            env=self.environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def signal_reload(self) -> None:
        """What ``tidegate reload`` does, without waiting for how it goes."""
        self.signal(signal.SIGHUP)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait_end(self, seconds: float = 30.0) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds:g} s:\n{self.log[-3000:]}") from None

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait_end()

    def kill(self) -> None:
        """Ends the server and every child of it, whatever state they are in."""
        with contextlib.suppress(psutil.NoSuchProcess):
            own = psutil.Process(self.process.pid)
            for child in [*own.children(recursive=True), own]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        self.process.wait(10)


def _serves(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        command = " ".join(process.cmdline())
        return "runtimes.child" not in command and "resource_tracker" not in command
    return False


@contextlib.contextmanager
def serving(
    folder: Path,
    config: Mapping[str, Any],
    *,
    workers: int = 1,
    environment: Mapping[str, str] | None = None,
    prefix: tuple[str, ...] = (),
    ready: bool = True,
    port: int = 0,
) -> Iterator[Server]:
    """A server that is ready, and is gone afterwards with all its children. ``port`` 0: any."""
    server = Server(folder, config, workers=workers, environment=environment, prefix=prefix, port=port)
    try:
        if ready:
            server.wait_ready()
        yield server
    finally:
        server.kill()
