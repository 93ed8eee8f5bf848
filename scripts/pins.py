"""Writes requirements/{dev,run,airflow}.txt: every package pinned and hashed, for all supported Pythons (`make pins`)."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
OPTIONS = (
    "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate",
    "--no-emit-index-url", "--no-emit-find-links", "--no-config",
    # 300 MB that xgboost needs for several GPUs only; the files are complete, and are installed with --no-deps.
    "--no-emit-package", "nvidia-nccl-cu12", "--no-emit-package", "nvidia-nccl-cu13",
)  # fmt: skip


def compile_pins(output: str, *inputs: str) -> None:
    command = [sys.executable, "-m", "uv", "pip", "compile", *OPTIONS, *inputs]
    subprocess.run([*command, "--output-file", f"requirements/{output}"], cwd=ROOT, check=True)


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    group = [line for line in project["dependency-groups"]["dev"] if not line.startswith("tidegate[")]
    upgrade = sys.argv[1:]
    with tempfile.NamedTemporaryFile("w", suffix=".in", dir=REQUIREMENTS) as dev:
        dev.write("\n".join([*group, "uv"]) + "\n")
        dev.flush()
        extras = [name for name in project["project"]["optional-dependencies"] if name not in ("all", "airflow")]
        chosen = [word for name in extras for word in ("--extra", name)]
        compile_pins("dev.txt", *chosen, "pyproject.toml", "requirements/build.in", dev.name, *upgrade)
    extras = ["--extra", "sklearn", "--extra", "grpc", "--extra", "control"]
    compile_pins("run.txt", *extras, "pyproject.toml", "requirements/build.in", "-c", "requirements/dev.txt", *upgrade)
    # Airflow pins much of what it needs itself, and so gets an environment of its own.
    compile_pins("airflow.txt", "--extra", "airflow", "pyproject.toml", "requirements/build.in", *upgrade)


if __name__ == "__main__":
    main()
