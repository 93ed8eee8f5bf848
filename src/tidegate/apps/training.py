"""Trainings as the command line and the workers run them: a configuration is read, and models are loaded as a server loads
them, which the control plane's own code may not do."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tidegate.config import Loaded, load_section
from tidegate.control.registry.base import Registry
from tidegate.control.training.champion import champion_of, unseen_by
from tidegate.control.training.config import TrainingConfig, broken_rules
from tidegate.control.training.production import Production, labelled
from tidegate.control.training.retraining import Outcome, outcome_of, outcome_of_version
from tidegate.control.training.serving import Opening
from tidegate.control.training.tracking import Tracking
from tidegate.control.training.train import Parts, train, version_of
from tidegate.errors import InvalidInput, NotFound, UserError
from tidegate.monitor_plan import MonitorPlan
from tidegate.settings import Settings
from tidegate.types import ModelRef, Tensors

if TYPE_CHECKING:
    from tidegate.control.jobs.task import Task

logger = logging.getLogger("tidegate.training")

FOLDER = Path("run") / "training"


class Opened(msgspec.Struct, frozen=True):
    predict: Any
    signature: Any


def read_config(path: Path) -> TrainingConfig:
    """Raises ConfigError: one line for each mistake, with its place."""
    return load_section(path, TrainingConfig, broken_rules)


def opening(settings: Settings, base: Path) -> Opening:
    """Loads a version as a serving process of this configuration does."""

    def load(ref: ModelRef) -> Opened:
        from tidegate.serving.runtimes.load import load_model, settle
        from tidegate.serving.snapshots.file import placed, trusted

        found = load_model(placed(ref, settings, base), trusted(settings, base))

        def predict(inputs: Tensors) -> Tensors:
            return settle(found.runtime.predict(inputs))

        return Opened(predict, found.signature)

    return load


def parts_of(loaded: Loaded, registry: Registry, config: Path, folder: Path, **more: Any) -> Parts:
    settings = loaded.settings
    return Parts(
        registry=registry,
        tracking=Tracking(settings.registry),
        opening=opening(settings, loaded.base),
        base=config.absolute().parent,
        folder=folder,
        **more,
    )


def run_train(task: Task) -> Mapping[str, Any]:
    """A job of kind ``train``: ``config``, and ``register`` (true unless it says false)."""
    path = _config_of(task)
    return _trained(task, path, read_config(path), task.job.id, production=False)


def run_retrain(task: Task) -> Mapping[str, Any]:
    """A job of kind ``retrain``: ``retraining``, ``endpoint``, ``mode``, ``config``."""
    path = _config_of(task)
    key = str(task.payload.get("retraining") or task.job.id)
    with task.store.read() as unit:
        row = unit.retrainings.get(key)
    if row is not None and not row.open:  # somebody tries its job again: nobody would follow what comes of it
        raise UserError(f"retraining {key} is {row.state} already; start another one: tidegate retrain {row.endpoint}")
    return _trained(task, path, read_config(path), key, production=task.payload.get("mode") == "combined")


def _trained(task: Task, path: Path, config: TrainingConfig, key: str, *, production: bool) -> Mapping[str, Any]:
    """The outcome, once for all tries. Killed after it registered a version and before that was written down, the next try
    finds the version by its key."""

    def act() -> Mapping[str, Any]:
        plain: dict[str, Any] = msgspec.to_builtins(found())
        return plain

    def found() -> Outcome:
        version = version_of(task.registry, config.name, key)
        if version is not None:
            task.registry.set_alias(config.name, config.alias, version.version)
            return outcome_of_version(version)
        endpoint = str(task.payload.get("endpoint") or config.endpoint)
        parts = Parts(
            registry=task.registry,
            tracking=Tracking(task.settings.registry),
            opening=opening(task.settings, task.base),
            base=path.parent,
            folder=task.folder / "training",
            tell=task.progress,
            before_version=task.must_go_on,
        )
        champion = _serving(task, endpoint) or champion_of(task.registry, config.name)
        trained = train(
            config,
            parts,
            key=key,
            champion=champion,
            production=_production(task, endpoint, config, champion) if production else None,
            register=task.payload.get("register", True) is not False,
        )
        return outcome_of(trained)

    return task.step("trained", act)


def _config_of(task: Task) -> Path:
    named = task.payload.get("config")
    if not isinstance(named, str) or not named:
        raise InvalidInput("the job names no training configuration", ("payload", "config"))
    path = (task.base / Path(named).expanduser()).resolve()
    if not path.is_file():
        raise UserError(f"training configuration {named}: no such file; a worker looks for it beside tidegate.yaml")
    return path


def _serving(task: Task, endpoint: str) -> ModelRef | None:
    """What the endpoint serves now: the one to be as good as, whatever its aliases say."""
    if not endpoint:
        return None
    with task.store.read() as unit:
        newest = unit.snapshots.latest()
    plan = None if newest is None else newest.snapshot.endpoints.get(endpoint)
    return None if plan is None else plan.baseline.model


def _production(task: Task, endpoint: str, config: TrainingConfig, champion: ModelRef | None) -> Production:
    known = task.settings.endpoints.get(endpoint)
    plan = (known.monitor if known is not None else None) or MonitorPlan()
    task.progress(0, 0, "reading the labelled rows of production")
    names = _column_names(task, endpoint)
    found = labelled(task.store, endpoint, plan.performance.metric, config.target, names, 0.0, task.clock.wall())
    return msgspec.structs.replace(found, unseen=unseen_by(task.registry, champion))


def _column_names(task: Task, endpoint: str) -> Mapping[str, tuple[str, ...]]:
    """Names of the columns of matrices, as the registry knows them of the version that serves."""
    ref = _serving(task, endpoint)
    if ref is None or not ref.name:
        return {}
    try:
        signature = task.registry.get(ref.name, ref.version).signature
    except NotFound:
        return {}
    return {} if signature is None else {spec.name: spec.columns for spec in signature.inputs if spec.columns}
