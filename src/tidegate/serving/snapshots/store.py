"""Routing snapshots and keys from the store, and the acknowledgements and signs of life that go back.

The only place of the data plane, beside ``events/store.py``, that imports ``storage``: it blocks, and runs in a thread or a
process of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from tidegate.keys import KnownKey, decode_facts
from tidegate.observations import Beat
from tidegate.serving.snapshots.publication import Publication

logger = logging.getLogger("tidegate.bridge")


class Source(Protocol):
    """Every method blocks, and raises TidegateError while the store is away."""

    def latest(self) -> Publication | None:
        """The newest snapshot; None while nothing was published."""

    def keys(self) -> tuple[KnownKey, ...]:
        """All of them, in the order of their ids; a revoked one has expired when it was revoked."""

    def wait(self, seconds: float) -> bool:
        """Until something may have been published, or the time has passed."""

    def acknowledge(self, number: int, at: float, error: str) -> None:
        """Says that this instance has the snapshot in force since ``at``, or why it cannot."""

    def beat(self, beat: Beat, used: Mapping[str, float]) -> None:
        """A sign of life; ``used``: when keys were last used, by their ids."""

    def close(self) -> None: ...


class StoreSource:
    """``instance`` is the name under which it acknowledges. Raises TidegateError when the store is away."""

    def __init__(self, url: str, instance: str) -> None:
        from tidegate.storage.store import open_store

        self._instance = instance
        self._store = open_store(url)
        try:
            self._listener = self._store.listen()
        except BaseException:
            self._store.close()
            raise

    def latest(self) -> Publication | None:
        with self._store.read() as unit:
            found = unit.snapshots.latest()
        return None if found is None else Publication(found.number, found.snapshot.endpoints, found.published)

    def keys(self) -> tuple[KnownKey, ...]:
        with self._store.read() as unit:
            rows = unit.keys.all()
        return tuple(_known(rows))

    def wait(self, seconds: float) -> bool:
        return bool(self._listener.wait(seconds))

    def acknowledge(self, number: int, at: float, error: str) -> None:
        with self._store.begin() as unit:
            unit.instances.acknowledge(number, self._instance, at, error)

    def beat(self, beat: Beat, used: Mapping[str, float]) -> None:
        with self._store.begin(durable=False) as unit:
            unit.instances.beat(beat)
            for key, at in used.items():
                unit.keys.touch(key, at)

    def close(self) -> None:
        self._listener.close()
        self._store.close()


def _known(rows: Any) -> Iterator[KnownKey]:
    for row in sorted(rows, key=lambda row: row.id):
        try:
            facts = decode_facts(row.body)
        except ValueError as error:
            logger.warning("key %s is left out: what it allows cannot be read: %s", row.id, error)
            continue
        ends = [at for at in (row.expires, row.revoked) if at is not None]  # a rotated key is revoked some time ahead
        yield KnownKey(id=row.id, salt=row.salt, digest=row.digest, facts=facts, expires=min(ends, default=None))
