"""What every serving process of an instance should have in force, and what else it is told."""

from __future__ import annotations

import msgspec

from tidegate.config import Loaded
from tidegate.keys import KnownKey
from tidegate.serving.live import Standing
from tidegate.serving.snapshots.publication import Publication


class Desired(msgspec.Struct, frozen=True):
    """``number`` counts the changes of this instance; the snapshot that is served has the published one, if any.

    ``reading`` counts how often the configuration was read: models are pinned to the bytes found then, not to those that
    lie there when something is published.
    """

    loaded: Loaded
    number: int = 1
    unloaded: frozenset[str] = frozenset()
    published: Publication | None = None
    reading: int = 1

    @property
    def snapshot(self) -> int:
        """The number of the snapshot that this is, to the outside."""
        return self.number if self.published is None else self.published.number


class Told(msgspec.Struct, frozen=True):
    """What an owner tells its serving processes beside what they are to serve. ``keys``: None when they are not known."""

    standing: Standing = Standing()
    keys: tuple[KnownKey, ...] | None = None
