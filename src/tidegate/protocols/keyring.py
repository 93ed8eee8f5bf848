"""The keys that the control plane has made, as the data plane knows them: who is calling, and how much is left to it.

A look-up is one regular expression, one hash and one comparison, some microseconds, so that nothing needs a cache that
could outlive a key.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tidegate.errors import NotAllowed, RateLimited, TooLarge
from tidegate.keys import KeyFacts, KnownKey, matches, parse
from tidegate.protocols.meters import Meter, Meters

REPORT_SECONDS = 60.0
"""The use of a key is told to the store at most so often."""

_UNKNOWN = KnownKey(id="", salt="0" * 32, digest="0" * 64, facts=KeyFacts(name="", roles=()))
"""Compared with where there is no such key, so that this takes as long."""


class Caller:
    """Who holds a valid key."""

    __slots__ = ("_meter", "facts", "key", "reported", "used")

    def __init__(self, known: KnownKey, meter: Meter | None) -> None:
        """``meter``: None for a key without limits over time."""
        self.key = known
        self.facts = known.facts
        self.used = 0.0
        self.reported = 0.0
        self._meter = meter

    def enter(self, now: float) -> None:
        """Counts a call, until ``leave``. Raises RateLimited. ``now``: monotonic seconds."""
        facts, meter = self.facts, self._meter
        if meter is None:
            return
        if facts.concurrency and meter.in_flight >= facts.concurrency:
            raise RateLimited(f"this key has {facts.concurrency} calls in flight, which is its limit", 1.0)
        if facts.requests_per_minute:
            wait = meter.take(facts.requests_per_minute, now)
            if wait:
                raise RateLimited(f"this key may make {facts.requests_per_minute} calls a minute", wait)
        meter.enter()

    def leave(self) -> None:
        if self._meter is not None:
            self._meter.leave()

    def check(self, endpoint: str, rows: int = 0) -> None:
        """Raises NotAllowed for an endpoint that the key does not name, TooLarge for more rows than it may send."""
        facts = self.facts
        if not facts.reaches(endpoint):
            raise NotAllowed(f"this key may not call the endpoint {endpoint[:80]!r}")
        if facts.rows and rows > facts.rows:
            raise TooLarge(f"the request has {rows} rows; this key may send {facts.rows}")


class Keyring:
    """All keys that are known now. ``wall`` and ``monotonic`` give seconds; ``known`` is false until the first update."""

    def __init__(
        self,
        meters: Meters | None = None,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.known = False
        self.monotonic = monotonic
        self._meters = meters or Meters()
        self._wall = wall
        self._callers: dict[str, Caller] = {}

    def __len__(self) -> int:
        return len(self._callers)

    def update(self, keys: Sequence[KnownKey]) -> None:
        """These are the keys from now on; calls in flight end under what was true when they began."""
        before, self._callers = self._callers, {}
        for known in keys:
            limited = known.facts.concurrency or known.facts.requests_per_minute
            caller = self._callers[known.id] = Caller(known, self._meters.of(known.id) if limited else None)
            if known.id in before:
                caller.used, caller.reported = before[known.id].used, before[known.id].reported
        self.known = True

    def find(self, presented: str) -> Caller | None:
        """Whose key this is; None for one that is wrong, expired, revoked or none of ours."""
        parsed = parse(presented)
        if parsed is None:
            return None
        id_, secret = parsed
        caller = self._callers.get(id_)
        known = _UNKNOWN if caller is None else caller.key
        now = self._wall()
        if not matches(known.salt, known.digest, secret) or caller is None or known.expired(now):
            return None
        caller.used = now
        return caller

    def take_used(self, most: int = 100) -> dict[str, float]:
        """When keys were last used, of those that were not told within the last minute."""
        used: dict[str, float] = {}
        for id_, caller in self._callers.items():
            if caller.used >= caller.reported + REPORT_SECONDS and len(used) < most:
                used[id_] = caller.reported = caller.used
        return used
