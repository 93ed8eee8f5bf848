"""What a training gave: all that it takes to trust it, to find it again, and to do it again. Frozen records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from tidegate.control.monitoring.records import Metric
from tidegate.control.training.fit import Tried
from tidegate.control.training.gate import Comparison
from tidegate.control.training.sources import Origin


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows went where."""

    read: int
    rejected: int = 0
    duplicates: int = 0
    excluded: int = 0
    """Neither trained on nor held out: their unit is held out."""
    train: int = 0
    test: int = 0
    production: int = 0
    """Labelled rows of production among what was read."""
    production_train: int = 0
    production_test: int = 0
    without_label: int = 0
    """Production rows that were left out since nobody has sent the truth about them."""


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    python: str
    platform: str
    packages: Mapping[str, str]
    code: str = ""
    """Git commit of the folder that the configuration is in; with + for changes that are not committed."""
    seed: int = 0


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    task: Literal["classification", "regression"]
    target: str
    features: tuple[str, ...]
    classes: tuple[str, ...] = ()
    best: Tried
    tried: tuple[Tried, ...]
    scoring: str = ""
    """Metric by which the best was chosen."""
    rows: Rows
    origins: tuple[Origin, ...]
    data_digest: str
    config_digest: str
    environment: Environment
    metrics: Mapping[str, Metric]
    """On the hold-out, each with its 95 % interval."""
    gate: Comparison
    compiled: bool = False
    compile_note: str = ""
    model_digest: str = ""
    version: str = ""
    """In the registry; empty where it was refused, or not to be registered."""
    uri: str = ""
    run_id: str = ""
    """MLflow's run, where there is an MLflow."""
    held_since: float = 0.0
    """Production from then on was held out; 0 where there was none."""
    folder: str = ""
    """Where its files are, on the machine that trained."""
    seconds: float = 0.0

    @property
    def accepted(self) -> bool:
        return self.gate.accepted
