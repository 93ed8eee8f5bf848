"""R4: hot swaps under load. The old version serves until the new one is warm; a failed load keeps the old."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.caller import Load, sum_of_row
from tests.process import Server, serving, until
from tidegate.testing.models import write_affine_onnx

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SWAPS = 100


def fake(bias: float, **options: Any) -> dict[str, Any]:
    return {"endpoints": {"sum": {"model": "fake:", "version": f"v{bias:g}", "options": {"bias": bias, **options}}}}


def version_in_force(server: Server) -> str:
    return str(server.predict([0, 0, 0, 0]).json["model"]["version"])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hundred_reloads_under_load_fail_no_request(tmp_path: Path, workers: int) -> None:
    """mlflow/mlflow#1768, #12589: an update of a served model needs no restart, and no request notices it."""
    biases = tuple(float(number) for number in range(SWAPS + 1))
    with serving(tmp_path, fake(0), workers=workers) as server:
        with Load(server.port, sum_of_row(*biases), clients=3, pause=0.002) as load:
            for number in range(1, SWAPS + 1):
                before = server.log.count(f"snapshot {number + 1} in force")
                assert before == 0
                server.configure(fake(number))
                server.signal_reload()
                server.wait_logged(f"snapshot {number + 1} in force", times=workers)
            until(lambda: load.tally.answered > 200, "some load")
        load.tally.assert_clean(at_least=200)
        assert version_in_force(server) == f"v{SWAPS}"


@pytest.mark.parametrize("workers", [1, 2])
def test_the_old_version_serves_until_the_new_one_is_warm_and_then_no_more(tmp_path: Path, workers: int) -> None:
    with serving(tmp_path, fake(0), workers=workers) as server:
        seen: list[tuple[float, float]] = []

        def ask(caller: Any, number: int) -> str:
            started = time.monotonic()
            answer = caller.call("POST", "/predict", {"features": [[0, 0, 0, 0]]})
            seen.append((started, answer.json["predictions"][0]))
            return "" if answer.status == 200 else str(answer.status)

        with Load(server.port, ask, clients=4, pause=0.002) as load:
            until(lambda: load.tally.answered > 50, "some load")
            asked = time.monotonic()
            server.configure(fake(1000, load_ms=1500))
            done = server.reload()
            reloaded = time.monotonic()
            until(lambda: time.monotonic() > reloaded + 1.5, "a second and a half of load afterwards")
        load.tally.assert_clean()
        assert done.returncode == 0, done.stderr
        assert "is in force" in done.stdout
        assert any(value == 0 for at, value in seen if asked + 0.5 < at < asked + 1.4), "the old one served meanwhile"
        late = [value for at, value in seen if at > reloaded + 1.0]
        assert late
        assert set(late) == {1000.0}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        pytest.param({"fail_load": True}, "failed to load, as told", id="fails to load"),
        pytest.param({"at_load": True, "fail": True}, "fails on its example row", id="fails its warm-up"),
        pytest.param({"no_such": 1}, "no option 'no_such'", id="wrong option"),
    ],
)
def test_a_failed_load_keeps_the_old_version_and_says_why(
    tmp_path: Path, workers: int, broken: dict[str, Any], reason: str
) -> None:
    with serving(tmp_path, fake(0), workers=workers) as server:
        with Load(server.port, sum_of_row(0.0), clients=2, pause=0.002) as load:
            server.configure(fake(7, **broken))
            done = server.reload()
        load.tally.assert_clean()
        assert done.returncode == 2
        assert reason in done.stderr
        assert "the previous state stays in force" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert version_in_force(server) == "v0"
        assert server.is_ready()
        server.configure(fake(8))
        assert server.reload().returncode == 0
        assert version_in_force(server) == "v8"


def test_a_file_that_cannot_be_read_keeps_the_old_version(tmp_path: Path) -> None:
    with serving(tmp_path, fake(0), workers=2) as server:
        server.config_file.write_text("endpoints: [not: {closed")
        done = server.reload()
        assert done.returncode == 2
        assert "tidegate.yaml" in done.stderr
        assert version_in_force(server) == "v0"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_watched_model_file_is_followed_and_a_broken_one_is_not(tmp_path: Path, workers: int) -> None:
    """mlflow/mlflow#1768: the server follows the model's file by itself."""
    model = write_affine_onnx(tmp_path / "model.onnx", columns=1, scale=1, shift=0)
    config = {"server": {"watch": True}, "endpoints": {"affine": {"model": "model.onnx"}}}
    with serving(tmp_path, config, workers=workers) as server:

        def ask(caller: Any, number: int) -> str:
            answer = caller.call("POST", "/predict", {"inputs": {"x": [[float(number)]]}})
            if answer.status != 200:
                return f"{answer.status} {answer.body[:300]!r}"
            got = answer.json["predictions"] if "predictions" in answer.json else answer.json["outputs"]["y"]
            value = got[0][0] if isinstance(got[0], list) else got[0]
            return "" if value in (number, number + 1.0) else f"{value} for {number}"

        with Load(server.port, ask, clients=2, pause=0.002) as load:
            until(lambda: load.tally.answered > 20, "some load")
            model.write_bytes(b"not a model")
            server.wait_logged("reload failed", seconds=30)
            fresh = write_affine_onnx(tmp_path / "fresh", columns=1, scale=1, shift=1)
            fresh.replace(model)
            body = {"inputs": {"x": [[5.0]]}}
            until(lambda: b"6.0" in server.call("POST", "/predict", body).body, "the new model's answer")
            fresh_version = server.call("POST", "/predict", body).json["model"]["version"]
            server.wait_logged(f"loaded onnx version {fresh_version}", times=workers)
        load.tally.assert_clean(at_least=20)
        answers = {server.call("POST", "/predict", body).json["model"]["version"] for _ in range(10)}
        assert answers == {fresh_version}
