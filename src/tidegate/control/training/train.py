"""From data to a registered challenger. READ FIRST: ``train`` names every step, in order.

Nothing here knows whether a person or a job asked for it: what a training needs from outside is in ``Parts``.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tidegate.control.monitoring.performance import measure
from tidegate.control.monitoring.profiles import encode, make_profile
from tidegate.control.monitoring.records import Metric
from tidegate.control.registry.base import ModelVersion, Registry
from tidegate.control.training import fit, plots, report, rows, sources
from tidegate.control.training.champion import HELD_SINCE, compared
from tidegate.control.training.config import TrainingConfig
from tidegate.control.training.environment import environment
from tidegate.control.training.features import refuse_names
from tidegate.control.training.fit import Chosen, Telling, answers_of, choose, classes_of
from tidegate.control.training.production import Production, joined
from tidegate.control.training.result import Rows, Trained
from tidegate.control.training.scores import METRICS, Answers
from tidegate.control.training.serving import Inspected, Opening, inspect
from tidegate.control.training.split import Halves, split
from tidegate.control.training.tracking import Tracking
from tidegate.errors import NotFound, UserError
from tidegate.registry_files import fingerprint
from tidegate.types import ModelRef

if TYPE_CHECKING:
    import pandas

logger = logging.getLogger("tidegate.training")

KEY = "training"
"""Metadata of a version: which training made it, so that a repeated one finds it again."""
PHASES = 9


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """``base``: what the configuration's paths start from. ``folder``: where the files of this training go. ``opening``
    loads a registered model as a server does. ``tell`` hears how far it is, and may raise to end it; ``before_version`` may
    too, right before a version is registered."""

    registry: Registry
    tracking: Tracking
    opening: Opening
    base: Path
    folder: Path
    tell: Telling = lambda done, total, text: None
    before_version: Callable[[], None] = lambda: None


def train(
    config: TrainingConfig,
    parts: Parts,
    *,
    key: str,
    champion: ModelRef | None,
    production: Production | None = None,
    register: bool = True,
) -> Trained:
    """Raises UserError for data or a configuration that cannot be trained with. ``key`` names this training: with one key
    there is one version, however often it is begun again."""
    began = time.monotonic()
    parts.folder.mkdir(parents=True, exist_ok=True)

    parts.tell(0, PHASES, "reading the data")
    frame, origin = sources.read(config.data, parts.base)

    parts.tell(1, PHASES, "checking the rows")
    checked = rows.check(frame, config)
    report.write_rejected(checked.rejected, parts.folder)
    texts = [name for name in checked.features if checked.types[name] == "category" and name not in config.schema]
    refuse_names(checked.frame, texts)

    parts.tell(2, PHASES, "holding rows out")
    halves = split(checked.frame, checked.features, config)
    counts = _counts(checked, halves)
    if production is not None:
        halves, counts, checked = joined(halves, counts, production, checked, config)

    classes = classes_of(concat(halves.train, halves.test)[config.target]) if config.task == "classification" else []
    chosen = choose(halves.train, checked, classes, config, lambda done, total, text: parts.tell(3, PHASES, text))

    parts.tell(4, PHASES, f"measuring on {len(halves.test):,} rows")
    answers = answers_of(chosen.pipeline, halves.test, checked.features, classes, config)
    measured = metrics_of(answers, config)
    if not math.isfinite(METRICS[config.metric](answers)):
        raise UserError(f"gate.metric: {config.metric} is not defined on the {len(halves.test):,} rows held out")
    importance = plots.importances(chosen.pipeline, halves.test, checked.features, classes, config)

    parts.tell(5, PHASES, "comparing with the champion")
    gate = compared(answers, halves.test, checked, classes, config, parts.opening, champion)

    parts.tell(6, PHASES, "loading it as a server does")
    model = _saved(chosen, parts.folder)
    found = inspect(model)

    trained = Trained(
        name=config.name,
        task=config.task,
        target=config.target,
        features=checked.features,
        classes=answers.classes,
        best=chosen.best,
        tried=chosen.tried,
        scoring=config.scoring,
        rows=counts,
        origins=(origin,),
        data_digest=sources.digest(concat(halves.train, halves.test)),
        config_digest=digest_of(config),
        environment=environment(parts.base, config.seed),
        metrics=measured,
        gate=gate,
        compiled=found.compiled,
        compile_note=found.note,
        model_digest=fingerprint(model)[0],
        held_since=halves.since if counts.production else 0.0,
        folder=str(parts.folder),
        seconds=time.monotonic() - began,
    )

    parts.tell(7, PHASES, "writing the report")
    pictures = plots.draw(answers, importance, parts.folder)
    if production is None:  # else the rows held out are the newest, and what production is to be compared with
        seen, said = concat(halves.test, chosen.unseen), fit.joined([answers, chosen.answers])
    else:
        seen, said = halves.test, answers
    profile = _profile(seen, said, checked, found, config, parts.folder)
    report.write(trained, pictures, parts.folder)
    example = halves.train[list(checked.features)].iloc[:5]
    run = parts.tracking.record(
        trained, chosen.pipeline, found.signature, example, parts.folder, experiment_of(config), key
    )
    trained = msgspec.structs.replace(trained, run_id=run)

    if gate.accepted and register:
        parts.tell(8, PHASES, "registering it")
        parts.before_version()
        source = f"runs:/{run}/model" if run else str(model)
        trained = _registered(trained, found, source, profile, key, champion is None, config, parts.registry)
    report.write(trained, pictures, parts.folder)
    parts.tell(PHASES, PHASES, report.verdict(trained))
    return trained


def version_of(registry: Registry, name: str, key: str) -> ModelVersion | None:
    """The version that this training has registered already."""
    try:
        there = registry.versions(name)
    except NotFound:
        return None
    return next((version for version in there if version.metadata.get(KEY) == key), None)


def experiment_of(config: TrainingConfig) -> str:
    """MLflow's own name for it counts where the configuration says nothing."""
    return config.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME", "").strip() or config.name


