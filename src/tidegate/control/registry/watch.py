"""Notices that somebody else moved an alias; what is done about it is the release service's to decide."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from tidegate.clock import Clock
from tidegate.control.registry.base import CHAMPION, AliasMoved, ModelDenied, Registry, RegistryAway
from tidegate.errors import ConfigError, NotFound, TidegateError

logger = logging.getLogger(__name__)


def compare(expected: Mapping[str, str], seen: Mapping[str, str | None], alias: str = CHAMPION) -> list[AliasMoved]:
    """Where the alias points elsewhere than expected; models that were not seen are left out."""
    return [
        AliasMoved(name=name, alias=alias, version=seen[name], previous=version)
        for name, version in sorted(expected.items())
        if name in seen and seen[name] != version
    ]


class AliasWatch:
    """``expected`` gives, by model, the version that the alias has by our own doing: the baseline in force.

    A move is reported once, and again only after the alias was back or went elsewhere: a release of it that was rolled
    back does not start again by itself. A model that is being released is best left out of ``expected``.
    """

    def __init__(
        self,
        registry: Registry,
        expected: Callable[[], Mapping[str, str]],
        clock: Clock,
        poll_seconds: float,
        alias: str = CHAMPION,
    ) -> None:
        self._registry = registry
        self._expected = expected
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._alias = alias
        self._due = 0.0
        self._reported: dict[str, str | None] = {}
        self.away = ""
        """Why the registry could not be asked at the last look; empty when it could."""

    def look(self) -> list[AliasMoved]:
        """Asks the registry, at most every ``poll_seconds``; an empty list in between and while it is away. A model that it
        refuses to tell of is left out, and keeps what was said of it; when it refuses us, no other model is asked for."""
        now = self._clock.monotonic()
        if now < self._due:
            return []
        self._due = now + self._poll_seconds
        expected = dict(self._expected())
        self._reported = {name: version for name, version in self._reported.items() if name in expected}
        seen: dict[str, str | None] = {}
        refused = ""
        for name in expected:
            try:
                seen[name] = self._pointed(name)
            except RegistryAway as error:
                self._note(str(error))
                return []
            except TidegateError as error:
                refused = f"the registry refuses: {error}"
                if isinstance(error, ConfigError) and not isinstance(error, ModelDenied):
                    break
        self._note(refused)
        moved = compare(expected, seen, self._alias)
        fresh = [move for move in moved if move.name not in self._reported or self._reported[move.name] != move.version]
        unseen = {name: version for name, version in self._reported.items() if name not in seen}
        self._reported = unseen | {move.name: move.version for move in moved}
        return fresh

    def forget(self, name: str) -> None:
        """Nothing could be done about the move: it is reported again."""
        self._reported.pop(name, None)

    def _pointed(self, name: str) -> str | None:
        try:
            return self._registry.get(name, self._alias).version
        except NotFound:
            return None

    def _note(self, away: str) -> None:
        """One line when it goes away, one when it is back."""
        if away and not self.away:
            logger.warning("aliases cannot be looked at: %s", away)
        elif self.away and not away:
            logger.info("aliases can be looked at again")
        self.away = away
