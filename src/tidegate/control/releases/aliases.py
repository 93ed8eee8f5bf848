"""The registry's alias follows the release: moved after the publication, as often as it takes."""

from __future__ import annotations

import logging

from tidegate.clock import Clock
from tidegate.control.access import audit
from tidegate.control.registry.base import Registry, RegistryAway
from tidegate.control.releases.enact import happen
from tidegate.control.releases.events import AliasMoved
from tidegate.control.releases.history import release_of
from tidegate.control.releases.release import Release
from tidegate.control.releases.starting import alias_of
from tidegate.errors import TidegateError
from tidegate.settings import Settings
from tidegate.storage.records import Lease
from tidegate.storage.store import Store, Unit
from tidegate.types import EndpointPlan, ModelRef

logger = logging.getLogger("tidegate.releases")

PAGE = 100
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Seconds between attempts, doubling from the first to the longest."""


class Aliases:
    def __init__(self, store: Store, registry: Registry, settings: Settings, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._settings = settings
        self._clock = clock
        self._next: dict[str, tuple[float, float]] = {}
        """Release -> when to try again, and the pause after that."""

    def move(self, release: Release, lease: Lease) -> None:
        """Points the alias where the release wants it, if it is time to try. The lease is looked at right before, so
        that a control plane that slept does not undo what another one did meanwhile."""
        now = self._clock.monotonic()
        due, pause = self._next.get(release.id, (now, FIRST_PAUSE))
        if now < due:
            return
        with self._store.read() as unit:
            unit.leases.check(lease, self._clock.wall())
        error = left = ""
        try:
            left = self._moved_on(release)
            if not left:
                self._registry.set_alias(release.candidate.name, release.alias, release.alias_version)
        except TidegateError as problem:  # away, or the version was deleted; either may be mended
            error = str(problem)
        if error:
            self._next[release.id] = (now + pause, min(pause * 2, LONGEST_PAUSE))
            logger.warning("release %s: the alias %s is not moved yet: %s", release.id, release.alias, error)
        else:
            self._next.pop(release.id, None)
        if error and error in release.waiting:
            return
        with self._store.begin() as unit:
            unit.leases.check(lease, self._clock.wall())
            event = AliasMoved(now=self._clock.wall(), version=release.alias_version, error=error, left=left)
            happen(unit, release, event)

    def _moved_on(self, release: Release) -> str:
        """The version that somebody else wished for while the candidate was to go; empty where the alias may go back."""
        if release.state == "promoted":
            return ""
        try:
            pointed = self._registry.get(release.candidate.name, release.alias).version
        except RegistryAway:
            raise
        except TidegateError:  # it went with the version that it named, or that one is damaged
            return ""
        return "" if pointed in (release.candidate.version, release.alias_version) else pointed

    def news(self, name: str, version: str, alias: str) -> list[str]:
        """Endpoints that follow the alias and serve another version of the model than it says, without a release that
        explains it."""
        with self._store.read() as unit:
            newest = unit.snapshots.latest()
            plans = newest.snapshot.endpoints if newest is not None else {}
            found = [
                plan.name
                for plan in plans.values()
                if _differs(plan, name, version) and self.alias_of(plan.name, name) == alias
            ]
            recent = [release_of(row) for row in unit.releases.list(limit=200)] if found else []
        return [
            endpoint
            for endpoint in found
            if not any(
                release.endpoint == endpoint
                and (release.alias_pending or (release.open and release.candidate.version == version))
                for release in recent
            )
        ]

    def untried(self, name: str, version: str) -> list[str]:
        """Endpoints that serve another version of the model, and have neither an open release or experiment nor ever had a
        release of this one."""
        with self._store.read() as unit:
            newest = unit.snapshots.latest()
            plans = newest.snapshot.endpoints if newest is not None else {}
            found = [plan.name for plan in plans.values() if _differs(plan, name, version)]
            busy = {one.endpoint for one in unit.experiments.list(limit=1000, open=True)}
            return [
                endpoint for endpoint in found if endpoint not in busy and not _tried(unit, endpoint, name, version)
            ]

    def revert(self, endpoint: str, name: str, version: str, origin: str) -> None:
        """Points the alias back to what is served."""
        with self._store.read() as unit:
            newest = unit.snapshots.latest()
            served = newest.snapshot.endpoints[endpoint].baseline.model if newest is not None else ModelRef("")
        alias = self.alias_of(endpoint, name)
        self._registry.set_alias(name, alias, served.version)
        moved = f"was moved to version {version}" if version else "was removed"
        reason = f"{name}@{alias} {moved} by {origin}; {endpoint} serves {served.version}"
        with self._store.begin() as unit:
            audit.record(
                unit, origin, "alias.revert", f"model:{name}", at=self._clock.wall(), before=version,
                after=served.version, reason=reason,
            )  # fmt: skip
        logger.warning("%s: moved back", reason)

    def alias_of(self, endpoint: str, name: str) -> str:
        return alias_of(endpoint, ModelRef("", name), self._settings)


def _tried(unit: Unit, endpoint: str, name: str, version: str) -> bool:
    cursor: str | None = None
    while rows := unit.releases.list(endpoint=endpoint, limit=PAGE, cursor=cursor):
        for release in map(release_of, rows):
            if release.open or (release.candidate.name, release.candidate.version) == (name, version):
                return True
        cursor = rows[-1].id
    return False


def _differs(plan: EndpointPlan, name: str, version: str) -> bool:
    served = plan.baseline.model
    return served.name == name and served.version != version
