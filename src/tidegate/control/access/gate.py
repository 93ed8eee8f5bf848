"""The gate of the control port: from a key, a cookie and an address to a caller, or an error."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.clock import Clock
from tidegate.control.access.caller import Caller
from tidegate.control.access.heads import Heads
from tidegate.control.access.keys import Keys
from tidegate.control.access.limits import Limits
from tidegate.control.access.sessions import Opened, Sessions
from tidegate.errors import NotAuthenticated

if TYPE_CHECKING:
    from tidegate.settings import Control
    from tidegate.storage.store import Store


class Access:
    """``folder`` is where the audit log's heads are kept."""

    def __init__(self, store: Store, control: Control, clock: Clock, folder: Path) -> None:
        self.keys = Keys(store, clock)
        self.sessions = Sessions(store, self.keys, clock, control.session_minutes * 60.0)
        self.limits = Limits(control.requests_per_minute)
        self.heads = Heads(store, folder)

    def by_key(self, text: str, address: str) -> Caller:
        """Raises RateLimited, NotAuthenticated."""
        self.limits.arrive(address)
        try:
            caller = self.keys.recognise(text, address)
        except NotAuthenticated:
            self.limits.fail(address)
            raise
        self.limits.call(caller.key, caller.facts.requests_per_minute)
        return caller

    def by_cookie(self, token: str, address: str) -> Caller:
        """Raises RateLimited, NotAuthenticated."""
        self.limits.arrive(address)
        caller = self.sessions.find(token, address)
        if caller is None:
            raise NotAuthenticated("the session has ended; sign in again")
        self.limits.call(caller.key, caller.facts.requests_per_minute)
        return caller

    def sign_in(self, text: str, address: str) -> Opened:
        """Raises RateLimited, NotAuthenticated; NotAllowed for a key that may only predict."""
        self.limits.try_to_sign_in(address)
        caller = self.by_key(text.strip(), address)
        caller.must("operate")
        return self.sessions.open(caller)

    def lasts(self, caller: Caller) -> bool:
        """Whether a stream that this caller opened may go on."""
        if caller.session and not self.sessions.lasts(caller.session):
            return False
        return self.keys.counts(caller.key)
