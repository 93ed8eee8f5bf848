"""A subject: a server with all its processes, started on its own core and ended completely."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar

from benchmarks.harness.machine import ROOT, SERVER_CORE
from benchmarks.harness.request import Request

PR_SET_CHILD_SUBREAPER = 36


class SubjectFailed(Exception):
    """The server did not start, or did not answer; carries the end of its output."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """Starts on ``with``; ready when ``probe`` is answered with 200. ``cores`` are the server's."""

    running: ClassVar[set[int]] = set()
    """Processes of all servers that were started and not stopped."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        port: int,
        probe: Request,
        *,
        environment: Mapping[str, str] | None = None,
        folder: Path = ROOT,
        cores: Sequence[int] = (SERVER_CORE,),
        patience: float = 60.0,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.port = port
        self.probe = probe
        self.environment = dict(environment or {})
        self.folder = folder
        self.cores = cores
        self.patience = patience
        self.seconds_to_first_answer = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the object
        self._others: set[int] = set()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        if self._process is None:
            raise SubjectFailed(f"{self.name} is not running")
        return self._process.pid

    def start(self) -> None:
        # Daemons that a server leaves behind come back to this process, so that stop() finds them.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._others = set(parents().get(os.getpid(), ()))
        began = time.perf_counter()
        self._process = subprocess.Popen(
            ["taskset", "-c", ",".join(map(str, self.cores)), *self.command],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        Server.running.add(self._process.pid)
        try:
            self._await_first_answer(began)
        except BaseException:
            self.stop()
            raise

    def _await_first_answer(self, began: float) -> None:
        answer = ""
        while time.perf_counter() - began < self.patience:
            if self._process is not None and self._process.poll() is not None:
                raise SubjectFailed(f"{self.name} ended with {self._process.returncode}: {self.output()}")
            try:
                status, body = self.probe.send(self.port, timeout=min(10.0, self.patience))
            except OSError as error:
                answer = str(error)
                time.sleep(0.002)
                continue
            if status == 200:
                self.seconds_to_first_answer = time.perf_counter() - began
                return
            answer = f"{status} {body[:300]!r}"
            time.sleep(0.005)
        raise SubjectFailed(f"{self.name} gave no 200 in {self.patience:.0f} s ({answer}): {self.output()}")

    def output(self, characters: int = 1500) -> str:
        """The end of what the server printed."""
        size = os.fstat(self._output.fileno()).st_size
        raw = os.pread(self._output.fileno(), characters, max(0, size - characters))
        return raw.decode(errors="replace")

    def processes(self) -> set[int]:
        """The server's process and everything that came from it, adopted daemons included."""
        children = parents()
        adopted = {pid for pid in children.get(os.getpid(), ()) if pid not in self._others | Server.running}
        found = {self.pid} | adopted
        for pid in (self.pid, *adopted):
            found |= descendants(pid, children)
        return found & alive()

    def memory_mb(self) -> dict[str, float]:
        """``total``: what is private to each process, and the largest shared part once. ``rss``: the plain sum."""
        private = rss = shared = 0.0
        processes = self.processes()
        for one in processes:
            try:
                lines = Path(f"/proc/{one}/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]
            except OSError:  # ended meanwhile
                continue
            sizes = {name: int(size.split()[0]) / 1024 for name, _, size in (line.partition(":") for line in lines)}
            private += sizes["Private_Clean"] + sizes["Private_Dirty"]
            shared = max(shared, sizes["Shared_Clean"] + sizes["Shared_Dirty"])
            rss += sizes["Rss"]
        return {"total": private + shared, "rss": rss, "processes": len(processes)}

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def stop(self) -> None:
        """Ask nicely for a few seconds, then end every process that is left."""
        if self._process is None:
            return
        tree = self.processes()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=8)
        Server.running.discard(self._process.pid)
        self._process.poll()
        deadline = time.monotonic() + 5
        while (left := (tree | self.processes()) & alive()) and time.monotonic() < deadline:
            for one in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(one, os.WNOHANG)
            time.sleep(0.01)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        self._process = None


def alive() -> set[int]:
    return {int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()}


def parents() -> dict[int, list[int]]:
    """Every process's children."""
    children: dict[int, list[int]] = {}
    for pid in alive():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        except OSError:  # ended meanwhile
            continue
        parent = int(stat.rpartition(")")[2].split()[1])
        children.setdefault(parent, []).append(pid)
    return children


def descendants(ancestor: int, children: Mapping[int, list[int]]) -> set[int]:
    found: set[int] = set()
    waiting = [ancestor]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            found.add(child)
            waiting.append(child)
    return found
