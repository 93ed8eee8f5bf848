"""Which versions the registry's aliases have to point at by our own doing, and what to do when one points elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tidegate.clock import Clock
from tidegate.control.registry.base import CHAMPION, Registry
from tidegate.control.registry.watch import AliasWatch
from tidegate.control.releases.starting import alias_of
from tidegate.errors import Refused
from tidegate.settings import Settings

if TYPE_CHECKING:
    from tidegate.control.releases.service import ReleaseService
    from tidegate.storage.store import Store

logger = logging.getLogger("tidegate.registry")

WHO = "registry"


class AliasSteps:
    """Looks at the champion and at every alias by which an endpoint is configured (models:/iris@live)."""

    def __init__(
        self, store: Store, registry: Registry, releases: ReleaseService, settings: Settings, clock: Clock
    ) -> None:
        self._store = store
        self._releases = releases
        self._settings = settings
        seconds = settings.registry.poll_seconds
        self._watches = [
            AliasWatch(registry, lambda alias=alias: self.expected(alias), clock, seconds, alias)  # type: ignore[misc]
            for alias in sorted(aliases_of(settings))
        ]

    def look(self) -> None:
        """Only the control plane that looks at releases does; the others would start the same release."""
        policy = self._settings.registry.on_alias_moved
        if not self._releases.leads or policy == "ignore":
            return
        for watch in self._watches:
            for moved in watch.look():
                if not moved.version and policy != "revert":
                    continue  # it is gone, and names nothing to release
                try:
                    self._releases.alias_moved(moved.name, moved.version or "", WHO, moved.alias)
                except Refused as error:  # the store or the registry is away: the next look finds it again
                    watch.forget(moved.name)
                    logger.warning("%s@%s was moved: %s; it is tried again", moved.name, moved.alias, error)

    def expected(self, alias: str) -> Mapping[str, str]:
        """Model -> version of the baseline in force, for endpoints that follow this alias and have neither a release nor
        an experiment: what is moved meanwhile is news when that has ended."""
        with self._store.read() as unit:
            newest = unit.snapshots.latest()
            busy = {row.endpoint for row in unit.releases.list(open=True, limit=1000)}
            busy |= {row.endpoint for row in unit.experiments.list(limit=1000, open=True)}
        plans = newest.snapshot.endpoints if newest is not None else {}
        return {
            plan.baseline.model.name: plan.baseline.model.version
            for name, plan in plans.items()
            if name not in busy
            and plan.baseline.model.name
            and alias_of(name, plan.baseline.model, self._settings) == alias
        }


def aliases_of(settings: Settings) -> set[str]:
    named = {
        endpoint.model.rpartition("@")[2]
        for endpoint in settings.endpoints.values()
        if endpoint.model.startswith("models:/") and "@" in endpoint.model
    }
    return {CHAMPION, *named}
