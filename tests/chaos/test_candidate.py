"""R3: a broken candidate never breaks a user. One test a failure; the baseline answers, the breaker opens."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.caller import Caller, Load, sum_of_row
from tests.process import Server, serving, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

REQUESTS = 400

PYTHON = """
import os
import numpy as np

class Model:
    signature = {{
        "inputs": {{"x": {{"datatype": "FP64", "shape": [-1, 4]}}}},
        "outputs": {{"predictions": {{"datatype": "FP64"}}}},
    }}
    kept = []
    calls = 0

    def predict(self, inputs):
        Model.calls += 1
        if Model.calls > 40:  # the warm-up and its measurements go well
            {fault}
        return {{"predictions": inputs["x"].sum(axis=1)}}
"""


def python_model(folder: Path, fault: str) -> Path:
    folder.mkdir()
    (folder / "model.py").write_text(textwrap.dedent(PYTHON.format(fault=fault)))
    return folder


def config(candidate: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    candidate = {"share": 50, "timeout_ms": 300, **candidate}
    return {"endpoints": {"sum": {"model": "fake:", "variants": {"next": candidate}, **more}}}


def load(server: Server, requests: int = REQUESTS) -> None:
    """All requests are answered, and right: nobody notices the candidate."""
    with Load(server.port, sum_of_row(0.0), clients=8, most=requests) as clients:
        clients.join(120).assert_clean(at_least=requests)


FAULTS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "raises": ({"fail": True}, {"failed"}),
    "hangs": ({"hang": True}, {"timeout"}),
    "wrong number of rows": ({"wrong_rows": True}, {"failed"}),
    "NaN": ({"nan": True}, {"failed"}),
    "wrong names": ({"wrong_names": True}, {"failed"}),
    "ends its process": ({"crash": True}, {"failed"}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_candidate_with_half_the_traffic_fails_and_no_user_sees_it(tmp_path: Path, fault: str) -> None:
    options, reasons = FAULTS[fault]
    isolate = {"isolate": "process"} if "crash" in options or "hang" in options else {}
    with serving(tmp_path, config({"model": "fake:", "options": options, **isolate})) as server:
        load(server)
        before = server.resident()
        load(server)
        fallbacks = {reason: server.counted("tidegate_fallbacks_total", reason=reason) for reason in reasons}
        assert all(fallbacks.values()), fallbacks
        assert server.counted("tidegate_fallbacks_total", reason="breaker_open") > 100
        assert server.counted("tidegate_requests_total", variant="next", outcome="ok") == 0
        assert server.counted("tidegate_requests_total", variant="baseline", outcome="ok") == 2 * REQUESTS
        assert "ejected after repeated failures" in server.log
        assert server.resident() < before + 30e6
        assert server.is_ready()


@pytest.mark.parametrize("isolate", ["auto", "process"])
def test_a_users_own_code_ends_its_process(tmp_path: Path, isolate: str) -> None:
    """``os._exit`` in model.py: the candidate's process dies, the server does not."""
    model = python_model(tmp_path / "model", "os._exit(7)")
    candidate = {"model": str(model), "isolate": isolate}
    settings = {**config(candidate), "trust": {"pickles": [str(model)]}}
    with serving(tmp_path, settings) as server:
        serving_process = [process.pid for process in server.workers()]
        load(server)
        assert server.counted("tidegate_fallbacks_total", reason="failed") > 0
        assert server.counted("tidegate_fallbacks_total", reason="breaker_open") > 0
        assert [process.pid for process in server.workers()] == serving_process
        assert server.is_ready()


def test_a_candidate_eats_memory_up_to_its_bound(tmp_path: Path) -> None:
    model = python_model(tmp_path / "model", "self.kept.append(np.ones(25_000_000))")
    candidate = {"model": str(model), "options": {"memory_mb": 700}, "timeout_ms": 5000}
    settings = {**config(candidate), "trust": {"pickles": [str(model)]}}
    most = 0
    with serving(tmp_path, settings) as server, Load(server.port, sum_of_row(0.0), clients=4, pause=0.005) as clients:

        def done() -> bool:
            nonlocal most
            most = max(most, server.resident())
            return clients.tally.answered >= REQUESTS and "ejected" in server.log

        until(done, "the candidate is ejected", 60)
        assert server.counted("tidegate_fallbacks_total", reason="failed") >= 5
        assert most < 1.3e9
        assert server.is_ready()
    clients.tally.assert_clean(at_least=REQUESTS)
    assert "memory" in server.log.lower()


def test_a_candidate_that_loads_slowly_and_then_fails_never_gets_traffic(tmp_path: Path) -> None:
    """kserve/kserve#5983: a candidate gets traffic only after it is warm, so nobody sees a 503 because of it."""
    alone = {"endpoints": {"sum": {"model": "fake:"}}}
    slow = config({"model": "fake:", "options": {"load_ms": 1000, "fail": True, "at_load": True}})
    warm = config({"model": "fake:", "options": {"load_ms": 1000, "bias": 100}})
    with serving(tmp_path, alone, workers=2) as server:
        with Load(server.port, sum_of_row(0.0), clients=3, pause=0.002) as clients:
            server.configure(slow)
            refused = server.reload()
        clients.tally.assert_clean(at_least=20)
        assert refused.returncode == 2
        assert "fails on its example row" in refused.stderr
        with Load(server.port, sum_of_row(0.0, 100.0), clients=3, pause=0.002) as clients:
            server.configure(warm)
            assert server.reload().returncode == 0
            until(lambda: server.counted("tidegate_requests_total", variant="next", outcome="ok") > 50, "a share")
        clients.tally.assert_clean(at_least=20)


def test_a_forced_request_falls_back_too_and_a_version_by_name_does_not(tmp_path: Path) -> None:
    candidate = {"model": "fake:", "version": "2", "options": {"fail": True}}
    with serving(tmp_path, config(candidate)) as server:
        forced = server.predict([1, 2, 3, 4], x_canary="next")
        assert (forced.status, forced.json["model"]["variant"]) == (200, "baseline")
        infer = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [1, 2, 3, 4]}]}
        named = server.call("POST", "/v2/models/sum/versions/2/infer", infer)
        assert named.status == 500
        assert b"as told" not in named.body, "the model's own words stay inside"


def test_an_ejected_candidate_is_tried_again_and_returns(tmp_path: Path) -> None:
    """It fails for a while only: after the ejection one probe decides, and its share comes back."""
    folder = tmp_path / "model"
    python_model(folder, f"import pathlib; assert pathlib.Path({str(tmp_path / 'well')!r}).exists(), 'ill'")
    settings = {**config({"model": str(folder)}), "trust": {"pickles": [str(folder)]}}
    with serving(tmp_path, settings) as server:
        load(server, 100)
        assert server.counted("tidegate_fallbacks_total", reason="breaker_open") > 0
        (tmp_path / "well").touch()

        def answered_by_candidate() -> bool:
            with Caller(server.port) as caller:
                body = {"features": [[1.0, 2.0, 3.0, 4.0]]}
                answer = caller.call("POST", "/predict", body, {"X-Canary": "next"})
            assert answer.status == 200
            return bool(answer.json["model"]["variant"] == "next")

        until(answered_by_candidate, "the candidate answers again", 45)
