"""API keys: made, listed, rotated, revoked, recognised. The store keeps a salted hash; the key itself is shown once.

``revoked`` is the time from which a key no longer counts. It may lie ahead: so a rotated key overlaps with the new one.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from tidegate import keys
from tidegate.clock import Clock
from tidegate.control.access import audit
from tidegate.control.access.caller import Caller
from tidegate.errors import Conflict, InvalidInput, NotAuthenticated, NotFound, Refused
from tidegate.keys import KeyFacts

if TYPE_CHECKING:
    from tidegate.storage.records import KeyRow
    from tidegate.storage.store import Store, Unit

logger = logging.getLogger("tidegate.access")

TOUCH_SECONDS = 60.0
"""``used`` is written at most so often, so that a read does not become a write."""
ADMIN = "first administrator"
ADMIN_FILE = "admin.key"
LONGEST_NAME = 100
SYSTEM = "tidegate"

State = Literal["active", "expiring", "expired", "revoked"]


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """A key as people see it: everything but the secret. Times are seconds since the epoch."""

    id: str
    name: str
    roles: tuple[keys.KeyRole, ...]
    endpoints: tuple[str, ...] = ()
    requests_per_minute: int = 0
    concurrency: int = 0
    rows: int = 0
    state: State = "active"
    created: float
    expires: float | None = None
    """The earlier of its expiry and of a revocation that lies ahead."""
    revoked: float | None = None
    used: float | None = None
    """Last use, to the minute."""


class Created(msgspec.Struct, frozen=True):
    """``key`` is shown this once and kept nowhere."""

    view: KeyView
    key: str


class Keys:
    """``fresh`` gives id, secret and salt."""

    def __init__(self, store: Store, clock: Clock, fresh: Callable[[], tuple[str, str, str]] = keys.new_key) -> None:
        self._store = store
        self._clock = clock
        self._fresh = fresh
        self._nobody = self._fresh()

    def create(self, facts: KeyFacts, *, who: str, expires: float | None = None, reason: str = "") -> Created:
        """Raises InvalidInput for facts that no key may have."""
        now = self._clock.wall()
        _check(facts)
        if expires is not None and expires <= now:
            raise InvalidInput("the expiry is in the past", ("expires_seconds",))
        with self._store.begin() as unit:
            return self._add(unit, facts, expires, who=who, action="key.create", now=now, reason=reason)

    def all(self) -> list[KeyView]:
        """Newest first."""
        now = self._clock.wall()
        with self._store.read() as unit:
            rows = unit.keys.all()
        return sorted((_view(row, now) for row in rows), key=lambda view: (-view.created, view.id))

    def get(self, key: str) -> KeyView:
        with self._store.read() as unit:
            return _view(_found(unit, key), self._clock.wall())

    def revoke(self, key: str, *, who: str, reason: str = "") -> KeyView:
        """From now on; twice is the same as once. Raises NotFound, Conflict for the last administrator's key."""
        now = self._clock.wall()
        with self._store.begin() as unit:
            row = _found(unit, key)
            before = _view(row, now)
            if before.state in ("expired", "revoked"):
                return before
            unit.keys.revoke(key, now)
            after = _view(_found(unit, key), now)
            audit.record(unit, who, "key.revoke", f"key:{key}", at=now, before=before, after=after, reason=reason)
            # Only now: changes stand in line for the audit log, and so see what the one before them has revoked.
            self._keep_an_administrator(unit, before, now)
        return after

    def rotate(self, key: str, *, who: str, grace: float, reason: str = "") -> Created:
        """A new key that allows the same; the old one goes on for ``grace`` seconds. Raises NotFound, Conflict."""
        now = self._clock.wall()
        with self._store.begin() as unit:
            row = _found(unit, key)
            before = _view(row, now)
            if before.state in ("expired", "revoked"):
                raise Conflict(f"the key {key} is {before.state}; make a new one")
            lifetime = None if row.expires is None else row.expires - row.created
            expires = None if lifetime is None else now + lifetime
            made = self._add(
                unit, keys.decode_facts(row.body), expires, who=who, action="key.rotate", now=now, reason=reason
            )
            if row.revoked is None or now + grace < row.revoked:
                unit.keys.revoke(key, now + grace)
            after = _view(_found(unit, key), now)
            audit.record(
                unit,
                who,
                "key.expire",
                f"key:{key}",
                at=now,
                before=before,
                after=after,
                reason=f"replaced by {made.view.id}",
            )
        return made

    def recognise(self, text: str, address: str = "") -> Caller:
        """Raises NotAuthenticated, in the same words and time for every key that is not valid."""
        now = self._clock.wall()
        parsed = keys.parse(text)
        id_, secret = parsed or self._nobody[:2]
        with self._store.read() as unit:
            row = unit.keys.get(id_) if parsed else None
        salt, kept = (row.salt, row.digest) if row is not None else (self._nobody[2], "")
        good = keys.matches(salt, kept, secret)
        if row is None or not good or _state(row, now) in ("expired", "revoked"):
            raise NotAuthenticated("the key is not valid: unknown, expired or revoked")
        self._touch(row, now)
        return _caller(row, address, now)

    def of_session(self, key: str, address: str, session: str, csrf: str, expires: float) -> Caller | None:
        """The caller that a session stands for; None once its key no longer counts."""
        now = self._clock.wall()
        with self._store.read() as unit:
            row = unit.keys.get(key)
        if row is None or _state(row, now) in ("expired", "revoked"):
            return None
        self._touch(row, now)
        caller = _caller(row, address, now)
        ends = expires if caller.expires is None else min(expires, caller.expires)
        return msgspec.structs.replace(caller, session=session, csrf=csrf, expires=ends)

    def counts(self, key: str) -> bool:
        """Whether the key still counts; asked by streams that outlive a request."""
        with self._store.read() as unit:
            row = unit.keys.get(key)
        return row is not None and _state(row, self._clock.wall()) not in ("expired", "revoked")

    def first_administrator(self, folder: Path) -> str | None:
        """In a store without any key: makes an administrator's, writes it to ``admin.key`` and returns it. Of several that
        start at once, one does."""
        with self._store.begin() as unit:
            if not unit.keys.none():
                return None
            now = self._clock.wall()
            facts = KeyFacts(name=ADMIN, roles=("admin",))
            made = self._add(unit, facts, None, who=SYSTEM, action="key.create", now=now, reason="first start")
            write_secret(folder / ADMIN_FILE, made.key + "\n")  # before the commit: a crash must not lose the only key
        return made.key

    def _add(
        self, unit: Unit, facts: KeyFacts, expires: float | None, *, who: str, action: str, now: float, reason: str
    ) -> Created:
        from tidegate.storage.records import KeyRow

        id_, secret, salt = self._fresh()
        row = KeyRow(
            id=id_,
            salt=salt,
            digest=keys.digest(salt, secret),
            created=now,
            expires=expires,
            revoked=None,
            used=None,
            body=keys.encode_facts(facts),
        )
        unit.keys.add(row)
        view = _view(row, now)
        audit.record(unit, who, action, f"key:{id_}", at=now, after=view, reason=reason)
        return Created(view, keys.compose(id_, secret))

    def _keep_an_administrator(self, unit: Unit, view: KeyView, now: float) -> None:
        if "admin" not in view.roles:
            return
        others = (_view(row, now) for row in unit.keys.all() if row.id != view.id)
        if not any("admin" in other.roles and not other.endpoints and other.state == "active" for other in others):
            raise Conflict("this is the last administrator's key; make or rotate one first")

    def _touch(self, row: KeyRow, now: float) -> None:
        if row.used is not None and now - row.used < TOUCH_SECONDS:
            return
        try:
            with self._store.begin(durable=False) as unit:
                unit.keys.touch(row.id, now)
        except Refused:  # the time of the last use is not worth refusing a call that can be answered
            logger.info("the last use of key %s could not be written", row.id)


