"""R10: memory does not grow: many requests, many that are given up, many versions that come and go.

TIDEGATE_CHAOS_FULL=1 makes it the full million requests.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.caller import Caller, pipelined, request_bytes
from tests.process import Server, serving, until
from tidegate.testing.models import iris_forest, write_affine_onnx, write_joblib, write_onnx

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900 if os.environ.get("TIDEGATE_CHAOS_FULL") else 240)]

REQUESTS = 1_000_000 if os.environ.get("TIDEGATE_CHAOS_FULL") else 150_000
PARTS = 10
NOISE = 6e6
"""Bytes: what an allocator may keep or give back between two looks."""


def grown(server: Server, part: Callable[[int], None]) -> tuple[float, list[float]]:
    """Growth of the resident set from the third part to the last, by the fitted line, and what was seen (MB)."""
    part(0)
    sizes = []
    for number in range(1, PARTS + 1):
        part(number)
        sizes.append(server.resident())
    settled = sizes[2:]
    slope = float(np.polyfit(range(len(settled)), settled, 1)[0])
    return slope * len(settled), [round(size / 1e6, 1) for size in sizes]


def affine(tmp_path: Path) -> dict[str, Any]:
    write_affine_onnx(tmp_path / "model.onnx", columns=4, scale=2, shift=1)
    return {"endpoints": {"affine": {"model": "model.onnx"}}}


@pytest.mark.parametrize("workers", [1, 2])
def test_many_requests(tmp_path: Path, workers: int) -> None:
    """SeldonIO/MLServer#1232, ray-project/ray#50927: the resident set after the last request is that after the first."""
    clients, burst = 4, 50
    rounds = REQUESTS // workers // (PARTS + 1) // (clients * burst)
    with serving(tmp_path, affine(tmp_path), workers=workers) as server:
        wrong: list[bytes] = []

        def run(number: int) -> None:
            with server.caller() as caller:
                for turn in range(rounds):
                    rows = [[float(number), float(turn), float(place), 1.0] for place in range(burst)]
                    asked = [request_bytes("POST", "/predict", {"features": [row]}) for row in rows]
                    for row, answer in zip(rows, pipelined(caller, asked), strict=True):
                        wanted = ",".join(str(2 * value + 1) for value in row).encode()
                        if answer.status != 200 or wanted not in answer.body:
                            wrong.append(answer.body)

        def part(number: int) -> None:
            threads = [threading.Thread(target=run, args=(number,)) for _ in range(clients)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(300)
                assert not thread.is_alive()

        growth, sizes = grown(server, part)
        asked = (PARTS + 1) * clients * rounds * burst
        assert not wrong
        assert server.counted("tidegate_requests_total", outcome="ok") == asked
        print(f"{asked} requests: {growth / 1e6:+.1f} MB, {sizes}")
        assert growth < NOISE * workers


def test_ten_thousand_requests_that_are_given_up(tmp_path: Path) -> None:
    """Clients that hang up before the answer, and deadlines that pass: nothing of them is kept."""
    settings = {"endpoints": {"sum": {"model": "fake:", "options": {"base_ms": 2}}}}
    with serving(tmp_path, settings) as server:
        hasty = request_bytes("POST", "/predict", {"features": [[1, 2, 3, 4]]}, {"X-Timeout-Ms": "1"})
        plain = request_bytes("POST", "/predict", {"features": [[1, 2, 3, 4]]})

        def part(number: int) -> None:
            for _ in range(900):
                with Caller(server.port) as caller:
                    caller.send(plain)
            with Caller(server.port) as caller:
                statuses = {answer.status for answer in pipelined(caller, [hasty] * 100)}
            assert statuses <= {200, 429, 503, 504}

        growth, sizes = grown(server, part)
        print(f"{1000 * (PARTS + 1)} given up: {growth / 1e6:+.1f} MB, {sizes}")
        assert growth < NOISE
        until(lambda: server.counted("tidegate_queue_rows") == 0, "an empty queue")
        assert server.predict([1, 2, 3, 4]).json["predictions"] == [10.0]
        assert "never retrieved" not in server.log


@pytest.mark.parametrize(("form", "workers", "cycles"), [("onnx", 1, 18), ("onnx", 2, 18), ("joblib", 1, 4)])
def test_two_hundred_loads_and_unloads(tmp_path: Path, form: str, workers: int, cycles: int) -> None:
    """triton-inference-server/server#4528, #7727: what a model took comes back when it goes. (Fewer cycles for the form
    that is compiled at each load.)"""
    if form == "onnx":
        write_onnx(iris_forest(200), tmp_path / "forest.onnx")
    else:
        write_joblib(iris_forest(200), tmp_path / "forest.joblib")
    config = affine(tmp_path)
    config["access"] = {"operate_key": "operator"}
    config["trust"] = {"pickles": [str(tmp_path)]}
    config["endpoints"]["forest"] = {"model": f"forest.{form}"}
    operator = {"X-API-Key": "operator"}
    with serving(tmp_path, config, workers=workers) as server:

        def part(number: int) -> None:
            for _ in range(cycles):
                assert server.call("POST", "/v2/repository/models/forest/unload", {}, operator).status == 200
                assert server.call("POST", "/v2/repository/models/forest/load", {}, operator).status == 200

        growth, sizes = grown(server, part)
        print(f"{cycles * (PARTS + 1)} cycles: {growth / 1e6:+.1f} MB, {sizes}")
        assert growth < 2 * NOISE * workers
        assert server.call("POST", "/predict/forest", {"features": [[5.1, 3.5, 1.4, 0.2]]}).status == 200


def test_two_hundred_versions(tmp_path: Path) -> None:
    """Each reload brings a version of another number: neither models nor figures pile up."""

    def config(number: int) -> dict[str, Any]:
        options = {"bias": float(number)}
        return {"endpoints": {"sum": {"model": "fake:", "version": str(number), "options": options}}}

    with serving(tmp_path, config(0)) as server:
        done = 0

        def part(_: int) -> None:
            nonlocal done
            for _ in range(18):
                done += 1
                server.configure(config(done))
                server.signal_reload()
                server.wait_logged(f"snapshot {done + 1} in force")
                assert server.predict([0, 0, 0, 0]).json["predictions"] == [float(done)]

        growth, sizes = grown(server, part)
        print(f"{done} versions: {growth / 1e6:+.1f} MB, {sizes}")
        assert growth < NOISE
