"""Which variant answers: pure, stateless, monotone.

A unit's bucket is a hash of salt and unit in 0..9999. The first candidate takes the buckets from the bottom up, the second
from the top down, further ones follow the first; so raising the share of either of two candidates keeps everyone
who was already in, and nobody flips back and forth.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

import msgspec

from tidegate.errors import InvalidInput, NotFound
from tidegate.types import EndpointPlan, Exposing, Variant

BUCKETS = 10_000


class Route(msgspec.Struct, frozen=True):
    """Where a request goes, and who gets a copy."""

    variant: Variant
    shadows: tuple[Variant, ...] = ()
    forced: bool = False
    experiment: str = ""
    """The unit takes part in this experiment: its first exposure is to be put on record."""


def bucket(salt: str, unit: str) -> int:
    """0..9999, uniform over units, independent between salts."""
    return buckets(salt)(unit)


def buckets(salt: str) -> Callable[[str], int]:
    """``bucket`` under one salt, which is hashed once: a third of the time is the key's."""
    keyed = blake2b(digest_size=8, key=salt.encode()[:64])

    def of(unit: str) -> int:
        state = keyed.copy()
        state.update(unit.encode("utf-8", "surrogatepass"))
        return int.from_bytes(state.digest(), "little") % BUCKETS

    return of


class Router:
    """A plan, laid out for choosing: built once per snapshot, so that a choice allocates nothing."""

    def __init__(self, plan: EndpointPlan) -> None:
        shadows = tuple(variant for variant in plan.variants if variant.shadow)
        self._plan = plan
        self._bucket = buckets(plan.salt or plan.name)
        self.outside = Route(plan.baseline, shadows)
        """For those who take no part in an experiment."""
        experiment = plan.experiment
        self._experiment = experiment
        name = "" if experiment is None else experiment.experiment
        self._place = buckets("" if experiment is None else f"layer:{experiment.layer or name}")
        self._baseline = Route(plan.baseline, shadows, experiment=name)
        self._ranges = _ranges(plan, shadows, name)
        self._forced = {
            variant.name: Route(variant, tuple(s for s in shadows if s is not variant), forced=True)
            for variant in plan.variants
        }

    def choose(self, unit: str, forced: str, version: str, draw: Callable[[], float]) -> Route:
        """The route of one request. ``draw`` gives a number in [0, 1) for requests without a unit.

        Raises NotFound for a version, InvalidInput for a variant, that the plan does not have.
        """
        if version:
            return self._with_version(version)
        if forced:
            return self._named(forced)
        if self._experiment is not None and not self._takes_part(unit, self._experiment):
            return self.outside
        if self._ranges:
            place = self._bucket(unit) if unit else int(draw() * BUCKETS)
            for low, high, route in self._ranges:
                if low <= place < high:
                    return route
        return self._baseline

    def _takes_part(self, unit: str, experiment: Exposing) -> bool:
        """Whether the unit is in the experiment's range of its layer. The layer's hash is not that of any split."""
        if not unit or not 0 < experiment.end - experiment.start < BUCKETS:
            return bool(unit) and experiment.end > experiment.start
        return experiment.start <= self._place(unit) < experiment.end

    def _named(self, name: str) -> Route:
        try:
            return self._forced[name]
        except KeyError:
            known = ", ".join(self._forced)
            raise InvalidInput(
                f"variant {name[:80]!r} is not served by endpoint {self._plan.name!r}; it serves: {known}"
            ) from None

    def _with_version(self, version: str) -> Route:
        for route in self._forced.values():
            if route.variant.model.version == version:
                return route
        known = ", ".join(variant.model.version for variant in self._plan.variants)
        raise NotFound(f"version {version[:80]!r} of {self._plan.name!r} is not served; served: {known}")


def _ranges(plan: EndpointPlan, shadows: tuple[Variant, ...], experiment: str) -> tuple[tuple[int, int, Route], ...]:
    """Buckets [low, high) of each candidate."""
    ranges: list[tuple[int, int, Route]] = []
    bottom, top = 0, BUCKETS
    for number, variant in enumerate(v for v in plan.variants[1:] if not v.shadow):
        if number == 1:
            low, high = top - variant.share, top
            top = low
        else:
            low, high = bottom, bottom + variant.share
            bottom = high
        if high > low:
            ranges.append((low, high, Route(variant, shadows, experiment=experiment)))
    return tuple(ranges)
