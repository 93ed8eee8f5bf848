"""The machine that a result was measured on, and which core does what."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SCRATCH = ROOT / "benchmarks" / ".envs"
"""Everything made by a run that is not a result: models, peers' environments. Ignored by git."""

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = CORES[0]
LOAD_CORE = CORES[-1]
"""The load generator and this program share the last core; with one core only, everything shares it."""

LIBRARIES = (
    "tidegate",
    "uvicorn",
    "uvloop",
    "httptools",
    "msgspec",
    "numpy",
    "onnxruntime",
    "scikit-learn",
    "skl2onnx",
)


def describe() -> dict[str, Any]:
    """Facts that a reader needs to judge a figure. Call it before anything runs: ``busy_before`` is others' noise."""
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            versions[library] = "absent"
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": len(CORES),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "versions": versions,
        "commit": commit(),
        "busy_before": busy(),
    }


def commit() -> str:
    """Short hash of the working tree's commit, with a plus when the code that is measured, or measures, differs."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        return "unknown"
    code = ["git", "diff", "--quiet", "HEAD", "--", "src", "benchmarks", ":!benchmarks/results"]
    dirty = subprocess.run(code, cwd=ROOT, capture_output=True, check=False).returncode
    return done.stdout.strip() + ("+" if dirty else "")


def busy(seconds: float = 0.5) -> float:
    """Share of all cores' time that anybody used just now; what the host took away counts as used."""
    before = _ticks()
    time.sleep(seconds)
    after = _ticks()
    idle, total = (new - old for new, old in zip(after, before, strict=True))
    return round(1 - idle / total, 3) if total else 0.0


def _ticks() -> tuple[int, int]:
    """Idle and all ticks since the machine started."""
    first = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0]
    ticks = [int(value) for value in first.split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def keep_to(core: int) -> None:
    """Pin this process (and what it starts from now on) to one core."""
    os.sched_setaffinity(0, {core})


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"
