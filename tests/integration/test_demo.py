"""`make run` is this command: two models, a real server, figures."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.pages import free_port, ready


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_demo_serves_shows_figures_and_ends_cleanly(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "tidegate", "demo", "--port", str(port), "--folder", str(tmp_path / "run")]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path)
    assert demo.stdout is not None
    shown: list[str] = []
    try:
        for line in demo.stdout:
            shown.append(line)
            if " requests, " in line:
                break
        calls = [line.strip() for line in shown if line.strip().startswith("curl")]
        answers = [
            json.loads(subprocess.run(["bash", "-c", call], capture_output=True, timeout=30, check=True).stdout)
            for call in calls
        ]
        demo.send_signal(signal.SIGINT)
        rest = demo.communicate(timeout=180)[0]
    finally:
        demo.terminate()
        demo.wait(60)
    assert len(answers) == 2, shown
    assert all(answer["labels"][0] in ("setosa", "versicolor", "virginica") for answer in answers)
    assert answers[1]["model"]["variant"] == "candidate"
    figures = re.search(r"baseline: (\d+) requests, (\d+) errors, p50 [\d.]+ ms, p99 [\d.]+ ms", shown[-1])
    assert figures is not None, shown
    assert int(figures[1]) > 0
    assert int(figures[2]) == 0
    assert (demo.returncode, rest.splitlines()[-1]) == (0, "stopped")
    assert not ready(port)
