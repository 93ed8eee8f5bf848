"""A folder with a configuration, a table and a registry, where trainings run as they do for users."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import yaml

from tests.unit.control.training.tables import CHURN, churn
from tidegate.apps.task import make_task
from tidegate.apps.training import parts_of, read_config
from tidegate.clock import SystemClock
from tidegate.config import Loaded, load_settings
from tidegate.control.jobs.claims import Claims
from tidegate.control.jobs.handlers import HANDLERS
from tidegate.control.jobs.job import Job
from tidegate.control.jobs.perform import perform
from tidegate.control.jobs.queue import Queue
from tidegate.control.registry.base import open_registry
from tidegate.control.training.champion import champion_of
from tidegate.control.training.result import Trained
from tidegate.control.training.train import train
from tidegate.storage.store import Store, open_store

RETRAIN = {"config": "train.yaml", "mode": "combined", "min_labels": 10}


class Place:
    """``settings`` adds to tidegate.yaml."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        endpoint = {"model": "models:/churn@champion", "monitor": {"retrain": RETRAIN}}
        written = {"store": {"url": "sqlite:///store.db"}, "endpoints": {"churn": endpoint}, **settings}
        self.configuration = folder / "tidegate.yaml"
        self.configuration.write_text(yaml.safe_dump(written))
        self.write(churn(400))
        self.describe()

    @property
    def loaded(self) -> Loaded:
        return load_settings(self.configuration, environment={})

    def write(self, frame: pandas.DataFrame) -> None:
        frame.to_csv(self.folder / "churn.csv", index=False)

    def describe(self, **changes: Any) -> None:
        """train.yaml, with what differs."""
        text = yaml.safe_dump({name: value for name, value in {**CHURN, **changes}.items() if value is not None})
        (self.folder / "train.yaml").write_text(text)

    def train(self, key: str = "t-1", **more: Any) -> Trained:
        loaded, file = self.loaded, self.folder / "train.yaml"
        registry = open_registry(loaded.settings.registry, loaded.settings.trust, base=loaded.base)
        parts = parts_of(loaded, registry, file, self.folder / "run" / key)
        given = {"champion": champion_of(registry, "churn"), **more}
        return train(read_config(file), parts, key=key, **given)

    def store(self) -> Store:
        return open_store(self.loaded.settings.store.url, SystemClock(), migrate=True)

    def run_job(self, store: Store, holder: str = "w", when: Callable[[int], None] = lambda done: None) -> Job:
        """The oldest job that waits, as the process of a worker runs it. ``when`` hears how far it is."""
        loaded, clock = self.loaded, SystemClock()
        claims = Claims(store, loaded.settings.jobs, clock, holder)
        claim = claims.take(["train", "retrain"])
        assert claim is not None, "a job waits"
        task = make_task(loaded, claim, claims, store)
        progress = task.progress

        def told(done: int = 0, total: int = 0, text: str = "") -> None:
            progress(done, total, text)
            when(done)

        task.progress = told  # type: ignore[method-assign]
        perform(task, claim, claims, HANDLERS[claim.job.kind])
        return Queue(store, loaded.settings.jobs, clock).get(claim.job.id)
