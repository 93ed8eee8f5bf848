"""Who answers for one endpoint, and what each of its variants is compared with; remembered for one look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tidegate.control.monitoring.folding import Reference
from tidegate.control.monitoring.measuring import trained_metrics
from tidegate.control.monitoring.raising import Watch
from tidegate.control.monitoring.references import References, model_of
from tidegate.control.monitoring.state import Compared, WindowKey
from tidegate.monitor_plan import MonitorPlan
from tidegate.observations import PredictionEvent
from tidegate.settings import EndpointSettings
from tidegate.storage.store import Unit
from tidegate.types import EndpointPlan, ModelRef

MOST_SNAPSHOTS = 64


class Served:
    """``published`` is the endpoint's part of the newest snapshot, and ``models`` are those of its variants. Events may be of
    older snapshots: ``know`` reads them, then ``is_shadow`` and ``reference`` answer."""

    def __init__(
        self,
        references: References,
        name: str,
        endpoint: EndpointSettings,
        plan: MonitorPlan,
        published: EndpointPlan | None,
    ) -> None:
        self.models = _models(published)
        self._references = references
        self._name = name
        self._endpoint = endpoint
        self._plan = plan
        self._shadows: dict[int, Mapping[str, bool]] = {}
        self._models: dict[int, Mapping[str, ModelRef]] = {}
        self._found: dict[tuple[str, str], Reference | str] = {}

    def know(self, unit: Unit, snapshots: set[int]) -> None:
        """By their numbers."""
        for number in snapshots - set(self._models):
            published = unit.snapshots.get(number)
            plan = None if published is None else published.snapshot.endpoints.get(self._name)
            if len(self._models) >= MOST_SNAPSHOTS:
                self._models.clear()
            self._models[number] = _models(plan)
            self._shadows[number] = {} if plan is None else {one.name: one.shadow for one in plan.variants}

    def is_shadow(self, event: PredictionEvent) -> bool:
        configured = self._endpoint.variants.get(event.variant)
        known = self._shadows.get(event.snapshot, {})
        return known.get(event.variant, configured is not None and configured.shadow)

    def reference(self, event: PredictionEvent) -> Reference | None:
        model = self._models.get(event.snapshot, {}).get(event.variant)
        if model is None or model.version != event.version:
            model = model_of(self._endpoint, event.variant, event.version)
        found = self._find(event.variant, event.version, model)
        return found if isinstance(found, Reference) else None

    def reference_of(self, window: WindowKey) -> Reference | None:
        """None where the window's baseline is not the variant's any more: its bins are gone."""
        current = self._found.get((window.variant, window.version))
        if not isinstance(current, Reference):
            return self._references.by_digest(window.baseline)
        return current if current.digest == window.baseline else None

    def compared(self, before: Sequence[Compared]) -> tuple[Compared, ...]:
        """What each variant that is served is compared with, and its newest report as it was ``before``."""
        reports = {(one.variant, one.version): one.report for one in before}
        rows = []
        for variant, model in self.models.items():
            found = self._find(variant, model.version, model)
            report = reports.get((variant, model.version), "")
            if isinstance(found, Reference):
                rows.append(Compared(variant, model.version, found.name, found.digest, report=report))
            else:
                rows.append(Compared(variant, model.version, note=found, report=report))
        return tuple(rows)

    def watch(self, compared: Sequence[Compared]) -> Watch:
        versions = {variant: model.version for variant, model in self.models.items()}
        return Watch(self._plan, versions, {one.variant: one.note for one in compared if one.note})

    def trained(self) -> dict[str, dict[str, float]]:
        """What the trainings measured, by version and metric."""
        found = {model.version: self._references.version(model) for model in self.models.values()}
        return {number: {} if one is None else trained_metrics(one.metadata) for number, one in found.items()}

    def _find(self, variant: str, version: str, model: ModelRef | None) -> Reference | str:
        """Or in a sentence why there is none."""
        key = variant, version
        if key not in self._found:
            self._found[key] = self._references.find(self._name, self._plan.reference, model)
        return self._found[key]


def _models(plan: EndpointPlan | None) -> dict[str, ModelRef]:
    return {} if plan is None else {variant.name: variant.model for variant in plan.variants}
