from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.command import run
from tidegate.cli.doctor import EXTRAS, core_requirements, examine, runs_code
from tidegate.testing.models import write_affine_onnx


def findings(*arguments: str, **environment: str) -> tuple[int, dict[str, dict[str, Any]]]:
    result = run("doctor", "--json", *arguments, environment=environment)
    return result.exit_code, {finding["name"]: finding for finding in json.loads(result.stdout)}


def test_a_good_machine(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"")
    config = tmp_path / "tidegate.yaml"
    config.write_text("endpoints: {iris: {model: m.onnx}}\nserver: {port: 0}\n")
    code, found = findings("--config", str(config))
    assert code == 0
    assert found["model iris"]["state"] == "good"
    assert {"python", "platform", "cores", "[sklearn]"} <= set(found)


def test_what_is_broken_gives_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "m.joblib").write_bytes(b"")
    config = tmp_path / "tidegate.yaml"
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        config.write_text(
            "endpoints: {a: {model: none.onnx}, b: {model: m.joblib}, c: {model: 's3://x'}}\n"
            f"server: {{port: {port}}}\ntracing: {{endpoint: 'http://127.0.0.1:9'}}\n"
        )
        code, found = findings("--config", str(config))
    broken = {name for name, finding in found.items() if finding["state"] == "broken"}
    assert code == 1
    assert broken == {"model a", "model b", "model c", "HTTP port"}
    assert found["traces"]["state"] == "note"
    config.write_text("endpoints: {b: {model: m.joblib}}\nserver: {port: 0}\ntrust: {pickles: [m.joblib]}\n")
    assert findings("--config", str(config))[0] == 0


@pytest.mark.slow
def test_the_store_the_registry_and_the_control_port(tmp_path: Path) -> None:
    config = tmp_path / "tidegate.yaml"
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        text = f"server: {{port: 0}}\ncontrol: {{port: {port}}}\n"
        config.write_text(text)
        _, found = findings("--config", str(config))
        assert (found["store"]["state"], found["control port"]["state"]) == ("note", "note")
        config.write_text(f"{text}store: {{url: 'sqlite:///{(tmp_path / 'store.db').as_posix()}'}}\n")
        code, found = findings("--config", str(config))
    assert (code, found["store"]["state"]) == (0, "note")
    assert "tidegate store migrate" in found["store"]["text"]
    assert not (tmp_path / "store.db").exists(), "a look makes nothing"
    assert run("store", "migrate", "--config", str(config)).exit_code == 0
    model = write_affine_onnx(tmp_path / "m.onnx")
    assert run("model", "register", "m", str(model), "--config", str(config)).exit_code == 0
    code, found = findings("--config", str(config))
    assert (code, found["store"]["state"]) == (0, "good")
    assert found["registry"]["text"].endswith("registry: 1 version")
    assert found["control port"]["state"] == "good"
    config.write_text(f"{text}store: {{url: 'mysql://user:secret@host/x'}}\n")
    code, found = findings("--config", str(config))
    assert (code, found["store"]["state"]) == (1, "broken")
    assert "secret" not in json.dumps(found)


def test_mlflow_is_needed_only_where_it_is_asked(tmp_path: Path) -> None:
    config = tmp_path / "tidegate.yaml"
    config.write_text("endpoints: {iris: {model: 'models:/iris@champion'}}\nserver: {port: 0}\n")
    extras = {**EXTRAS, "mlflow": ("no-such-package", "an MLflow registry")}
    assert "broken" not in {finding.state for finding in examine(config, {}, extras)}
    config.write_text("registry: {uri: 'http://127.0.0.1:9'}\nserver: {port: 0}\n")
    # Told as an extra that could be installed, and then as one that is needed.
    found = {finding.name: finding.state for finding in examine(config, {}, extras)}
    assert (found["[mlflow]"], found["MLflow"]) == ("broken", "note")


def test_a_broken_configuration_is_a_finding(tmp_path: Path) -> None:
    config = tmp_path / "tidegate.yaml"
    config.write_text("server: {prot: 1}")
    code, found = findings("--config", str(config))
    assert code == 1
    assert "did you mean" in found["configuration"]["text"]


def test_core_requirements_leave_out_extras() -> None:
    names = core_requirements()
    assert {"uvicorn", "numpy", "onnxruntime"} <= set(names)
    assert "scikit-learn" not in names


def test_formats_that_run_code(tmp_path: Path) -> None:
    (tmp_path / "model.py").touch()
    (tmp_path / "a.onnx").touch()
    assert runs_code(tmp_path)
    assert not runs_code(tmp_path / "a.onnx")


def test_the_text_names_the_command_that_helps(tmp_path: Path) -> None:
    result = run("doctor", "--config", str(tmp_path / "none.yaml"))
    assert result.exit_code == 1
    assert "none.yaml: no such file" in result.stdout
    assert "tidegate config check" in result.stdout
