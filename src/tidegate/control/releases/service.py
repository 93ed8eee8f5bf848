"""Releases: started, looked at again and again, and ended. What is decided is decided in ``machine.py``.

Every change is one transaction: release, history, evidence, snapshot and audit entry, or none of them. What lies outside
of the store, the registry's alias, follows from what was stored, as often as it takes.
"""

from __future__ import annotations

import builtins
import logging
import secrets
from collections.abc import Callable
from typing import Literal

import msgspec

from tidegate.clock import Clock
from tidegate.control.access import audit
from tidegate.control.lease import Leadership
from tidegate.control.registry.base import CHAMPION, Registry
from tidegate.control.releases import configured
from tidegate.control.releases.aliases import Aliases
from tidegate.control.releases.enact import happen, publish, supersede
from tidegate.control.releases.events import Event, Pause, Promote, Publish, Resume, Rollback, Superseded
from tidegate.control.releases.history import Entry, Line, event_row, line_of, release_of, row_of, shown
from tidegate.control.releases.look import Look, Point
from tidegate.control.releases.looking import Looking
from tidegate.control.releases.machine import Transition
from tidegate.control.releases.prometheus import Prometheus
from tidegate.control.releases.release import Release
from tidegate.control.releases.replay import Replayed, replayed
from tidegate.control.releases.starting import alias_of, candidate_for, check_plan, check_source, free_endpoint
from tidegate.errors import Conflict, LeaseLost, LostRace, NotFound, RequestError, StoreAway, UserError
from tidegate.settings import ReleaseSettings, Settings
from tidegate.storage.records import Published
from tidegate.storage.store import Store, Unit
from tidegate.types import ModelRef

logger = logging.getLogger("tidegate.releases")

LEASE = "releases"
TRIES = 3
"""Times that a person's act is tried again because somebody else wrote first."""

RequestedBy = Literal["person", "alias", "webhook", "training"]


