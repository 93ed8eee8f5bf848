"""The wheel works where nothing of the repository is."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.integration.pages import Page
from tidegate.testing.models import write_classifier_onnx

ROOT = Path(__file__).resolve().parent.parent.parent

PAGE = """\
```console
$ tidegate --version
tidegate ...
$ tidegate doctor | grep -c '^!!' || true
0
$ tidegate serve model.onnx &
$ printf '[0.1, 0.2, 0.3, 0.4]\\n' | tidegate predict
{"line": 1, "prediction": ...}
```
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    [found] = folder.glob("*.whl")
    return found


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"tidegate"}
    assert "tidegate/py.typed" in names
    assert {f"tidegate/console/{part}" for part in ("templates/layout.html", "static/vendor/htmx.min.js")} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_wheel_serves_from_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True, timeout=120)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", str(wheel)]
    pins = ROOT / "requirements" / "run.txt"
    constraints = tmp_path / "constraints.txt"
    lines = [line.split(" \\")[0] for line in pins.read_text().splitlines() if not line.startswith(" ")]
    constraints.write_text("\n".join(lines) + "\n")
    subprocess.run([*pip, "--constraint", str(constraints)], check=True, timeout=300, cwd=tmp_path)
    write_classifier_onnx(tmp_path / "model.onnx")
    (tmp_path / "page.md").write_text(PAGE)
    page = Page(tmp_path / "page.md", tmp_path)
    page.environment["PATH"] = f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
    page.run()
