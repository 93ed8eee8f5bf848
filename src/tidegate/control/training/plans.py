"""Which endpoints are trained anew, by the settings: pure."""

from __future__ import annotations

from tidegate.errors import NotFound
from tidegate.monitor_plan import MonitorPlan, RetrainPlan
from tidegate.settings import Settings


def plans_of(settings: Settings) -> dict[str, RetrainPlan]:
    return {
        name: endpoint.monitor.retrain
        for name, endpoint in settings.endpoints.items()
        if endpoint.monitor is not None and endpoint.monitor.retrain is not None
    }


def plan_of(settings: Settings, endpoint: str) -> MonitorPlan:
    """Raises NotFound."""
    found = settings.endpoints.get(endpoint)
    if found is None:
        names = ", ".join(sorted(settings.endpoints)[:20]) or "none is configured"
        raise NotFound(f"no endpoint {endpoint[:80]!r}; endpoints: {names}")
    return found.monitor or MonitorPlan()