def write_secret(path: Path, text: str) -> None:
    """Mode 0600 from the first byte on, and complete or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    fresh.replace(path)


def _check(facts: KeyFacts) -> None:
    if not facts.name.strip() or len(facts.name) > LONGEST_NAME or not facts.name.isprintable():
        raise InvalidInput(f"a key needs a printable name of at most {LONGEST_NAME} characters", ("name",))
    if not facts.roles:
        raise InvalidInput("a key needs a role: predict, operate or admin", ("roles",))
    if "admin" in facts.roles and facts.endpoints:
        raise InvalidInput(
            "an administrator's key is for all endpoints, since it can make keys for any", ("endpoints",)
        )
    for name in ("requests_per_minute", "concurrency", "rows"):
        if getattr(facts, name) < 0:
            raise InvalidInput(f"{name} must not be negative; 0 sets no limit", (name,))


def _found(unit: Unit, key: str) -> KeyRow:
    row = unit.keys.get(key)
    if row is None:
        raise NotFound(f"there is no key {key}")
    return row


def _ends(row: KeyRow) -> float | None:
    times = [time for time in (row.expires, row.revoked) if time is not None]
    return min(times) if times else None


def _state(row: KeyRow, now: float) -> State:
    if row.revoked is not None and row.revoked <= now:
        return "revoked"
    if row.expires is not None and row.expires <= now:
        return "expired"
    return "active" if row.revoked is None else "expiring"


def _view(row: KeyRow, now: float) -> KeyView:
    facts = keys.decode_facts(row.body)
    return KeyView(
        id=row.id,
        name=facts.name,
        roles=facts.roles,
        endpoints=facts.endpoints,
        requests_per_minute=facts.requests_per_minute,
        concurrency=facts.concurrency,
        rows=facts.rows,
        state=_state(row, now),
        created=row.created,
        expires=_ends(row),
        revoked=row.revoked if row.revoked is not None and row.revoked <= now else None,
        used=row.used,
    )


def _caller(row: KeyRow, address: str, now: float) -> Caller:
    return Caller(key=row.id, facts=keys.decode_facts(row.body), address=address, expires=_ends(row))
