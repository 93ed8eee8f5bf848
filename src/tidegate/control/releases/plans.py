"""From a release to the plan of its endpoint: pure. One baseline per endpoint, always the first variant."""

from __future__ import annotations

from msgspec.structs import replace

from tidegate.control.releases.events import Change
from tidegate.control.releases.release import Release
from tidegate.types import EndpointPlan, RoutingSnapshot, Variant

BASELINE = "baseline"
CANDIDATE = "candidate"
PREVIOUS = "previous"


def plan_after(plan: EndpointPlan, release: Release, change: Change) -> EndpointPlan:
    """The endpoint's next plan. Shadows that the configuration put there stay."""
    others = tuple(variant for variant in plan.variants[1:] if variant.name not in (BASELINE, CANDIDATE, PREVIOUS))
    baseline = replace(plan.baseline, share=0)
    if change == "split":
        shadow = release.phase == "shadow"
        candidate = Variant(CANDIDATE, release.candidate, 0 if shadow else release.share, shadow)
        return replace(plan, variants=(baseline, candidate, *others))
    if change == "promote":
        kept = (Variant(PREVIOUS, release.baseline),) if release.warm_until else ()
        return replace(plan, variants=(Variant(BASELINE, release.candidate), *kept, *others))
    if change == "return":
        baseline = Variant(BASELINE, release.baseline)
    return replace(plan, variants=(baseline, *others))


def without_previous(plan: EndpointPlan) -> EndpointPlan:
    """Without the old version that was kept warm after a promotion."""
    return replace(plan, variants=tuple(variant for variant in plan.variants if variant.name != PREVIOUS))


def with_plan(snapshot: RoutingSnapshot, plan: EndpointPlan) -> RoutingSnapshot:
    return replace(snapshot, endpoints={**snapshot.endpoints, plan.name: plan})


def splits_already(plan: EndpointPlan) -> str:
    """Variants that take a share of the traffic beside the baseline; empty when there is none."""
    return ", ".join(variant.name for variant in plan.variants[1:] if variant.share > 0)
