"""An experiment: which variants, for whom, what counts as an outcome, and when it ends. Frozen records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tidegate.types import EndpointPlan, ModelRef, Verdict

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]
State = Literal["pending", "running", "stopped", "failed"]

CONTROL = "baseline"
"""The arm that every other one is compared with: what the endpoint serves anyway."""

WHOLE = 10_000
"""Buckets over which units are spread: a hundredth of a percent is the smallest share."""


class Arm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``share`` in percent of the units that take part; the control arm takes the rest."""

    name: Name
    model: str
    share: Annotated[float, Meta(gt=0, lt=100)]

    @property
    def buckets(self) -> int:
        """Of ``WHOLE``: the share as it is served."""
        return round(self.share * WHOLE / 100)


class Metric(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=128)]
    kind: Literal["binary", "numeric"] = "binary"
    better: Literal["higher", "lower"] = "higher"
    missing: Literal["auto", "zero", "ignore"] = "auto"
    """What a unit without an outcome counts as; auto: 0 for binary metrics, nothing for numeric ones."""
    covariate: str = ""
    """A metric sent about the units before the experiment began; takes out variance that was there before (CUPED)."""
    planned: Annotated[int, Meta(ge=10)] = 1000
    """Units at which the interval is narrowest; chosen before the start."""

    @property
    def absent_is_zero(self) -> bool:
        return self.missing == "zero" or (self.missing == "auto" and self.kind == "binary")


class StopRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first that holds ends the experiment; without any it runs until a person ends it."""

    max_seconds: Annotated[float, Meta(gt=0)] | None = None
    max_units: Annotated[int, Meta(ge=1)] | None = None
    when_decided: bool = False
    """End once the first metric is decided for every arm; the intervals stay valid whenever that is."""
    min_units: Annotated[int, Meta(ge=1)] = 100
    """Fewest units per arm before anything counts as decided."""


class Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person asks for."""

    name: Name
    endpoint: str
    arms: Annotated[tuple[Arm, ...], Meta(min_length=1, max_length=9)]
    metrics: Annotated[tuple[Metric, ...], Meta(min_length=1, max_length=10)]
    alpha: Annotated[float, Meta(gt=0, lt=0.5)] = 0.05
    salt: str = ""
    """Decides which unit gets which arm; the experiment's name when empty."""
    layer: str = ""
    """Experiments of one layer with ranges that do not overlap share no unit; different layers are independent."""
    range: tuple[Annotated[float, Meta(ge=0, le=100)], Annotated[float, Meta(ge=0, le=100)]] = (0.0, 100.0)
    """Percent of the layer's units that take part."""
    stop: StopRules = StopRules()

    @property
    def part(self) -> tuple[int, int]:
        """``range`` in buckets, as it is served."""
        start, end = (round(edge * WHOLE / 100) for edge in self.range)
        return start, end


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    spec: Spec
    models: Mapping[str, ModelRef]
    """Arm -> the pinned version that it serves; the control arm included."""
    author: str
    created: float
    state: State = "pending"
    started: float = 0.0
    """When every live instance had the shares in force."""
    ended: float = 0.0
    reason: str = ""
    """Why it was started; once it has ended, why it ended. The audit log has both."""
    waiting: str = ""
    coefficients: Mapping[str, float] = {}
    """Metric -> coefficient of its covariate, from data before the start and fixed since."""
    before: EndpointPlan
    """The endpoint's plan when the experiment began; in force again when it ends."""
    snapshot: int = 0
    warm: bool = False
    """Every arm is loaded everywhere, and the shares are published."""
    revision: int = 0

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def open(self) -> bool:
        return self.state in ("pending", "running")


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """Of one metric in one arm: the mean over units and its interval."""

    metric: str
    arm: str
    units: int
    """Exposed."""
    outcomes: int
    """Units with an outcome."""
    mean: float | None = None
    interval: tuple[float, float] | None = None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One arm against the control arm; the interval holds at any time, with confidence 1 − alpha."""

    metric: str
    arm: str
    outcome: Literal["better", "worse", "undecided", "no_data"]
    reason: str
    difference: float | None = None
    interval: tuple[float, float] | None = None
    lift: float | None = None
    """Difference as a share of the control arm's mean."""
    lift_interval: tuple[float, float] | None = None
    p: float = 1.0
    alpha: float = 0.05
    """After the correction for several arms and metrics."""
    variance_removed: float = 0.0
    """Share of the variance that the covariate explained."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    experiment: str
    time: float
    units: Mapping[str, int]
    estimates: tuple[Estimate, ...]
    comparisons: tuple[Comparison, ...]
    split: Verdict
    """Whether the units are split as configured; when it fails, nothing else here can be believed."""
