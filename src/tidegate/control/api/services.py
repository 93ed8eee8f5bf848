"""What the control API calls. Built by ``apps/control.py``, and by tests from fakes and real parts."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from tidegate.clock import Clock
from tidegate.control.access.gate import Access
from tidegate.settings import Settings

if TYPE_CHECKING:
    from tidegate.control.experiments.service import ExperimentService
    from tidegate.control.figures import Figures
    from tidegate.control.jobs.batches import Batches
    from tidegate.control.jobs.queue import Queue
    from tidegate.control.jobs.schedule import Schedules
    from tidegate.control.monitoring.service import MonitorService
    from tidegate.control.registry.base import Registry
    from tidegate.control.releases.service import ReleaseService
    from tidegate.control.training.retrain import RetrainService
    from tidegate.storage.store import Store


class Services(msgspec.Struct, frozen=True, kw_only=True):
    store: Store
    registry: Registry
    releases: ReleaseService
    experiments: ExperimentService
    figures: Figures
    jobs: Queue
    batches: Batches
    schedules: Schedules
    monitoring: MonitorService
    retraining: RetrainService
    access: Access
    settings: Settings
    clock: Clock
    stopping: threading.Event
    """Set when the process is told to end: streams end, readiness goes off."""
