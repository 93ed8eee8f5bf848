"""The versions that one process has loaded, found by what they are: a promotion gives them other names, and no other load.

What makes two versions the same is the model's bytes, its runtime and options, the version that clients are told, and how
requests are joined. Names, shares and time-outs of variants are not the model's business.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from typing import Literal

import msgspec

from tidegate.serving.version import Version
from tidegate.settings import EndpointSettings
from tidegate.types import Variant

BASELINE = "baseline"

Isolation = Literal["auto", "process", "no"]


class Wanted(msgspec.Struct, frozen=True):
    """What a variant needs loaded. ``patience``: seconds that a model in a process of its own has for an answer."""

    key: bytes
    isolation: Isolation
    patience: float


class Kept(msgspec.Struct, frozen=True, eq=False):
    version: Version
    wanted: Wanted
    """For whom it was loaded."""
    key: bytes
    """With the digest that was found, where none was asked for: an address may be pinned later."""

    def serves(self, wanted: Wanted) -> bool:
        """Whether it may stand for what is wanted: one in this process does for every variant, unless it must not."""
        if wanted.key not in (self.wanted.key, self.key):
            return False
        apart = self.version.loaded.apart
        if apart and self.wanted.patience != wanted.patience:
            return False
        if self.wanted.isolation == wanted.isolation:
            return True
        return wanted.isolation == "auto" or (wanted.isolation == "process") is apart


def isolation_of(variant: str, settings: EndpointSettings) -> Isolation:
    """``auto`` becomes ``no`` for a baseline, and where there are no such processes."""
    own = settings.variants.get(variant)
    isolation: Isolation = settings.isolate if own is None else own.isolate
    if isolation == "auto" and (variant == BASELINE or sys.platform == "win32"):
        return "no"
    return isolation


def patience_of(variant: str, settings: EndpointSettings) -> float:
    """Seconds that a model in a process of its own has for an answer."""
    own = settings.variants.get(variant)
    return (own.timeout_ms if own is not None and own.timeout_ms else settings.timeout_ms) / 1000


def wanted_of(endpoint: str, variant: Variant, settings: EndpointSettings) -> Wanted:
    model = variant.model
    identity = (
        endpoint,
        model.digest or model.uri,  # the same bytes are the same model, wherever they lie
        model.version,
        model.runtime,
        model.options,
        settings.batching,
        settings.slo and settings.slo.p99_ms,
    )
    return Wanted(
        msgspec.json.encode(identity, enc_hook=repr),
        isolation_of(variant.name, settings),
        patience_of(variant.name, settings),
    )


class Shelf:
    """``fresh`` are loaded, but not in force yet."""

    def __init__(self) -> None:
        self._kept: list[Kept] = []
        self._fresh: list[Kept] = []

    def find(self, wanted: Wanted, taken: Collection[Version], now: Version | None) -> Version | None:
        """A loaded version for it that is not ``taken`` by another variant of the plan; ``now``, the one that answers for
        this variant already, if it does."""
        free = [
            kept.version for kept in (*self._kept, *self._fresh) if kept.serves(wanted) and kept.version not in taken
        ]
        origin = None if now is None else now.origin
        return origin if origin in free else next(iter(free), None)

    def add(self, version: Version, wanted: Wanted, key: bytes | None = None) -> None:
        """``key`` is what it is, where more is known than what was wanted."""
        self._fresh.append(Kept(version, wanted, key or wanted.key))

    def keep(self) -> None:
        """What was fresh is in force."""
        self._kept += self._fresh
        self._fresh = []

    def take_fresh(self, but: Collection[Version] = ()) -> list[Version]:
        """Removes the fresh ones, but these, and hands them over for closing."""
        left = [kept.version for kept in self._fresh if kept.version not in but]
        self._fresh = [kept for kept in self._fresh if kept.version in but]
        return left

    def remove(self, version: Version) -> None:
        self._kept = [kept for kept in self._kept if kept.version is not version]

    def __iter__(self) -> Iterator[Version]:
        """Those in force."""
        return iter([kept.version for kept in self._kept])
