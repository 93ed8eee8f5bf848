"""Guards on what a request costs, in counts that do not vary from run to run. Times are the benchmarks' business."""

from __future__ import annotations

import gc
import json
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tidegate.apps.desired import Desired
from tidegate.apps.process import ServingProcess
from tidegate.config.load import load_settings
from tidegate.serving.cost import CostModel
from tidegate.testing.models import write_classifier_onnx

BODY = b'{"features":[[5.1,3.5,1.4,0.2]]}'
HEADERS = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]

MOST_PYTHON_CALLS = 100
MOST_C_CALLS = 115
MOST_MODULES = 560
REQUESTS = 50
HEAVY = (
    "fastapi", "grpc", "httpx", "joblib", "mlflow", "opentelemetry", "pandas", "PIL", "prometheus_client", "pyarrow",
    "pydantic", "scipy", "sklearn", "structlog", "torch",
)  # fmt: skip


def config(folder: Path, endpoints: int = 1, store: Mapping[str, Any] | None = None) -> Path:
    model = write_classifier_onnx(folder / "iris.onnx")
    path = folder / "tidegate.yaml"
    named = {f"iris{number}": {"model": str(model)} for number in range(endpoints)}
    path.write_text(json.dumps({"endpoints": named, "store": dict(store or {})}), encoding="utf-8")
    return path


async def serving(folder: Path, endpoints: int = 1, store: Mapping[str, Any] | None = None) -> ServingProcess:
    """The real composition of one serving process, without its socket's traffic."""
    loaded = load_settings(config(folder, endpoints, store), environment={})
    with socket.socket() as listening:
        process = ServingProcess(Desired(loaded), listening)
        await process.apply(Desired(loaded))
    return process


class Undisturbed(CostModel):
    """Every batch is as quick as the first: a stall of the machine must not send the ones after it through a thread."""

    def estimate(self, rows: int) -> float:
        return 0.0


async def ask(process: ServingProcess) -> list[dict[str, Any]]:
    """One prediction through plain ASGI; the messages that came back."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/predict", "raw_path": b"/predict", "query_string": b"",
        "headers": HEADERS, "http_version": "1.1", "client": ("127.0.0.1", 1), "scheme": "http",
    }  # fmt: skip
    await process.app(scope, receive, send)
    return sent


async def calls_of(process: ServingProcess) -> Counter[str]:
    """Calls of Python and of C functions in ``REQUESTS`` predictions of a process that is warm."""
    for endpoint in process.live.endpoints.values():
        assert endpoint.baseline.loaded.facts.inline
        endpoint.baseline.batcher.cost = Undisturbed()
    for _ in range(20):
        sent = await ask(process)
    assert sent[0]["status"] == 200, sent
    counts: Counter[str] = Counter()

    def count(frame: FrameType, event: str, argument: Any) -> None:
        counts[event] += 1

    sys.setprofile(count)
    try:
        for _ in range(REQUESTS):
            await ask(process)
    finally:
        sys.setprofile(None)
    await process.live.close()
    return counts


async def test_a_prediction_makes_few_calls(tmp_path: Path) -> None:
    """SeldonIO/MLServer#854, ray-project/ray#46693: a server that costs more than a plain application. A layer more on the
    hot path shows here long before a stopwatch would notice."""
    counts = await calls_of(await serving(tmp_path))
    assert counts["call"] / REQUESTS <= MOST_PYTHON_CALLS
    assert counts["c_call"] / REQUESTS <= MOST_C_CALLS


async def test_recording_adds_few_calls(tmp_path: Path) -> None:
    """What every variant does is counted for each request; all but an append or two is done for many at once."""
    (tmp_path / "off").mkdir()
    (tmp_path / "on").mkdir()
    off = await calls_of(await serving(tmp_path / "off"))
    on = await calls_of(await serving(tmp_path / "on", store={"url": f"sqlite:///{tmp_path}/nowhere.db"}))
    assert on["call"] - off["call"] <= 2 * REQUESTS
    assert on["c_call"] - off["c_call"] <= 5 * REQUESTS


async def test_more_endpoints_cost_a_request_nothing(tmp_path: Path) -> None:
    """mlflow/mlflow#936: several models a server."""
    one = await calls_of(await serving(tmp_path))
    many = await calls_of(await serving(tmp_path, endpoints=40))
    assert abs(many["call"] - one["call"]) <= REQUESTS
    assert abs(many["c_call"] - one["c_call"]) <= REQUESTS


@pytest.mark.slow
async def test_requests_leave_no_memory_behind(tmp_path: Path) -> None:
    process = await serving(tmp_path)
    for _ in range(300):
        await ask(process)
    gc.collect()
    before = sys.getallocatedblocks()
    requests = 1000
    for _ in range(requests):
        await ask(process)
    gc.collect()
    grown = sys.getallocatedblocks() - before
    await process.live.close()
    # Windows of seconds and histogram buckets come now and then; a leak comes with each request.
    assert grown < requests / 2


@pytest.mark.slow
def test_serving_an_onnx_model_imports_nothing_heavy(tmp_path: Path) -> None:
    """Cold start and memory are mostly imports: those of the whole serving path are counted, in a fresh interpreter."""
    config(tmp_path)
    script = (
        "import asyncio, json, socket, sys\n"
        "from pathlib import Path\n"
        "import tidegate.cli, tidegate.cli.serve\n"
        "from tidegate.apps.desired import Desired\n"
        "from tidegate.apps.process import ServingProcess\n"
        "from tidegate.config.load import load_settings\n"
        "async def main():\n"
        "    loaded = load_settings(Path('tidegate.yaml'), environment={})\n"
        "    with socket.socket() as listening:\n"
        "        process = ServingProcess(Desired(loaded), listening)\n"
        "        await process.apply(Desired(loaded))\n"
        "        await process.live.close()\n"
        "asyncio.run(main())\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    modules = json.loads(done.stdout)
    assert [name for name in modules if name.partition(".")[0] in HEAVY] == []
    assert len(modules) <= MOST_MODULES
