"""A worker that runs one job and kills itself at a named instant: ``python -m tests.integration.training.child FOLDER
[registered|stepped]``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tidegate.apps.folders import jobs_folder
from tidegate.apps.training import run_retrain
from tidegate.clock import ManualClock, SystemClock
from tidegate.config import load_settings
from tidegate.control.jobs.claims import Claims
from tidegate.control.jobs.task import Task
from tidegate.control.registry.base import ModelVersion
from tidegate.control.registry.files import FilesRegistry
from tidegate.registry_files import registry_folder
from tidegate.storage.store import open_store

T = TypeVar("T")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Registry(FilesRegistry):
    """The process ends right after a version is there."""

    def register(self, name: str, source: Path | str, **given: Any) -> ModelVersion:
        super().register(name, source, **given)
        die()
        raise AssertionError("unreachable")


class Dying(Task):
    """The process ends right after a step's result is kept."""

    def step(self, name: str, act: Callable[[], T]) -> T:
        super().step(name, act)
        die()
        raise AssertionError("unreachable")


def main(folder: Path, point: str) -> None:
    loaded = load_settings(folder / "tidegate.yaml", environment={})
    settings = loaded.settings
    # Long after whatever another one had claimed.
    clock = ManualClock(SystemClock().wall() + (0.0 if point else 1e9))
    store = open_store(settings.store.url, clock)
    claims = Claims(store, settings.jobs, clock, f"child {point}")
    claim = claims.take(["retrain"])
    assert claim is not None
    kind = Registry if point == "registered" else FilesRegistry
    registry = kind(registry_folder(settings.registry, folder), settings.trust, base=folder)
    made = Dying if point == "stepped" else Task
    task = made(claim, claims, settings, store, registry, clock, jobs_folder(loaded), base=folder)
    result: Mapping[str, Any] = run_retrain(task)
    claims.finish(claim, result)
    store.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
