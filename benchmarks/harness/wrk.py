"""Closed-loop load by ``wrk``: a C client whose own cost stays small beside the servers'."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.machine import LOAD_CORE
from benchmarks.harness.request import Request

SCRIPT = """
local file = io.open({body}, "rb")
wrk.method = {method}
wrk.body = file:read("*a")
{headers}
function done(summary, latency, requests)
  io.write(string.format(
    '\\nRESULT {{"requests":%d,"microseconds":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d,'
    .. '"p50":%.1f,"p90":%.1f,"p99":%.1f,"p999":%.1f,"mean":%.3f}}\\n',
    summary.requests, summary.duration, summary.errors.connect, summary.errors.read, summary.errors.write,
    summary.errors.status, summary.errors.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency:percentile(99.9), latency.mean))
end
"""


class WrkMissing(Exception):
    def __init__(self) -> None:
        super().__init__("wrk is not installed: apt-get install wrk (or brew install wrk)")


@dataclass(frozen=True)
class Load:
    """Answers per second and latencies in milliseconds. ``failures`` counts everything but 2xx and 3xx answers."""

    rate: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    mean_ms: float
    requests: int
    failures: int


def wrk(port: int, request: Request, *, connections: int, seconds: float, core: int = LOAD_CORE) -> Load:
    """``seconds`` are rounded up to whole ones, as the tool wants."""
    if shutil.which("wrk") is None:
        raise WrkMissing
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder, "body")
        body.write_bytes(request.body)
        script = Path(folder, "load.lua")
        script.write_text(
            SCRIPT.format(
                body=json.dumps(str(body)),
                method=json.dumps(request.method),
                headers="\n".join(
                    f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in request.headers.items()
                ),
            ),
            encoding="utf-8",
        )
        done = subprocess.run(
            ["taskset", "-c", str(core), "wrk", "-t1", f"-c{connections}", f"-d{math.ceil(seconds)}s", "--timeout", "30s",
             "--latency", "-s", str(script), f"http://127.0.0.1:{port}{request.path}"],
            capture_output=True, text=True, check=False, timeout=seconds + 60,
        )  # fmt: skip
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            raw = json.loads(line.removeprefix("RESULT "))
            failures = sum(raw[kind] for kind in ("connect", "read", "write", "status", "timeout"))
            good = raw["requests"] - raw["status"]
            return Load(
                rate=good / (raw["microseconds"] / 1e6),
                p50_ms=raw["p50"] / 1000, p90_ms=raw["p90"] / 1000, p99_ms=raw["p99"] / 1000, p999_ms=raw["p999"] / 1000,
                mean_ms=raw["mean"] / 1000, requests=raw["requests"], failures=failures,
            )  # fmt: skip
    raise RuntimeError(f"wrk gave no result: {done.stdout[-500:]} {done.stderr[-500:]}")