class ReleaseService:
    """Safe to call from several threads, and to run beside others on the same store: one of them holds the lease and
    looks; persons' acts are taken by any. ``holder`` is one life of one process."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        settings: Settings,
        clock: Clock,
        holder: str,
        *,
        prometheus: Prometheus | None = None,
        new_id: Callable[[], str] = lambda: f"r-{secrets.token_hex(4)}",
    ) -> None:
        self._store = store
        self._registry = registry
        self._settings = settings
        self._clock = clock
        self._new_id = new_id
        self._leadership = Leadership(store, clock, LEASE, holder, settings.control.lease_seconds)
        self._token = 0
        """Of the lease under which ``_looking`` remembers."""
        self._looking = Looking(store, settings, clock, prometheus or Prometheus())
        self._aliases = Aliases(store, registry, settings, clock)
        self._away = False
        self._refused: dict[tuple[str, str], str] = {}
        """By endpoint and who asked, why no release began last: asked again every few seconds, it is said once."""

    @property
    def leads(self) -> bool:
        """Whether this one looks at releases."""
        return self._leadership.held

    def start(
        self,
        endpoint: str,
        candidate_uri: str,
        *,
        who: str,
        reason: str = "",
        plan: ReleaseSettings | None = None,
        requested_by: RequestedBy = "person",
    ) -> Release:
        """Begins a release: the candidate is loaded everywhere before anything else.

        Raises NotFound (endpoint, model), ModelError (not loadable), InvalidInput (plan, or already the baseline), Conflict
        (a release or an experiment is open there), RegistryAway, StoreAway.
        """
        check_source(candidate_uri, self._settings)
        plan = plan or self._plan_of(endpoint)
        check_plan(plan)
        with self._store.read() as unit:
            free_endpoint(unit, unit.snapshots.latest(), endpoint)
        found = self._registry.ref(candidate_uri)
        return self._again(lambda: self._start(endpoint, found, plan, who, reason, requested_by))

    def list(
        self,
        endpoint: str | None = None,
        open: bool | None = None,  # noqa: A002
        limit: int = 50,
        cursor: str | None = None,
    ) -> builtins.list[Release]:
        """Newest first; ``cursor`` is the id of the last one of the page before."""
        with self._store.read() as unit:
            rows = unit.releases.list(endpoint=endpoint, open=open, limit=limit, cursor=cursor)
        return [release_of(row) for row in rows]

    def get(self, id: str) -> Release:  # noqa: A002
        """Raises NotFound."""
        with self._store.read() as unit:
            return _found(unit, id)

    def pause(self, id: str, *, who: str, reason: str = "") -> Release:  # noqa: A002
        """The share stays as it is. Raises IllegalTransition, as all acts do where they make no sense."""
        return self._act(id, Pause(now=self._clock.wall(), who=who, reason=reason))

    def resume(self, id: str, *, who: str, reason: str = "") -> Release:  # noqa: A002
        return self._act(id, Resume(now=self._clock.wall(), who=who, reason=reason))

    def promote(self, id: str, *, who: str, reason: str = "") -> Release:  # noqa: A002
        """At once, whatever the evidence says."""
        return self._act(id, Promote(now=self._clock.wall(), who=who, reason=reason))

    def rollback(self, id: str, *, who: str, reason: str = "") -> Release:  # noqa: A002
        """One publication, from any open state, and from promoted while the old version is warm."""
        return self._act(id, Rollback(now=self._clock.wall(), who=who, reason=reason))

    def events(self, id: str, after: int = -1) -> builtins.list[Line]:  # noqa: A002
        """What happened after this revision, oldest first. Raises NotFound."""
        with self._store.read() as unit:
            _found(unit, id)
            return [line_of(row) for row in unit.releases.events(id, after)]

    def evidence(self, id: str, after: int = -1, limit: int = 1000) -> builtins.list[Point]:  # noqa: A002
        """Looks after this tick, oldest first. Raises NotFound."""
        with self._store.read() as unit:
            _found(unit, id)
            rows = unit.releases.evidence(id, after=after, limit=limit)
        return [_point(row.tick, row.time, row.body) for row in rows]

    def replay(self, id: str) -> Replayed:  # noqa: A002
        """Every decision computed again from what is stored. Raises NotFound."""
        with self._store.read() as unit:
            return replayed(unit, _found(unit, id))

    def bootstrap(self) -> Published | None:
        """Publishes what the configuration says of endpoints, where the store does not know it yet; None when it does."""
        return configured.bootstrap(self._store, self._registry, self._settings, self._clock)

    def alias_moved(self, name: str, version: str, origin: str, alias: str = CHAMPION) -> tuple[Release, ...]:
        """An alias of a model points to another version. ``origin``: who says so, for the audit log.

        By ``registry.on_alias_moved``: nothing, a release of it on each endpoint that follows this alias of the model, or
        the alias goes back. What this service moved itself is no news. Returns the releases that began.
        """
        begun = []
        policy = self._settings.registry.on_alias_moved
        for endpoint in self._aliases.news(name, version, alias) if policy != "ignore" else ():
            try:
                if policy == "revert":
                    self._aliases.revert(endpoint, name, version, origin)
                    continue
                begun.append(
                    self.start(
                        endpoint,
                        f"models:/{name}/{version}",
                        who=origin,
                        reason=f"{name}@{alias} was moved to version {version}",
                        requested_by="webhook" if origin.startswith("webhook") else "alias",
                    )
                )
            except (UserError, RequestError) as error:  # such as the same bytes under a new number
                wanted = f"moving {name}@{alias} back" if policy == "revert" else f"release of {name} version {version}"
                self._refuse(endpoint, "alias", f"no {wanted} on {endpoint}: {error}")
        return tuple(begun)

    def challenger_named(self, name: str, version: str, origin: str) -> tuple[Release, ...]:
        """The challenger of a model is this version. Where ``registry.on_challenger`` says so, it is released on each endpoint
        that serves another version of the model, and where no release has tried it yet. Returns the releases that began."""
        begun = []
        wanted = self._settings.registry.on_challenger == "release"
        for endpoint in self._aliases.untried(name, version) if wanted else ():
            reason = f"{name}@challenger is version {version}"
            by: RequestedBy = "webhook" if origin.startswith("webhook") else "alias"
            try:
                begun.append(
                    self.start(endpoint, f"models:/{name}/{version}", who=origin, reason=reason, requested_by=by)
                )
            except (UserError, RequestError) as error:  # such as the same bytes under a new number
                self._refuse(endpoint, "challenger", f"no release of {name} version {version} on {endpoint}: {error}")
        return tuple(begun)

    def _refuse(self, endpoint: str, asked_by: str, text: str) -> None:
        if self._refused.get((endpoint, asked_by)) != text:
            logger.warning(text)
        self._refused[endpoint, asked_by] = text

    def tick(self) -> None:
        """One look at everything, if this one holds the lease or can take it. What goes wrong is logged: the next tick
        tries again."""
        try:
            self._tick()
        except StoreAway as error:
            if not self._away:
                logger.warning("releases wait for the store: %s", error)
            self._away = True
        except LeaseLost as error:
            self._leadership.lose(str(error))
            self._looking.forget()
        else:
            self._away = False

    def stop(self) -> None:
        """Hands the lease back, so that another control plane goes on at once."""
        self._leadership.give_back()

    def _tick(self) -> None:
        lease = self._leadership.take()
        if lease is None or lease.token != self._token:
            self._looking.forget()
        if lease is None:
            return
        self._token = lease.token
        for release in self._looking.due():
            lease = self._leadership.take()  # many looks may take longer than one lease
            if lease is None or lease.token != self._token:
                return
            try:
                after = self._looking.look(release, lease)
                if after.alias_pending:
                    self._aliases.move(after, lease)
            except (StoreAway, LeaseLost):
                raise
            except Conflict as error:
                self._looking.forget(release.id)
                logger.info("release %s: %s", release.id, error)
            except Exception:  # one release that cannot be looked at must not stop the others
                self._looking.forget(release.id)
                logger.exception("release %s: the look failed", release.id)

    def _start(
        self, endpoint: str, found: ModelRef, plan: ReleaseSettings, who: str, reason: str, requested_by: RequestedBy
    ) -> Release:
        now = self._clock.wall()
        with self._store.begin() as unit:
            current = free_endpoint(unit, unit.snapshots.latest(), endpoint)
            candidate = candidate_for(current, found)
            release = Release(
                id=self._new_id(),
                endpoint=endpoint,
                baseline=current.baseline.model,
                candidate=candidate,
                plan=plan,
                author=who,
                created=now,
                changed=now,
                looked=now,
                tick=-1,
                waiting="loading: no instance has been asked yet",
                reason=reason,
                alias=alias_of(endpoint, candidate, self._settings),
                requested_by=requested_by,
            )
            supersede(unit, endpoint, Superseded(now=now, release=release.id))
            text = f"release of {candidate.name or candidate.uri} version {candidate.version}" + (
                f": {reason}" if reason else ""
            )
            release, _ = publish(unit, Transition(release, (Publish("split", text),)))
            entry = Entry(
                kind="started",
                text=text,
                who=who,
                state=release.state,
                snapshot=release.snapshot,
                published=release.published,
                began=release,
            )
            unit.releases.add(row_of(release), event_row(release, entry))
            audit.record(
                unit, who, "release.start", f"release:{release.id}", at=now, after=shown(release), reason=reason
            )
        logger.info("release %s of %s: %s", release.id, endpoint, text)
        return release

    def _act(self, id: str, event: Event) -> Release:  # noqa: A002
        def act() -> Release:
            with self._store.begin() as unit:
                release, _ = happen(unit, _found(unit, id), event)
            return release

        release = self._again(act)
        logger.info("release %s: %s", id, release.state)
        return release

    def _again(self, act: Callable[[], Release]) -> Release:
        """A lost race is run again on what the other one wrote; a refusal stays one."""
        for attempt in range(TRIES):
            try:
                return act()
            except LostRace:
                if attempt == TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    def _plan_of(self, endpoint: str) -> ReleaseSettings:
        known = self._settings.endpoints.get(endpoint)
        return known.release if known is not None else ReleaseSettings()


def _found(unit: Unit, id: str) -> Release:  # noqa: A002
    row = unit.releases.get(id)
    if row is None:
        raise NotFound(f"no release {id[:80]!r}")
    return release_of(row)


def _point(tick: int, time: float, body: str) -> Point:
    look = msgspec.json.decode(body, type=Look)
    return Point(
        tick=tick,
        time=time,
        state=look.state,
        step=look.step,
        share=look.share,
        requests=look.requests,
        verdicts=look.verdicts,
        sides=look.sides,
    )
