"""Many endpoints in a process, and what a failing model may tell a client, on a real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.caller import Caller, Load
from tests.process import serving
from tidegate.testing.models import write_affine_onnx, write_python_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

ENDPOINTS = 40


def test_many_endpoints_in_one_process(tmp_path: Path) -> None:
    """mlflow/mlflow#936: several models a server; each answers with its own model under every protocol."""
    for number in range(ENDPOINTS):
        write_affine_onnx(tmp_path / f"m{number}.onnx", columns=2, scale=1, shift=float(number))
    endpoints = {f"m{number}": {"model": f"m{number}.onnx"} for number in range(ENDPOINTS)}
    with serving(tmp_path, {"endpoints": endpoints, "default_endpoint": "m7"}) as server:

        def ask(caller: Caller, number: int) -> str:
            which = number % ENDPOINTS
            rows = [[float(number), 1.0]]
            paths: list[tuple[str, Any]] = [
                (f"/predict/m{which}", {"features": rows}),
                (f"/invocations?endpoint=m{which}", {"inputs": rows}),
                (f"/v2/models/m{which}/infer", {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": rows}]}),
            ]  # fmt: skip
            path, body = paths[number % 3]
            answer = caller.call("POST", path, body)
            wanted = f"{float(number + which)},{1.0 + which}".encode()
            return "" if answer.status == 200 and wanted in answer.body else f"{path}: {answer.status} {answer.body!r}"

        with Load(server.port, ask, clients=4, most=1200) as load:
            load.join(60).assert_clean(at_least=1200)
        assert b"[8.0,8.0]" in server.call("POST", "/predict", {"features": [[1.0, 1.0]]}).body
        assert len(server.call("GET", "/models").json["models"]) == ENDPOINTS
        assert server.call("GET", "/readyz").status == 200


FAILING = """
class Model:
    signature = {"inputs": {"x": {"datatype": "FP64", "shape": [-1, 2]}}, "outputs": {"predictions": "FP64"}}

    def predict(self, inputs):
        if (inputs["x"] == 4242.5).any():
            raise ValueError(f"cannot use {inputs['x'].tolist()} with /var/secret/weights.bin")
        return {"predictions": inputs["x"].sum(axis=1)}
"""


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", {"features": [[4242.5, 1]]}),
        ("/invocations", {"inputs": [[4242.5, 1]]}),
        (
            "/v2/models/frail/infer",
            {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [4242.5, 1]}]},
        ),
    ],
)
def test_a_model_that_fails_tells_the_log_and_not_the_client(tmp_path: Path, path: str, body: Any) -> None:
    """The MLflow scoring server echoes the stack trace and the input; here the client gets the request id."""
    folder = write_python_model(tmp_path / "model", FAILING)
    config = {"trust": {"pickles": [str(folder)]}, "endpoints": {"frail": {"model": str(folder)}}}
    with serving(tmp_path, config) as server:
        answer = server.call("POST", path, body, {"X-Request-Id": "ask-me"})
        assert answer.status == 500
        for inner in (b"Traceback", b"ValueError", b"4242", b"secret", b"model.py", b"site-packages", b"numpy"):
            assert inner not in answer.body
        assert answer.headers["x-request-id"] == "ask-me"
        assert b"ask-me" in answer.body
        server.wait_logged("ask-me")
        assert "Traceback" in server.log
        assert "/var/secret/weights.bin" in server.log
