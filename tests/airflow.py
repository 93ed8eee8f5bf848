"""A real Airflow for tests, in its own environment: SQLite, no examples, and the DAGs of one folder.

``scripts/setup.py airflow`` makes the environment on first use; test processes that start together wait for one of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
INSTALL_SECONDS = 600.0


def environment_python() -> Path:
    """Of the environment that has Airflow and Tidegate."""
    with FileLock(ROOT / "run" / "airflow-environment.lock"):
        done = subprocess.run(
            [sys.executable, str(ROOT / "scripts" / "setup.py"), "airflow"],
            capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return ROOT / ".venv-airflow" / "bin" / "python"


class Airflow:
    """``folder`` gets Airflow's home; ``dags`` is the folder of the DAGs."""

    def __init__(self, folder: Path, dags: Path, environment: Mapping[str, str] | None = None) -> None:
        (ROOT / "run").mkdir(exist_ok=True)
        self.python = environment_python()
        self.home = folder / "airflow"
        self.home.mkdir(parents=True, exist_ok=True)
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AIRFLOW", "TIDEGATE_", "OTEL_", "MLFLOW_", "PYTEST_"))
        }
        self.environment = {
            **kept,
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home / 'airflow.db'}",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "false",
            "NO_PROXY": "127.0.0.1,localhost",
            **(environment or {}),
        }
        self.run("db", "migrate")

    def run(self, *arguments: str, good: bool = True, seconds: float = 300.0) -> str:
        """Output of an Airflow command; AssertionError when it fails while it should not."""
        done = subprocess.run(
            [str(self.python), "-m", "airflow", *arguments],
            env=self.environment, cwd=self.home, capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip
        output = done.stdout + done.stderr
        assert not good or done.returncode == 0, output[-6000:]
        return output

    def import_errors(self) -> list[dict[str, str]]:
        """Of the DAGs' files."""
        output = self.run("dags", "list-import-errors", "--local", "--output", "json", good=False)
        return msgspec.json.decode(output[output.rindex("\n[") :], type=list[dict[str, str]])

    def test(self, dag: str, *more: str, good: bool = True) -> str:
        """Runs a whole DAG in one process, as ``airflow dags test`` does; its log."""
        return self.run("dags", "test", dag, *more, good=good)
