"""Runs the fenced blocks of a Markdown page from top to bottom, in a folder of its own.

```console    lines that start with "$ " run in a shell; the lines after one are its output. A line "..." stands for any
              lines, "..." in a line for any text. A command that ends with " &" goes on until the page ends; the page
              waits until the server on port 8000 is ready. Port 8000 is replaced by a free one.
```LANG file=NAME    writes a file.
Other blocks are only read.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

READY_SECONDS = 90.0
COMMAND_SECONDS = 90.0
_FENCE = re.compile(r"^```(\S*)[ ]?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(msgspec.Struct, frozen=True):
    language: str
    file: str
    text: str
    line: int


def blocks(page: str) -> Iterator[Block]:
    for match in _FENCE.finditer(page):
        words = dict(word.partition("=")[::2] for word in match[2].split())
        yield Block(match[1], words.get("file", ""), match[3], page[: match.start()].count("\n") + 2)


def commands(block: Block) -> Iterator[tuple[int, str, str]]:
    """Line, command and the output that the page shows."""
    line, command, output = block.line, "", ""
    for number, text in enumerate(block.text.splitlines(), block.line):
        if text.startswith("$ "):
            if command:
                yield line, command, output
            line, command, output = number, text[2:], ""
        elif command.endswith("\\"):
            command = command[:-1] + text
        else:
            output += text + "\n"
    if command:
        yield line, command, output


def matches(shown: str, real: str) -> bool:
    pattern = ""
    for line in shown.splitlines():
        pattern += r"(?:.*\n)*" if line.strip() == "..." else re.escape(line.rstrip()).replace(r"\.\.\.", ".*") + r"\n"
    lines = "".join(line.rstrip() + "\n" for line in real.splitlines())
    return re.fullmatch(pattern, lines) is not None


class Page:
    """``root`` is the repository: the page may name its files."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path = path
        self.folder = folder
        self.port = free_port()
        self.control_port = free_port()
        self.servers: list[subprocess.Popen[bytes]] = []
        path_variable = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = os.environ | {
            "PATH": path_variable,
            "TIDEGATE_SERVER__PORT": str(self.port),
            "TIDEGATE_CONTROL__PORT": str(self.control_port),
            "TIDEGATE_URL": f"http://127.0.0.1:{self.port}",
            "TIDEGATE_CONTROL": f"http://127.0.0.1:{self.control_port}",
        }

    def run(self) -> None:
        try:
            for block in blocks(self.path.read_text("utf-8")):
                if block.file:
                    target = self.folder / block.file
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_text(block.text, "utf-8")
                elif block.language == "console":
                    for line, command, shown in commands(block):
                        self._command(line, command, shown)
        finally:
            self._stop()

    def _command(self, line: int, command: str, shown: str) -> None:
        command = re.sub(r"(127\.0\.0\.1:|localhost:|--port |PORT=)8000", rf"\g<1>{self.port}", command)
        if command.endswith(" &"):
            self._start(command.removesuffix(" &"))
            return
        result = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=COMMAND_SECONDS, check=False,
        )  # fmt: skip
        real = (
            result.stdout.replace(str(self.port), "8000")
            .replace(str(self.control_port), "8001")
            .replace(f"{self.folder}/", "")
        )
        assert matches(shown, real), f"{self.path.name}:{line}: {command}\nshown:\n{shown}\nreal:\n{real}"

    def _start(self, command: str) -> None:
        with (self.folder / "server.log").open("wb") as log:
            server = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.servers.append(server)
        end = time.monotonic() + READY_SECONDS
        while not ready(self.port):
            text = (self.folder / "server.log").read_text("utf-8")
            assert server.poll() is None, f"{command} ended:\n{text}"
            assert time.monotonic() < end, f"{command} is not ready:\n{text}"
            with_pause(server)

    def _stop(self) -> None:
        for server in self.servers:
            if server.poll() is None:
                server.send_signal(signal.SIGTERM)
        for server in self.servers:
            try:
                server.wait(40)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()
                raise


def with_pause(process: subprocess.Popen[bytes]) -> None:
    """Waits a moment, or until the process ends."""
    try:
        process.wait(0.05)
    except subprocess.TimeoutExpired:
        return


def ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
