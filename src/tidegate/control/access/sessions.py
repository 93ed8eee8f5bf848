"""Sessions of the console: a sign-in with a key becomes a cookie. The store keeps only the digest of the cookie's token."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import update

from tidegate.clock import Clock
from tidegate.control.access import audit
from tidegate.control.access.caller import Caller
from tidegate.storage.tables import sessions

if TYPE_CHECKING:
    from tidegate.control.access.keys import Keys
    from tidegate.storage.records import SessionRow
    from tidegate.storage.store import Store

LONGEST_SECONDS = 12 * 3600.0
"""However active: after this a new sign-in is needed."""
RENEW_SECONDS = 60.0
"""A session in use is made to last longer at most so often."""
LONGEST_TOKEN = 128


class Opened(msgspec.Struct, frozen=True):
    """``token`` goes into the cookie and is kept nowhere."""

    token: str
    caller: Caller


class Sessions:
    """``seconds`` without a request end a session."""

    def __init__(
        self, store: Store, keys: Keys, clock: Clock, seconds: float, fresh: Callable[[], str] = secrets.token_urlsafe
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._seconds = seconds
        self._fresh = fresh

    def open(self, caller: Caller) -> Opened:
        """For a caller whose key was recognised; ends sessions that have expired."""
        from tidegate.storage.records import SessionRow

        now = self._clock.wall()
        token = self._fresh()
        row = SessionRow(
            digest=digest_of(token), key=caller.key, created=now, expires=now + self._seconds, csrf=self._fresh()
        )
        with self._store.begin() as unit:
            unit.sessions.expire(now)
            unit.sessions.add(row)
            audit.record(unit, caller.who, "session.open", f"key:{caller.key}", at=now)
        session = msgspec.structs.replace(caller, session=row.digest, csrf=row.csrf, expires=row.expires)
        return Opened(token, session)

    def find(self, token: str, address: str = "") -> Caller | None:
        """Whom the cookie stands for; None when it has ended, or its key no longer counts."""
        now = self._clock.wall()
        if not token or len(token) > LONGEST_TOKEN:
            return None
        with self._store.read() as unit:
            row = unit.sessions.get(digest_of(token))
        if row is None or row.expires <= now:
            return None
        return self._keys.of_session(row.key, address, row.digest, row.csrf, self._prolong(row, now))

    def close(self, caller: Caller) -> None:
        """Twice is the same as once."""
        with self._store.begin() as unit:
            if unit.sessions.get(caller.session) is not None:
                unit.sessions.remove(caller.session)
                audit.record(unit, caller.who, "session.close", f"key:{caller.key}", at=self._clock.wall())

    def lasts(self, digest: str) -> bool:
        """Whether the session is still there; asked by streams that outlive a request."""
        with self._store.read() as unit:
            row = unit.sessions.get(digest)
        return row is not None and row.expires > self._clock.wall()

    def _prolong(self, row: SessionRow, now: float) -> float:
        expires = min(now + self._seconds, row.created + LONGEST_SECONDS)
        if expires - row.expires < min(RENEW_SECONDS, self._seconds / 2):
            return row.expires
        with self._store.begin() as unit:  # one statement: what was closed meanwhile stays closed
            unit.connection.execute(update(sessions).where(sessions.c.digest == row.digest).values(expires=expires))
        return expires


def digest_of(token: str) -> str:
    """sha256 without a salt: the token has 256 random bits, and is looked up by this."""
    return sha256(token.encode()).hexdigest()
