"""Models on their way in: what is loaded already is used, what is being loaded is waited for, the rest is loaded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

import msgspec

from tidegate.metrics import Metrics
from tidegate.serving.runtimes.base import LoadedModel
from tidegate.serving.shelf import Shelf, Wanted, wanted_of
from tidegate.serving.version import Version
from tidegate.settings import EndpointSettings
from tidegate.types import Variant

logger = logging.getLogger("tidegate.live")

Loader = Callable[[Variant, EndpointSettings], LoadedModel]


class _Load:
    """Whoever waits for it may leave; it goes on by itself, since no load can be interrupted."""

    def __init__(self, task: asyncio.Task[Version]) -> None:
        self.task = task
        self.waiting = 0


class Loading:
    """Puts what ``loader`` brings on the shelf; it blocks, and runs in a thread. ``left`` is called when a model has come
    in that nobody waits for any more."""

    def __init__(self, loader: Loader, metrics: Metrics, shelf: Shelf, left: Callable[[], None]) -> None:
        self._loader = loader
        self._metrics = metrics
        self._shelf = shelf
        self._left = left
        self._loads: dict[Wanted, _Load] = {}

    async def version(
        self,
        endpoint: str,
        variant: Variant,
        settings: EndpointSettings,
        taken: Collection[Version],
        now: Version | None,
    ) -> Version:
        """One that no other variant of the plan has ``taken``; rather ``now``, which answers for this variant already.

        Raises what the loader raises.
        """
        wanted = wanted_of(endpoint, variant, settings)
        found = self._shelf.find(wanted, taken, now)
        if found is not None:
            return found
        load = self._loads.get(wanted)
        if load is None:
            load = self._loads[wanted] = _Load(asyncio.ensure_future(self._load(endpoint, variant, settings, wanted)))
            load.task.add_done_callback(lambda task: self._loaded(wanted, task))
        load.waiting += 1
        try:
            return await asyncio.shield(load.task)
        finally:
            load.waiting -= 1

    def _loaded(self, wanted: Wanted, task: asyncio.Task[Version]) -> None:
        load = self._loads.pop(wanted)
        if not task.cancelled() and task.exception() is None and not load.waiting:
            self._left()

    async def _load(self, endpoint: str, variant: Variant, settings: EndpointSettings, wanted: Wanted) -> Version:
        loaded = await asyncio.to_thread(self._loader, variant, settings)
        version = Version(endpoint, variant, loaded, settings, self._metrics, asyncio.get_running_loop())
        found = msgspec.structs.replace(variant.model, digest=loaded.facts.digest)
        pinned = wanted_of(endpoint, msgspec.structs.replace(variant, model=found), settings)
        self._shelf.add(version, wanted, pinned.key)
        logger.info(
            "%s/%s: loaded %s version %s (%s), %.1f MB, warm-up %.1f ms%s",
            endpoint,
            variant.name,
            loaded.facts.runtime,
            variant.model.version,
            loaded.facts.platform,
            loaded.facts.memory_bytes / 1e6,
            loaded.facts.warmup_seconds * 1000,
            f", {loaded.facts.compile_note}" if loaded.facts.compile_note else "",
            extra={
                "endpoint": endpoint,
                "variant": variant.name,
                "version": variant.model.version,
                "digest": loaded.facts.digest,
                "seconds": round(loaded.facts.load_seconds, 4),
            },
        )
        return version
