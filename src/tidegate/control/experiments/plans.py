"""From an experiment to the plan of its endpoint, and back: pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tidegate.control.experiments.experiment import CONTROL, Experiment
from tidegate.types import EndpointPlan, Exposing, Variant


def _arms(experiment: Experiment, shares: Mapping[str, int]) -> tuple[Variant, ...]:
    arms = [arm.name for arm in experiment.spec.arms]
    return (
        Variant(CONTROL, experiment.models[CONTROL]),
        *(Variant(arm, experiment.models[arm], share=shares.get(arm, 0)) for arm in arms),
    )


def warming(experiment: Experiment) -> EndpointPlan:
    """Every arm loaded, none with a share."""
    return msgspec.structs.replace(experiment.before, variants=_arms(experiment, {}), experiment=None)


def splitting(experiment: Experiment) -> EndpointPlan:
    spec = experiment.spec
    return EndpointPlan(
        spec.endpoint,
        _arms(experiment, {arm.name: arm.buckets for arm in spec.arms}),
        salt=spec.salt or f"experiment:{spec.name}",
        experiment=Exposing(spec.name, spec.layer, *spec.part),
    )


def in_force(experiment: Experiment, plan: EndpointPlan | None) -> bool:
    """Whether the endpoint's newest plan is this experiment's."""
    return plan in (warming(experiment), splitting(experiment))


def plan_without(experiment: Experiment, plan: EndpointPlan | None) -> EndpointPlan | None:
    """What to publish at the end: the plan of before, or, where somebody else changed the plan meanwhile, theirs without
    the arms; None when nothing of the experiment is in it."""
    if in_force(experiment, plan):
        return experiment.before
    if plan is None or plan.experiment is None or plan.experiment.experiment != experiment.name:
        return None
    arms = {arm.name for arm in experiment.spec.arms}
    others = tuple(variant for variant in plan.variants[1:] if variant.name not in arms)
    return msgspec.structs.replace(
        plan, variants=(plan.baseline, *others), salt=experiment.before.salt, experiment=experiment.before.experiment
    )
