"""`make run` is this command: both planes, a release that promotes itself, and one that is sent back."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.pages import free_port, ready

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Demo:
    def __init__(self, folder: Path) -> None:
        self.port, self.control = free_port(), free_port()
        self.folder = folder / "demo"
        ports = ["--port", str(self.port), "--control-port", str(self.control)]
        command = [sys.executable, "-m", "tidegate", "demo", *ports, "--folder", "demo", "--traffic", "80"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder
        )
        self.shown: list[str] = []

    def until(self, pattern: str) -> re.Match[str]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.shown.append(line.rstrip())
            if match := re.search(pattern, line):
                return match
        raise AssertionError("\n".join(self.shown))

    def get(self, path: str, key: str = "") -> str:
        request = urllib.request.Request(f"http://127.0.0.1:{self.control}{path}", headers={"X-API-Key": key})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.read().decode())


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    made = Demo(tmp_path)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.process.terminate()
        assert made.process.stdout is not None
        made.process.stdout.close()
        made.process.wait(90)


def test_a_better_model_promotes_itself_and_a_faulty_one_is_sent_back(demo: Demo) -> None:
    key = demo.until(r"Sign in\s+(tg_\S+)")[1]
    call = demo.until(r"^\s*(curl .*/predict/iris.*)")[1]
    answer = json.loads(subprocess.run(["bash", "-c", call], capture_output=True, timeout=30, check=True).stdout)
    assert answer["labels"][0] in ("setosa", "versicolor", "virginica")
    demo.until(r"=> promoted")
    reason = demo.until(r"=> rolled back: (.*)")[1]
    assert re.search(r"failed|slower|slow", reason), reason
    users = demo.until(r"The users saw (\d+) failed requests of ([\d,]+)")
    assert int(users[1]) == 0
    assert int(users[2].replace(",", "")) > 1000

    releases = json.loads(demo.get("/api/v1/releases", key))["items"]
    assert [release["state"] for release in releases] == ["rolled_back", "promoted"]
    for release in releases:
        assert json.loads(demo.get(f"/api/v1/releases/{release['id']}/replay", key))["agrees"]
    champion = json.loads(demo.get("/api/v1/models/iris", key))
    assert "champion" in str(champion)

    demo.until(r"baseline: \d+ requests, 0 errors")
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.stdout is not None
    rest = demo.process.stdout.read()
    assert (demo.process.wait(120), rest.splitlines()[-1]) == (0, "stopped")
    assert not ready(demo.port)
    assert not ready(demo.control)


def test_a_folder_with_other_files_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    command = [sys.executable, "-m", "tidegate", "demo", "--port", str(free_port()), "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "choose another with --folder" in done.stderr
    assert (tmp_path / "kept.txt").read_text() == "mine"
