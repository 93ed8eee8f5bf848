"""MLflow: a run for each training, with parameters, metrics, the report and the model. The same files stay in a folder where
there is no MLflow."""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tidegate import settings
from tidegate.control.registry.mlflow import translated
from tidegate.control.training.result import Trained
from tidegate.errors import ConfigError, MissingExtra
from tidegate.registry_files import is_mlflow, tell_mlflow
from tidegate.types import Signature

KEY = "tidegate.training"
_LONGEST = 5000


class Tracking:
    """Knows whether there is an MLflow, and connects with the first run."""

    def __init__(self, registry: settings.Registry) -> None:
        self._registry = registry
        self.there = is_mlflow(registry)

    def record(
        self,
        trained: Trained,
        pipeline: Any,
        signature: Signature,
        example: Any,
        folder: Path,
        experiment: str,
        key: str,
    ) -> str:
        """The run's id; empty without MLflow. A second call with one key finds the first one's run. Raises RegistryAway."""
        if not self.there:
            return ""
        with translated("the run of the training", "MLflow"), _quiet():
            client = self._client()
            number = _experiment(client, experiment)
            found = client.search_runs(
                [number], filter_string=f"tags.`{KEY}` = '{key}' and attributes.status = 'FINISHED'"
            )
            if found:
                return str(found[0].info.run_id)
            run: str = client.create_run(
                number, run_name=f"{trained.best.family} {key}", tags=_tags(trained, key)
            ).info.run_id
            for name, value in _parameters(trained).items():
                client.log_param(run, name, value)
            for name, figure in _metrics(trained).items():
                client.log_metric(run, name, figure)
            client.log_artifacts(run, str(folder))
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".mlflow-") as aside:
                client.log_artifacts(run, str(_model(pipeline, signature, example, folder, Path(aside))), "model")
            client.set_terminated(run)
            return run

    def _client(self) -> Any:
        tell_mlflow(self._registry)
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise MissingExtra("mlflow", "runs in MLflow") from error
        import os

        address = self._registry.uri or os.environ.get("MLFLOW_TRACKING_URI", "")
        if not address:
            raise ConfigError("registry.kind is mlflow: say where it is, with registry.uri or MLFLOW_TRACKING_URI")
        return MlflowClient(tracking_uri=address)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """MLflow warns about itself, and of the format that serving opens only where trust.pickles says so."""
    about_pickles = logging.getLogger("mlflow.sklearn")
    level = about_pickles.level
    about_pickles.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        about_pickles.setLevel(level)


def _experiment(client: Any, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except Exception as error:
            found = client.get_experiment_by_name(name)  # another one was first
            if found is None:
                raise error from None
    return str(found.experiment_id)


def _tags(trained: Trained, key: str) -> dict[str, str]:
    tags = {
        KEY: key,
        "tidegate.gate": "accepted" if trained.accepted else "refused",
        "tidegate.reason": trained.gate.reason,
        "data.digest": trained.data_digest,
        "config.digest": trained.config_digest,
        "model.digest": trained.model_digest,
        "code.version": trained.environment.code,
        "tidegate.compiled": trained.compile_note,
    }
    for origin in trained.origins:
        tags |= {f"data.{origin.kind}": origin.place, f"data.{origin.kind}.revision": origin.revision}
        tags |= {f"data.{origin.kind}.md5": origin.md5}
    return {name: value[:_LONGEST] for name, value in tags.items() if value}


def _parameters(trained: Trained) -> dict[str, str]:
    counts = {f"rows.{name}": getattr(trained.rows, name) for name in trained.rows.__struct_fields__}
    packages = {f"package.{name}": version for name, version in trained.environment.packages.items()}
    own: Mapping[str, Any] = {
        "family": trained.best.family,
        "target": trained.target,
        "features": ", ".join(trained.features)[:_LONGEST],
        "seed": trained.environment.seed,
        "python": trained.environment.python,
        **trained.best.parameters,
        **counts,
        **packages,
    }
    return {name: str(value) for name, value in own.items()}


def _metrics(trained: Trained) -> dict[str, float]:
    found = {f"holdout.{name}": metric.value for name, metric in trained.metrics.items()}
    if trained.best.mean is not None:
        found["cross_validation.mean"] = trained.best.mean
        found["cross_validation.spread"] = trained.best.spread or 0.0
    gate = trained.gate
    for name in ("challenger", "champion", "difference", "low", "high", "p"):
        value = getattr(gate, name)
        if value is not None and np.isfinite(value):
            found[f"gate.{name}"] = value
    return found


def _model(pipeline: Any, signature: Signature, example: Any, folder: Path, aside: Path) -> Path:
    """The same pipeline as an MLflow folder, which MLflow and Tidegate both serve; it is made in ``aside``."""
    import mlflow.sklearn
    from mlflow.models import infer_signature

    target = aside / "model"
    versions = json.loads((folder / "report.json").read_text("utf-8"))["environment"]["packages"]
    needed = [f"{name}=={versions[name]}" for name in ("scikit-learn", "numpy", "pandas") if name in versions]
    mlflow.sklearn.save_model(
        pipeline,
        str(target),
        signature=infer_signature(example, pipeline.predict(example)),
        serialization_format="cloudpickle",
        pip_requirements=needed,
    )
    return target
