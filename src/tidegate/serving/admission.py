"""Who may come in now: an adaptive limit per loaded version, and a breaker per candidate. Pure; time is an argument."""

from __future__ import annotations

from tidegate.errors import Overloaded

_WINDOW_SECONDS = 0.1
_LONG_WEIGHT = 0.02


class ConcurrencyLimit:
    """Rows in flight, bounded by the gradient of long to short latency (Netflix concurrency-limits, Gradient2).

    g = max(.5, min(1, 1.5·long/short)); new = .8·L + .2·(g·L + 4); unchanged while in flight < L/2. ``minimum`` is what
    keeps a batching model busy: one batch running and one waiting, since a larger batch is slower without being overload.
    It starts at ``maximum`` and comes down when waiting grows.
    """

    __slots__ = ("_count", "_long", "_peak", "_sum", "_until", "in_flight", "limit", "maximum", "minimum")

    def __init__(self, minimum: int = 1, maximum: int = 100_000) -> None:
        self.minimum = minimum
        self.maximum = max(maximum, minimum)
        self.limit = float(self.maximum)
        self.in_flight = 0
        self._long = 0.0
        self._sum = 0.0
        self._count = 0
        self._peak = 0
        self._until = 0.0

    def enter(self, rows: int) -> None:
        """Takes ``rows`` permits, or raises Overloaded. A request larger than the limit may run alone."""
        taken = self.in_flight + rows
        if taken > self.limit and self.in_flight:
            raise Overloaded(
                f"{self.in_flight} rows are in flight and the limit is {int(self.limit)}; try again later", 0.1
            )
        self.in_flight = taken
        if taken > self._peak:
            self._peak = taken

    def displace(self, rows: int) -> None:
        """Takes the permits of others that were just refused, and give theirs back in a moment."""
        self.in_flight += rows

    def leave(self, rows: int, seconds: float, now: float) -> None:
        """Gives the permits back; ``seconds`` is what the request took, ``now`` any clock in seconds."""
        self.in_flight -= rows
        self._sum += seconds
        self._count += 1
        if now >= self._until:
            self._adjust(now)

    def abandon(self, rows: int) -> None:
        """Gives the permits back of a request whose time says nothing, such as one refused or cancelled."""
        self.in_flight -= rows

    def _adjust(self, now: float) -> None:
        short = self._sum / self._count
        self._long = short if not self._long else self._long + _LONG_WEIGHT * (short - self._long)
        if self._long > 2.0 * short:
            self._long *= 0.95  # recovers quickly after an overload that lasted
        if self._peak >= self.limit / 2.0 and short > 0.0:
            gradient = max(0.5, min(1.0, 1.5 * self._long / short))
            wanted = 0.8 * self.limit + 0.2 * (gradient * self.limit + 4.0)
            self.limit = min(max(wanted, float(self.minimum)), float(self.maximum))
        self._sum, self._count, self._peak = 0.0, 0, self.in_flight
        self._until = now + _WINDOW_SECONDS


class Breaker:
    """Ejects a version that fails ``threshold`` times in a row, for ``seconds`` × the number of ejections; then one
    probe decides. A success closes it."""

    __slots__ = ("_ejections", "_failures", "_open_until", "_probing", "_seconds", "_threshold")

    def __init__(self, threshold: int = 5, seconds: float = 30.0) -> None:
        self._threshold = threshold
        self._seconds = seconds
        self._failures = 0
        self._ejections = 0
        self._open_until = 0.0
        self._probing = False

    def allows(self, now: float) -> bool:
        """Whether a request may go through; after the ejection's time, one probe at a time."""
        if not self._open_until:
            return True
        if now < self._open_until or self._probing:
            return False
        self._probing = True
        return True

    @property
    def tripped(self) -> bool:
        """True from the failure that opened it until a success, however long that takes."""
        return bool(self._open_until)

    def succeeded(self) -> None:
        self._failures = 0
        if self._open_until:
            self._open_until = 0.0
            self._ejections = 0
            self._probing = False

    def failed(self, now: float) -> bool:
        """Counts a failure; True when this one opened the breaker."""
        self._failures += 1
        if not self._probing and self._failures < self._threshold:
            return False
        if self._open_until and not self._probing:
            return False
        self._ejections += 1
        self._open_until = now + self._seconds * self._ejections
        self._probing = False
        return True

    def undecided(self) -> None:
        """A probe that neither failed nor succeeded, such as one whose caller left; the next request probes."""
        self._probing = False
