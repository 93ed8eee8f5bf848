"""Which versions the registry's aliases have to point at by our own doing, and what to do when one points elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tidegate.clock import Clock
from tidegate.control.registry.base import CHALLENGER, CHAMPION, Registry
from tidegate.control.registry.watch import AliasWatch
from tidegate.control.releases.history import release_of
from tidegate.control.releases.starting import alias_of
from tidegate.errors import NotFound, Refused
from tidegate.settings import Settings

if TYPE_CHECKING:
    from tidegate.control.releases.service import ReleaseService
    from tidegate.storage.store import Store, Unit

logger = logging.getLogger("tidegate.registry")

WHO = "registry"
MOST_ENDED = 200
"""Releases among which the last move of an alias is looked for."""


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
            served: dict[str, dict[str, str]] = {}  # model -> endpoint -> version
            for name, plan in newest.snapshot.endpoints.items() if newest is not None else ():
                model = plan.baseline.model
                if model.name and alias_of(name, model, self._settings) == alias:
                    served.setdefault(model.name, {})[name] = model.version
            return {
                model: self._pointed(unit, model, alias, found)
                for model, found in served.items()
                if found.keys() - busy
            }

    def _pointed(self, unit: Unit, model: str, alias: str, served: Mapping[str, str]) -> str:
        """Where endpoints of one alias serve different versions: the one that a release moved it to last, else the one of
        an endpoint that is configured by it."""
        versions = list(served.values())
        if len(set(versions)) > 1:
            ended = [release_of(row) for row in unit.releases.list(open=False, limit=MOST_ENDED)]
            ours = [one for one in ended if (one.candidate.name, one.alias) == (model, alias)]
            wishes = {one.since: one.alias_version for one in ours if one.alias_version in versions}
            if wishes:
                return wishes[max(wishes)]
            configured = self._settings.endpoints
            named = [name for name in served if name in configured and configured[name].model.endswith(f"@{alias}")]
            versions += [served[name] for name in named]
        return versions[-1]


class ChallengerSteps:
    """Looks at the challenger of every model that is served, where ``registry.on_challenger`` wants it released."""

    def __init__(self, store: Store, registry: Registry, releases: ReleaseService, settings: Settings) -> None:
        self._store = store
        self._registry = registry
        self._releases = releases
        self._settings = settings

    def look(self) -> None:
        """Raises RegistryAway."""
        if not self._releases.leads or self._settings.registry.on_challenger == "ignore":
            return
        with self._store.read() as unit:
            newest = unit.snapshots.latest()
        plans = newest.snapshot.endpoints.values() if newest is not None else ()
        for name in sorted({plan.baseline.model.name for plan in plans} - {""}):
            try:
                version = self._registry.get(name, CHALLENGER).version
            except NotFound:
                continue
            self._releases.challenger_named(name, version, WHO)


def aliases_of(settings: Settings) -> set[str]:
    named = {
        endpoint.model.rpartition("@")[2]
        for endpoint in settings.endpoints.values()
        if endpoint.model.startswith("models:/") and "@" in endpoint.model
    }
    return {CHAMPION, *named}
