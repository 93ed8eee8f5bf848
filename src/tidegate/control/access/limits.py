"""How often one key or one address may call the control port. Kept in memory: each control plane counts for itself."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import Counter

from limits import RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from tidegate.errors import RateLimited

FAILED_SIGN_INS = 10
FAILED_SECONDS = 300
"""So many wrong keys of one address in so long; then it waits."""
OPEN_FACTOR = 5
"""Calls of one address, against those of one key: several people may share an address."""


class Limits:
    """``per_minute`` calls of one key; an address may have ``OPEN_FACTOR`` times as many."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._address = RateLimitItemPerMinute(per_minute * OPEN_FACTOR, 1, "address")
        self._failed = RateLimitItemPerSecond(FAILED_SIGN_INS, FAILED_SECONDS, "failed")
        self._lock = threading.Lock()
        self._in_flight: Counter[str] = Counter()

    def call(self, key: str, own: int = 0) -> None:
        """Counts one call of a key; ``own`` is the key's own limit, 0 for none. Raises RateLimited."""
        item = RateLimitItemPerMinute(min(own, self._per_minute) if own else self._per_minute, 1, "key")
        if not self._limiter.hit(item, key):
            raise RateLimited(f"more than {item.amount} calls a minute with this key", self._wait(item, key))

    def enter(self, key: str, most: int) -> None:
        """Counts a call that is in flight until ``leave``. Raises RateLimited."""
        with self._lock:
            if self._in_flight[key] >= most:
                raise RateLimited(f"this key has {most} calls in flight, which is its limit", 1.0)
            self._in_flight[key] += 1

    def leave(self, key: str) -> None:
        with self._lock:
            self._in_flight[key] -= 1

    def arrive(self, address: str) -> None:
        """Counts one call of an address, before anything is looked up for it. Raises RateLimited."""
        where = network(address)
        if not self._limiter.hit(self._address, where):
            raise RateLimited("too many calls from this address", self._wait(self._address, where))

    def try_to_sign_in(self, address: str) -> None:
        """Raises RateLimited after too many wrong keys, also for a right one."""
        where = network(address)
        if not self._limiter.test(self._failed, where):
            raise RateLimited("too many wrong keys from this address", self._wait(self._failed, where))

    def fail(self, address: str) -> None:
        """Counts a wrong key or signature. Raises RateLimited after too many: calls with a right one still pass, so that
        one broken program does not lock out its neighbours."""
        where = network(address)
        if not self._limiter.hit(self._failed, where):
            raise RateLimited("too many wrong keys from this address", self._wait(self._failed, where)) from None

    def _wait(self, item: RateLimitItemPerMinute | RateLimitItemPerSecond, what: str) -> float:
        return max(1.0, self._limiter.get_window_stats(item, what).reset_time - time.time())


def network(address: str) -> str:
    """What counts as one address: the /64 of IPv6, since whoever has one has all of it."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address or "unknown"
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