def digest_of(config: TrainingConfig) -> str:
    return f"sha256:{hashlib.sha256(msgspec.json.encode(config, order='deterministic')).hexdigest()}"


def metrics_of(answers: Answers, config: TrainingConfig) -> Mapping[str, Metric]:
    """With intervals, as monitoring measures production; and the gate's own where that has another."""
    if config.task == "regression":
        found = dict(measure(answers.truth.tolist(), answers.predicted.tolist(), task="regression"))
    else:
        names = answers.classes
        found = dict(
            measure(
                [names[place] for place in answers.truth],
                [names[place] for place in answers.predicted],
                answers.scores,
                names,
                "classification",
                names[answers.positive] if answers.positive >= 0 else "",
            )
        )
    if config.metric not in found:
        value = METRICS[config.metric](answers)
        found[config.metric] = Metric(value, value, value)
    return {name: Metric(*(float(value) for value in (one.value, one.low, one.high))) for name, one in found.items()}


def _counts(checked: rows.Checked, halves: Halves) -> Rows:
    return Rows(
        read=checked.read,
        rejected=len({one.row for one in checked.rejected}),
        duplicates=checked.duplicates,
        excluded=halves.excluded,
        train=len(halves.train),
        test=len(halves.test),
    )


def concat(*tables: pandas.DataFrame) -> pandas.DataFrame:
    import pandas

    return pandas.concat(tables)


def _saved(chosen: Chosen, folder: Path) -> Path:
    import joblib

    file = folder / "model.joblib"
    joblib.dump(chosen.pipeline, file)
    return file


def _profile(
    test: pandas.DataFrame,
    answers: Answers,
    checked: rows.Checked,
    found: Inspected,
    config: TrainingConfig,
    folder: Path,
) -> Path:
    """Of rows that whoever answered had not seen: so the scores are like those of production."""
    table: dict[str, Any] = {name: test[name].tolist() if test[name].dtype == object else test[name].to_numpy()
                             for name in checked.features}  # fmt: skip
    if answers.classes:
        table["prediction"] = [answers.classes[place] for place in answers.predicted]
    else:
        table["prediction"] = answers.predicted
    if answers.scores is not None:
        table["score"] = answers.scores.max(axis=1)
    kinds = {name: "category" for name in checked.features if checked.types[name] == "category"}
    kinds |= {name: str(kind) for name, kind in config.profile.kinds.items()}
    signature = found.signature
    names = {signature.inputs[0].name: checked.features} if signature.is_matrix else {}
    file = folder / "profile.json"
    made = make_profile(table, kinds=kinds, names=names, sample=config.profile.sample, seed=config.seed)
    file.write_bytes(encode(made))
    return file


def _registered(
    trained: Trained,
    found: Inspected,
    source: str,
    profile: Path,
    key: str,
    first: bool,
    config: TrainingConfig,
    registry: Registry,
) -> Trained:
    """One version for one key, also when the process was killed right after it was registered."""
    aliases = [name for name in (config.alias, config.first_alias if first else "") if name]
    version = version_of(registry, config.name, key)
    if version is None:
        version = registry.register(
            config.name,
            source,
            metadata=metadata_of(trained, key),
            aliases=aliases,
            profile=profile,
            signature=found.signature,
        )
    else:
        for alias in aliases:
            registry.set_alias(config.name, alias, version.version)
    return msgspec.structs.replace(trained, version=version.version, uri=f"models:/{config.name}/{version.version}")


def metadata_of(trained: Trained, key: str) -> dict[str, str]:
    """What the registry keeps beside a version: monitoring takes ``metrics`` as the reference of its quality."""

    def text(value: Any) -> str:
        return msgspec.json.encode(value).decode()

    found = {
        KEY: key,
        "task": trained.task,
        "target": trained.target,
        "family": trained.best.family,
        "metrics": text(dict(trained.metrics)),
        "gate": text(trained.gate),
        "rows": text(trained.rows),
        "origins": text(trained.origins),
        "data_digest": trained.data_digest,
        "config_digest": trained.config_digest,
        "model_digest": trained.model_digest,
        "compiled": text(trained.compiled),
        "compile_note": trained.compile_note[:500],
        "code_version": trained.environment.code,
        "run_id": trained.run_id,
        HELD_SINCE: str(trained.held_since or ""),
    }
    return {name: value for name, value in found.items() if value}
