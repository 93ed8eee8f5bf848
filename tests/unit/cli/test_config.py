from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.command import run

TEXT = """\
endpoints:
  iris:
    model: https://me:pass@host/predictions/iris
    options: {api_key: hunter2, threads: 2}
access: {predict_key: hunter2}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tidegate.yaml"
    path.write_text(TEXT)
    return path


def test_show_names_origins_and_masks_secrets(file: Path) -> None:
    result = run("config", "show", str(file), environment={"TIDEGATE_SERVER__PORT": "9000"})
    assert result.exit_code == 0
    assert "hunter2" not in result.stdout
    assert "me:pass" not in result.stdout
    shown = {line.partition(" = ")[0]: line for line in result.stdout.splitlines()}
    assert shown["server.port"].endswith("# environment TIDEGATE_SERVER__PORT")
    assert shown["access.predict_key"].split("#")[0].strip() == 'access.predict_key = "********"'
    assert shown["endpoints.iris.model"].endswith("tidegate.yaml:3")
    assert '"threads": 2' in shown["endpoints.iris.options"]


def test_show_as_json_has_the_same(file: Path) -> None:
    shown = json.loads(run("config", "show", str(file), "--json").stdout)
    assert shown["settings"]["access"] == {
        "predict_key": "********",
        "operate_key": "",
        "keys_required": False,
        "metrics_open": True,
    }
    assert shown["origins"]["access.predict_key"].endswith("tidegate.yaml:5")


def test_show_changed_leaves_out_defaults(file: Path) -> None:
    assert "limits" not in run("config", "show", "--changed", str(file)).stdout


def test_the_file_may_be_named_by_the_environment(file: Path) -> None:
    result = run("config", "show", "--changed", environment={"TIDEGATE_CONFIG": str(file)})
    assert "endpoints.iris.model" in result.stdout


def test_check(file: Path) -> None:
    assert run("config", "check", str(file)).stdout == f"{file}: good; 1 endpoint, profile local\n"
    file.write_text("server: {prot: 1}\nlogs: {level: loud}\n")
    result = run("config", "check", str(file))
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        f'error: {file}:1: server.prot: unknown key; did you mean "port"?',
        f'{file}:2: logs.level: got "loud"; allowed: one of: debug, info, warning, error',
    ]


def test_check_may_leave_the_environment_out(file: Path) -> None:
    environment = {"TIDEGATE_WRONG": "1"}
    assert run("config", "check", str(file), environment=environment).exit_code == 2
    assert run("config", "check", str(file), "--no-environment", environment=environment).exit_code == 0
