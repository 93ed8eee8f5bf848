"""What pyproject.toml, the pins and the set-up promise."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_the_core_has_few_dependencies_with_lower_bounds_only(project: Any) -> None:
    """kserve/kserve#3730, #2641, #2277, bentoml/BentoML#4292: pins block co-installation."""
    core = project["dependencies"]
    assert len(core) <= 16
    lines = core + [line for extra in project["optional-dependencies"].values() for line in extra]
    lines.remove("pandas>=2.2,<3")  # Evidently 0.7 breaks with pandas 3; whoever makes no reports may have it
    for line in lines:
        requirement = line.split(";")[0].strip()
        assert re.fullmatch(r"[a-z0-9-]+(\[[a-z,]+\])?(>=[0-9.]+)?", requirement, re.IGNORECASE), line


def test_the_core_leaves_out_what_only_some_need(project: Any) -> None:
    names = {re.split(r"[>=;\[ ]", line)[0] for line in project["dependencies"]}
    assert not names & {"fastapi", "pydantic", "scikit-learn", "pandas", "mlflow", "grpcio", "torch", "structlog"}


def test_everything_but_the_boosters_is_in_all(project: Any) -> None:
    extras = project["optional-dependencies"]
    [everything] = extras["all"]
    assert set(re.findall(r"[a-z]+", everything.split("[")[1])) == set(extras) - {"all", "boosting", "store", "airflow"}
    assert "tidegate[store]" in extras["control"]


@pytest.mark.parametrize("name", ["run", "dev", "airflow"])
def test_pins_are_hashed_and_name_no_place(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
    pins = re.split(r"\n(?=\S)", text.strip())
    assert len(pins) > 40
    for pin in pins:
        assert re.match(r"[a-z0-9._-]+==[^\s;]+", pin), pin
        assert "--hash=sha256:" in pin, pin
    assert "://" not in text
    assert "--index" not in text
    assert "#" not in text


def test_the_pins_of_run_are_those_of_dev() -> None:
    def pins(name: str) -> set[str]:
        return set(
            re.findall(r"^[a-z0-9._-]+==\S+", (ROOT / "requirements" / f"{name}.txt").read_text("utf-8"), re.MULTILINE)
        )

    assert pins("run") <= pins("dev")


def test_every_core_dependency_is_pinned(project: Any) -> None:
    text = (ROOT / "requirements" / "run.txt").read_text("utf-8")
    for line in project["dependencies"] + project["optional-dependencies"]["sklearn"]:
        name = re.split(r"[>=;\[ ]", line)[0]
        assert re.search(rf"^{name}==", text, re.MULTILINE), name


def set_up(*arguments: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *python, str(ROOT / "scripts" / "setup.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_set_up_does_nothing_when_the_pins_are_installed(tmp_path: Path) -> None:
    import hashlib

    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").symlink_to(sys.executable)
    digest = hashlib.sha256()
    for name in ("requirements/dev.txt", "pyproject.toml"):
        digest.update((ROOT / name).read_bytes())
    (tmp_path / ".venv" / "tidegate-installed.json").write_text(json.dumps({"dev": digest.hexdigest()}))
    for what in ("dev", "run"):
        result = set_up(what, "--venv", str(tmp_path / ".venv"))
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_set_up_says_what_debian_leaves_out(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as util\nfind = util.find_spec\n"
        "util.find_spec = lambda name, package=None: None if name == 'ensurepip' else find(name, package)\n"
    )
    command = [sys.executable, str(ROOT / "scripts" / "setup.py"), "run", "--venv", str(tmp_path / ".venv")]
    result = subprocess.run(
        command, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 2
    assert re.search(r"lacks the module ensurepip.*apt-get install python3\.\d+-venv", result.stderr)
    assert len(result.stderr.splitlines()) == 1


def test_make_help_lists_the_targets() -> None:
    result = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    listed = {line.split()[0] for line in result.stdout.splitlines()}
    assert {"run", "install", "test", "test-fast", "lint", "bench", "bench-peers", "fuzz", "pins", "clean"} <= listed


def test_make_says_when_there_is_no_python() -> None:
    command = ["make", "install", "PYTHON=/nowhere/python3", "VENV=nowhere"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert "error: no /nowhere/python3 here; Tidegate needs Python 3.11 or newer" in result.stderr
