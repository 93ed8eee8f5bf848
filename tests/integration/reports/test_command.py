"""``tidegate report`` with the real Evidently, in a process that may reach nobody."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow

ALONE = """
import socket, sys
def watch(event, given):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request"):
        print("REACHED", event, given[1:] if event == "socket.connect" else given[:1], file=sys.stderr, flush=True)
        raise PermissionError(event)
sys.addaudithook(watch)
from tidegate.cli import app
app(prog_name="tidegate", standalone_mode=False)
"""


def write(path: Path, rows: int, shift: float) -> None:
    rng = np.random.default_rng(rows)
    lines = ["age,income,plan,empty,odd"]
    for place in range(rows):
        odd = "x" if place % 50 == 0 else f"{rng.normal():.3f}"
        plan = rng.choice(["basic", "plus", "</script>"])
        lines.append(f"{rng.normal(40 + shift, 10):.1f},{rng.lognormal(10, 0.5):.2f},{plan},,{odd}")
    path.write_text("\n".join(lines) + "\n")


def report(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TIDEGATE_", "DO_NOT"))}
    home = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config")}
    return subprocess.run(
        [sys.executable, "-c", ALONE, "report", *arguments],
        cwd=folder, env={**environment, **home}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("report")
    write(found / "base.csv", 900, 0.0)
    write(found / "prod.csv", 600, 12.0)
    return found


@pytest.fixture(scope="module")
def made(folder: Path) -> subprocess.CompletedProcess[str]:
    return report(
        folder, "summary", "--baseline", "base.csv", "--production", "prod.csv", "--html", "out/page.html",
        "--json", "out/data.json", "--max-rows", "500",
    )  # fmt: skip


def test_page_and_figures_of_two_files(folder: Path, made: subprocess.CompletedProcess[str]) -> None:
    assert made.returncode == 0, made.stderr
    assert "drifted: age" in made.stdout
    data: dict[str, Any] = json.loads((folder / "out" / "data.json").read_text())
    domain = data["report"]["domain"]
    assert domain["auc"]["low"] > 0.6
    assert domain["columns"][0]["column"] == "age"
    assert "A classifier tells" in made.stdout
    assert "All columns together" in (folder / "out" / "page.html").read_text()
    by_column = {one["column"]: one for one in data["report"]["columns"]}
    assert by_column["age"]["tidegate"]["drifted"]
    assert by_column["age"]["evidently"]["drifted"]
    assert not by_column["income"]["tidegate"]["drifted"]
    notes = "\n".join(data["report"]["notes"])
    for words in (
        "random sample of 500 of 900 rows",
        "random sample of 500 of 600 rows",
        "empty: no values in reference and production, and so left out",
        "values in production are no numbers",
    ):
        assert words in notes


def test_our_reading_of_evidentlys_verdicts_is_its_own(folder: Path, made: subprocess.CompletedProcess[str]) -> None:
    data = json.loads((folder / "out" / "data.json").read_text())
    counted = next(one["value"]["count"] for one in data["evidently"] if one["name"].startswith("DriftedColumnsCount"))
    assert counted == sum(1 for one in data["report"]["columns"] if (one["evidently"] or {}).get("drifted"))


def test_nobody_was_told(folder: Path, made: subprocess.CompletedProcess[str]) -> None:
    """Neither while it was made, nor by who opens it: nothing of the page comes from elsewhere."""
    assert "REACHED" not in made.stderr
    assert not (folder / "config").exists()
    html = (folder / "out" / "page.html").read_text()
    assert not re.search(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=", html)
    assert "</script>" not in html.split("Drift, by Tidegate")[1].split('<div id="root_metric')[0]


def test_one_file_by_itself(folder: Path) -> None:
    (folder / "one.jsonl").write_text('{"age": 1, "plan": "a", "tags": [1, 2]}\n')
    done = report(folder, "quality", "--quality-only", "one.jsonl")
    assert done.returncode == 0, done.stderr
    assert "1 row; drifted: none" in done.stdout
    assert (folder / "reports" / "quality.html").stat().st_size > 1_000_000
