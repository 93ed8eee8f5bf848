"""An instance's end of the bridge to the store, whether it has one process or many: the copy on disk, the keys, what is
told to the store of what is in force. The follower does the waiting."""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Callable, Mapping
from functools import partial

from tidegate.apps.desired import Told
from tidegate.apps.folders import folder_of
from tidegate.apps.follower import InForce, Instance, Link, News
from tidegate.apps.owner import Owner
from tidegate.clock import SystemClock
from tidegate.keys import KnownKey
from tidegate.serving.live import Endpoint, Standing, StoreState
from tidegate.serving.snapshots.disk import KeptCopy

FIRST_LOOK_SECONDS = 2.0
"""How long a start waits for the store; then it goes on with the copy on disk."""

Models = Mapping[str, Mapping[str, str]]
"""Endpoint -> variant -> version in force."""


class Bridge:
    """``port`` is the one that is really listened on. Without ``store.url`` nothing is followed and nothing kept.

    ``aside`` runs, in the order in which they come, the writes of the copy: they wait for the disk.
    """

    def __init__(
        self,
        owner: Owner,
        port: int,
        aside: Callable[[Callable[[], None]], object] = lambda write: write(),
    ) -> None:
        settings = owner.desired.loaded.settings
        self._owner = owner
        self._aside = aside
        self._workers = settings.server.workers
        self.followed = bool(settings.store.url)
        self.state: StoreState = "away" if self.followed else "none"
        self.looked = not self.followed
        """Whether the first look at the store is over."""
        self.keys: tuple[KnownKey, ...] | None = None
        self.since = 0.0
        self.models: Models = {}
        self.draining = False
        host = socket.gethostname()
        instance = Instance(f"{host}:{port}", host, port, os.getpid(), SystemClock.wall())
        self.link = Link(settings.store.url, instance, settings.store.beat_seconds)
        folder = folder_of(owner.desired.loaded)
        self._copy = KeptCopy(folder, settings.store.url, str(settings.server.port)) if self.followed else None

    def begin(self) -> None:
        """Says what to start with: what the store has just said, the copy on disk, or the configuration."""
        if self._copy is None:
            return
        self._owner.begin_with(self._owner.newest, self._copy.snapshot())
        if self.keys is None:
            self.keys = self._copy.keys()

    def heard(self, news: News) -> None:
        """Takes in what the follower tells."""
        if news.state is not None:
            self.state, self.looked = news.state, True
        if news.keys is not None:
            self.keys = news.keys
            if self._copy is not None:
                self._aside(partial(self._copy.keep_keys, news.keys))
        if news.publication is not None:
            self._owner.heard(news.publication)

    def put_in_force(self, models: Models) -> None:
        """What the owner desires is in force in every process now."""
        self.since, self.models = SystemClock.wall(), models
        published = self._owner.desired.published
        if self._copy is not None and published is not None:
            self._aside(partial(self._copy.keep_snapshot, published))

    def standing(self) -> Standing:
        """What ``/info`` shows of it."""
        refused = self._owner.refused
        return Standing(self.state, 0 if refused is None else refused.number)

    def told(self) -> Told:
        """What a process that starts now needs to know beside what is desired."""
        return Told(self.standing(), self.keys)

    def in_force(self, used: Mapping[str, float]) -> InForce:
        """What the follower is to tell the store."""
        published, refused = self._owner.desired.published, self._owner.refused
        return InForce(
            snapshot=0 if published is None else published.number,
            since=self.since,
            refused=0 if refused is None else refused.number,
            refused_at=0.0 if refused is None else refused.at,
            error="" if refused is None else refused.error,
            workers=self._workers,
            models=self.models,
            draining=self.draining,
            used=used,
        )


def import_storage() -> None:
    """Takes a good part of a second once, which is none of the store's time."""
    importlib.import_module("tidegate.storage.store")


def models_of(endpoints: Mapping[str, Endpoint]) -> Models:
    """Of ``Live.endpoints``."""
    return {
        name: {variant: version.ref.version for variant, version in endpoint.versions.items()}
        for name, endpoint in endpoints.items()
    }
