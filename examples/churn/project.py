"""A working copy of this example: a Git repository with DVC and a remote, in a folder of its own, so that this one stays clean.

FOLDER/churn       what is here, and what the work makes of it
FOLDER/remote      where DVC pushes to
FOLDER/run         the store, the registry and logs
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
MARK = "made-by-churn"
IGNORED = ("run", "data", "__pycache__", ".dvc", "*.pyc")


class ProjectFault(Exception):
    """What a person has to mend."""


class Project:
    """``environment`` is what every command of the project gets."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder.absolute()
        self.home = self.folder / "churn"
        self.run = self.home / "run"
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
            "PYTHONPATH": str(self.folder),
            "DVC_NO_ANALYTICS": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            # Boosting on few rows waits for its own threads longer than it works, where others want the processors too.
            "OMP_NUM_THREADS": "1",
            **(environment or {}),
        }

    def make(self) -> None:
        """Begins anew; only a folder that an earlier call made is emptied."""
        if self.folder.exists() and any(self.folder.iterdir()) and not (self.folder / MARK).exists():
            raise ProjectFault(f"{self.folder} has files that this example did not make; name another folder")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        (self.folder / MARK).write_text("This folder is emptied when the example begins.\n", "utf-8")
        shutil.copytree(HERE, self.home, ignore=shutil.ignore_patterns(*IGNORED))
        self.run.mkdir()
        (self.home / ".gitignore").write_text("__pycache__/\n/run/\n", "utf-8")
        self.command("git", "init", "--quiet")
        self.command("git", "config", "user.name", "churn")
        self.command("git", "config", "user.email", "churn@localhost")
        self.command("dvc", "init", "--quiet")
        self.command("dvc", "config", "core.analytics", "false")
        self.command("dvc", "remote", "add", "--default", "local", str(self.folder / "remote"))
        self.commit("The example")

    def reproduce(self) -> None:
        """Runs the pipeline of dvc.yaml as far as something changed, and keeps the versions of its data."""
        self.command("dvc", "repro", "--quiet")
        self.commit("Data")

    def commit(self, subject: str) -> None:
        self.command("git", "add", "--all")
        self.command("git", "commit", "--quiet", "--allow-empty", "-m", subject)

    def command(self, *words: str, good: bool = True) -> str:
        """What it says; ProjectFault with its last lines when it fails."""
        done = subprocess.run(
            words, cwd=self.home, env=self.environment, capture_output=True, text=True, check=False, timeout=300
        )
        said = done.stdout + done.stderr
        if good and done.returncode != 0:
            lines = "\n".join(said.strip().splitlines()[-12:])
            raise ProjectFault(f"{' '.join(words)} ended with {done.returncode}:\n{lines}")
        return said

    def tidegate(self, *words: str) -> str:
        return self.python("-m", "tidegate", *words)

    def python(self, *words: str) -> str:
        return self.command(sys.executable, *words)
